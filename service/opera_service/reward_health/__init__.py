"""Is this run's reward still a signal, or has the policy learnt to be paid for nothing?

Signs of hacking in single trajectories, and rolling numbers per run. Knows texts, lengths and rewards as numbers;
no HTTP, no engine, no tokenizer.
"""
