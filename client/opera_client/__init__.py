"""The light client of opera-reward: wire models, errors, sync and async clients, CLI. httpx and pydantic only."""
