"""Ablations: the same start trained on other rewards, by other scorers, with and without the cold start."""
