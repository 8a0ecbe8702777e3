"""Export: the trained policy as a Hugging Face folder that serves anywhere, with a card written from the run."""
