"""Supervised fine-tuning on the cold start's traces, by TRL's SFTTrainer."""
