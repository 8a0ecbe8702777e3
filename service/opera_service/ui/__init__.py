"""The live page: what of the rewarded groups is kept for it, what it asks, and how it hears of news.

It reads the tables of the audit log, from the log's own file or from memory. Knows no engine, no tokenizer and no
HTTP; the page itself is built from `ui/` at the top of the repository into `static/`.
"""
