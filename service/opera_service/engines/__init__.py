"""Engines fill token trees with log-probabilities. They know no text, no reward and no HTTP."""
