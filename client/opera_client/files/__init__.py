"""Files of the command line and of the trainer: JSON Lines and Parquet in, resumable journals out."""
