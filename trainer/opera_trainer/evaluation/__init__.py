"""Evaluation: what a model does on held-out tasks, with confidence intervals; no number here is ever a reward."""
