"""In the place of DeepSpeed's package."""
