"""GRPO on the reward service's numbers, by TRL's GRPOTrainer."""
