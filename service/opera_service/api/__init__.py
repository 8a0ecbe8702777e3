"""HTTP: routes, keys, limits, error bodies. Knows no torch and no maths."""
