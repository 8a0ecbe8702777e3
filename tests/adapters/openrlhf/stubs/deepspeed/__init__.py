"""In DeepSpeed's place, for imports only: nothing is trained here."""
