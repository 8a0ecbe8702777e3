"""One file a request type: encode, plan, schedule, read, answer."""
