"""The audit log: what was rewarded, how, by which weights, kept in one SQLite file and scored again on request.

Knows names, texts and numbers of answers; no engine, no tokenizer. Writing knows no HTTP either.
"""
