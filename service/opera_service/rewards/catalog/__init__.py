"""The rewards, one file each. A new file here is found by the registry; nothing else needs to change."""
