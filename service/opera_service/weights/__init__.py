"""The scorer's weights: what serves, how others arrive over HTTP or from disk, and where they may come from."""
