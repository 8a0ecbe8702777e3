"""The torch engine: one transformers model, several routes through a token tree."""
