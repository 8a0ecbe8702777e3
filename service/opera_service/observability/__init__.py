"""What can be watched: metrics, logs, traces, and the health of every training run's rewards."""
