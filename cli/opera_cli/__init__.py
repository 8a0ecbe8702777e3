"""The command line: one file a command; it knows terminals and exit codes, the client knows the service."""
