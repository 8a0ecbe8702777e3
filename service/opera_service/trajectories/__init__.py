"""Text to token ids: chat template, think block, segments, boundaries. Knows tokenizers, no torch."""
