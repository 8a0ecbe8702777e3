"""Tasks: where prompts and references come from, how they are split, checked and counted."""
