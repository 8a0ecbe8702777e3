"""The embedded model, the little world it was trained on, and `opera-reward demo`."""
