"""Token trees, batching and scheduling of scoring. Knows no reward, no text and no HTTP."""
