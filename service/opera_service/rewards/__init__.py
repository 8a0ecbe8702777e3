"""Reward definitions: which contexts to price on a token tree, and what the prices are worth. Pure numpy."""
