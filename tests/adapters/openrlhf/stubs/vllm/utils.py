"""In the place of vLLM's module."""

from uuid import uuid4


def random_uuid() -> str:
    return uuid4().hex
