"""The reward service: text in, token trees through an engine, rewards out."""
