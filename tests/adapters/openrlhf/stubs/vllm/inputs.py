"""In the place of vLLM's module."""

TokensPrompt = dict
