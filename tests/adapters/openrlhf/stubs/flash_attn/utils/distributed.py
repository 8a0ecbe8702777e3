"""In the place of flash-attn's module: names, no functions."""

all_gather = None
