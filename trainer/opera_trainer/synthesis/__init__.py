"""Cold start: perplexity-guided synthesis of reflective traces through `/expand` and `/rank`."""
