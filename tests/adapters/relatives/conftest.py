"""Trainers that are not installed here, by the shapes of their calls.

Each test restates how one version of a trainer calls a reward, and which of its names an example imports. The
versions are named in docs/trainers; the trainers themselves were not run.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.adapters.gate import Gate

from opera_client import RewardClient
from opera_client.group_numbers import number_of

EXAMPLES = Path(__file__).parents[3] / "examples"
QUESTIONS = ["What is 17 + 25?", "What is 1 + 1?"]
REFERENCES = ["42", "2"]
WRITTEN = [
    "<think>\n17 + 25 is 42.\n\n</think>\n\n42",
    "<think>\nI would say 32.\n\n</think>\n\n32",
    "<think>\nTwo.\n\n</think>\n\n2",
    "<think>\nWait, three.\n\n</think>\n\n3",
]


def conversation(text: str, role: str = "user") -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def messages(question: str) -> dict[str, Any]:
    """The wire's prompt of a question, as messages."""
    return {"prompt": conversation(question)}


def ids(text: str) -> list[int]:
    """The dummy engine reads bytes."""
    return list(text.encode())


@pytest.fixture
def direct(service: Gate) -> Callable[..., list[float]]:
    """Ask about the two groups of `WRITTEN` without an adapter; `asked` makes the wire's prompt of a question."""

    def ask(asked: Callable[[str], dict[str, Any]], *, by_ids: bool = False) -> list[float]:
        groups = []
        for at, (question, reference) in enumerate(zip(QUESTIONS, REFERENCES, strict=True)):
            texts = WRITTEN[2 * at : 2 * at + 2]
            tried = [{"response_token_ids": ids(text)} if by_ids else {"response": text} for text in texts]
            groups.append({**asked(question), "reference": reference, "trajectories": tried})
        with RewardClient(service.url) as client:
            answered = client.reward(groups).rewards
        found = [number_of(reward, group).reward for group in answered for reward in group]
        service.bodies.clear()
        return found

    return ask


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ModuleType]:
    """Put a module with the given names where a trainer's would be."""

    def put(name: str, **names: Any) -> ModuleType:
        parent, _, child = name.rpartition(".")
        module = ModuleType(name)
        module.__dict__.update(names)
        monkeypatch.setitem(sys.modules, name, module)
        if parent:
            setattr(sys.modules.get(parent) or put(parent), child, module)
        return module

    return put


@pytest.fixture
def example(service: Gate) -> Callable[[str], ModuleType]:
    """Load an example, the service's address in the environment."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
