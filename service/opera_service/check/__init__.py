"""Is a reward fit to train on these data? Attacks made from the data themselves. Knows text only."""
