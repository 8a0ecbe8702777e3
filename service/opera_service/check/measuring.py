"""Scores the user's groups, and the same groups beside controls and attacks made from them; resumable.

What was scored is kept in a journal, so that an interrupted check goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opera_client import AsyncRewardClient
from opera_client.errors import BadInput, InvalidRequest
from opera_client.wire import Group, GroupResult, RewardResult, Trajectory
from opera_service.check.attacks import Attack, Material, attacks
from opera_service.check.edits import shuffled
from opera_service.check.samples import Sample

Beat = Mapping[str, Mapping[str, list[bool]]]
"""By family and name: whether an attack was paid more than the honest best, group by group."""


@dataclass(frozen=True)
class Measured:
    """Everything a check reads its findings from."""

    samples: Sequence[Sample]
    honest: Sequence[GroupResult]
    """The groups as they are."""
    paper: Sequence[GroupResult] | None
    """The same under OPERA's `paper` preset; None where that is what is checked."""
    beaten: Beat
    tokens_naive: int
    tokens_computed: int
    engine_s: float
    """Engine seconds of the honest groups."""
    memory_bytes: float | None = None
    """What the engine holds after them (see `ServedModel`); None where it does not know."""


_OPENING = '{"key": "'
"""How a line of a journal begins."""


class Journal:
    """Answers by what was asked, kept in a file."""

    def __init__(self, path: Path | None) -> None:
        """Read what an earlier check left at `path`; None keeps nothing."""
        self._path, self._known = path, dict[str, dict[str, Any]]()
        if path is not None and path.exists():
            foreign = BadInput(f"{path} is not the journal of a check; choose another --journal")
            try:
                kept = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                raise foreign from None
            for line in kept.splitlines():
                try:
                    row = json.loads(line)
                except ValueError:
                    if line[: len(_OPENING)] != _OPENING[: len(line)]:
                        raise foreign from None
                    continue  # the line at which the earlier check was killed
                if not isinstance(row, dict) or row.keys() != {"key", "answer"}:
                    raise foreign
                self._known[row["key"]] = row["answer"]
            if kept and not kept.endswith("\n"):  # else the next answer would be lost with the torn line
                with path.open("a", encoding="utf-8") as file:
                    file.write("\n")

    async def ask(self, client: AsyncRewardClient, model: str, group: Group, **settings: Any) -> RewardResult:
        """Return the answer to one group, asked or remembered."""
        question = [model, group.model_dump(mode="json", exclude_none=True), settings]
        key = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
        if key not in self._known:
            self._known[key] = (await client.reward([group], **settings)).model_dump(mode="json")
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"key": key, "answer": self._known[key]}) + "\n")
        return RewardResult.model_validate(self._known[key])


async def measure(
    client: AsyncRewardClient,
    samples: Sequence[Sample],
    settings: Mapping[str, Any],
    *,
    attacked: int,
    journal: Journal,
    advance: Callable[[], None] = lambda: None,
) -> Measured:
    """Score all samples, and the first `attacked` of them once more beside the attacks on each."""
    model = (await client.model()).revision
    honest, paper = [], []
    naive = computed = 0
    engine_ms = 0.0
    for sample in samples:
        try:
            answer = await journal.ask(client, model, sample.group, **settings)
        except InvalidRequest as error:
            about = (error.field or "").partition("groups.0.")[2]
            if not sample.where or not about:  # of the settings, which are the same for every line
                raise
            raise BadInput(f"{sample.where}: {about}: {error.message}") from None
        honest.append(answer.groups[0])
        naive += answer.usage.tokens_naive
        computed += answer.usage.tokens_computed
        engine_ms += answer.timing_ms.engine
        if (settings["reward"], settings["preset"]) != ("opera", "paper"):
            as_released = {"reward": "opera", "preset": "paper", "config": {}, "detail": "reward"}
            paper += (await journal.ask(client, model, sample.group, **as_released)).groups
        advance()
    beaten: dict[str, dict[str, list[bool]]] = {}
    for at, sample in enumerate(samples[:attacked]):
        made = _attacks(sample, honest[at], samples[(at + 1) % len(samples)])
        if made:
            await _attack(client, model, sample, made, settings, journal, beaten)
        advance()
    memory = (await client.model()).memory_bytes
    return Measured(samples, honest, paper or None, beaten, naive, computed, engine_ms / 1e3, memory)


async def _attack(
    client: AsyncRewardClient, model: str, sample: Sample, made: Sequence[Attack], settings: Mapping[str, Any],
    journal: Journal, beaten: dict[str, dict[str, list[bool]]],
) -> None:  # fmt: skip
    """Score the attacks beside the honest members, a few at a time: a comparison among many cheats says little."""
    size = max(2, len(sample.group.trajectories))
    for start in range(0, len(made), size):
        part = made[start : start + size]
        members = [
            *(one.model_copy(update={"id": f"honest {at}"}) for at, one in enumerate(sample.group.trajectories)),
            *(Trajectory(id=f"attack {at}", response=one.response) for at, one in enumerate(part)),
        ]
        group = sample.group.model_copy(update={"trajectories": members})
        rewards = (await journal.ask(client, model, group, **settings)).rewards[0]
        own = rewards[: len(sample.group.trajectories)]
        best = (
            own[sample.best]
            if sample.best is not None
            else max((one for one in own if one is not None), default=None)
        )
        if best is None:
            continue
        for one, reward in zip(part, rewards[len(own) :], strict=True):
            paid = reward is not None and reward > best + 1e-6
            beaten.setdefault(one.family, {}).setdefault(one.name, []).append(paid)


def _attacks(sample: Sample, scored: GroupResult, other: Sample) -> list[Attack]:
    """Return the attacks on the group's honest best; none where texts are missing."""
    rewards = [one.reward if one.reward is not None else float("-inf") for one in scored.trajectories]
    best = sample.best if sample.best is not None else rewards.index(max(rewards))
    own, others = sample.group.trajectories[best].response, other.group.trajectories[0].response
    prompt, reference = _prompt(sample.group), sample.group.reference
    if own is None or others is None or prompt is None or not isinstance(reference, str):
        return []
    thought, answer = _parts(own)
    material = Material(prompt, reference, thought or "I should answer this.", answer, _parts(others)[1])
    made = list(attacks(material))
    made += [
        Attack("control", "empty response", ""),
        Attack("control", "prompt echoed", prompt),
        Attack("control", "another prompt's response", others),
        Attack("control", "reference shuffled", material.response(material.thought, shuffled(reference))),
    ]
    if not thought:  # a policy that does not think is attacked without thoughts
        made = [Attack(one.family, one.name, _parts(one.response)[1]) for one in made]
    random.Random(0).shuffle(made)
    return made


def _parts(response: str) -> tuple[str, str]:
    thought, closed, answer = response.rpartition("</think>")
    return (thought.replace("<think>", "").strip(), answer.strip()) if closed else ("", response.strip())


def _prompt(group: Group) -> str | None:
    if isinstance(group.prompt, list):
        return str(group.prompt[-1].content)
    return group.prompt
