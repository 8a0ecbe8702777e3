"""Judges that no reward sees: what held-out answers are worth to them, and what that says of a run."""
