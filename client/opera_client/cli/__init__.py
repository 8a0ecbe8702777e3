"""The command line: one file a command, the terminal and exit codes; all knowledge of the service is the client's."""
