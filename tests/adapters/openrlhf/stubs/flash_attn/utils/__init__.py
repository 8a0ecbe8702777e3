"""In the place of flash-attn's package."""
