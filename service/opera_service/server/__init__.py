"""The process: its settings, how it is built, started, drained and stopped."""
