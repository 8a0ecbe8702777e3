"""Finds rewards and binds them to a configuration: preset, then overrides of single fields.

Built-in rewards are the modules of `rewards/catalog/`; others come from the entry point group
`opera_reward.rewards`, each naming a `Reward` subclass. Nothing is registered by hand but the sum of others.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, TypeVar

from pydantic import ValidationError

from opera_client.errors import InvalidRequest
from opera_client.wire import PresetInfo, RewardInfo, problem_of
from opera_service.rewards import catalog
from opera_service.rewards.base import Reward
from opera_service.rewards.weighted_sum import SumConfig, Term, WeightedSum
from opera_service.trajectories.encoding_config import ConfigModel

ENTRY_POINTS = "opera_reward.rewards"
AnyReward = Reward[Any, Any]
Chosen = TypeVar("Chosen", bound=ConfigModel)


@cache
def rewards() -> Mapping[str, type[AnyReward]]:
    """Return all reward classes by name, sorted. Raises RuntimeError for a broken or repeated one."""
    found: dict[str, type[AnyReward]] = {WeightedSum.name: WeightedSum}
    for module_info in pkgutil.iter_modules(catalog.__path__):
        module = importlib.import_module(f"{catalog.__name__}.{module_info.name}")
        own = [kind for kind in vars(module).values() if _is_reward(kind) and kind.__module__ == module.__name__]
        for kind in own:
            _add(found, kind, module.__name__)
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            kind = entry.load()
        except Exception as problem:
            raise RuntimeError(f"reward plugin {entry.name} = {entry.value} cannot be loaded") from problem
        _add(found, kind, f"entry point {entry.name} = {entry.value}")
    return dict(sorted(found.items()))


def _is_reward(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Reward) and kind is not Reward


def _add(found: dict[str, type[AnyReward]], kind: type[AnyReward], where: str) -> None:
    if not _is_reward(kind):
        raise RuntimeError(f"{where} is not a subclass of opera_service.rewards.base.Reward")
    if {"paper", "hardened"} - set(kind.presets):
        raise RuntimeError(f"reward {kind.name!r} of {where} needs the presets `paper` and `hardened`")
    if kind.name in found:
        raise RuntimeError(f"reward name {kind.name!r} of {where} is taken by {found[kind.name].__module__}")
    found[kind.name] = kind


def resolve(name: str, preset: str, overrides: Mapping[str, Any]) -> AnyReward:
    """Return the reward `name` bound to `preset` with single fields overridden.

    Raises:
        InvalidRequest: unknown reward (field `reward`) or preset (`preset`), or an unknown or bad override
            (`config.relative.margin`); the message lists what exists. A `sum` without terms (`config.rewards`).
    """
    kind = rewards().get(name)
    if kind is None:
        raise InvalidRequest(f"no reward {name!r}; there are {_listed(rewards())}", field="reward")
    if kind is WeightedSum:  # its preset is that of the terms, which say whether they have it
        if "rewards" not in overrides:
            raise InvalidRequest("a sum has no terms of its own; give `rewards`", field="config.rewards")
        try:
            terms = _overridden(SumConfig(), overrides)
        except InvalidRequest as error:
            if error.field and error.field.startswith("config.rewards."):  # as a request calls its terms
                error.field = error.field.removeprefix("config.")
            raise
        return _sum(terms, preset)
    base = kind.presets.get(preset)
    if base is None:
        raise InvalidRequest(
            f"reward {name!r} has no preset {preset!r}; it has {_listed(kind.presets)}", field="preset"
        )
    return kind.bind(_overridden(base, overrides))


def _sum(config: SumConfig, preset: str) -> WeightedSum:
    terms: list[Term] = []
    for at, term in enumerate(config.rewards):
        if term.name == WeightedSum.name:
            raise InvalidRequest("a sum holds no sums; list their terms", field=f"rewards.{at}.name")
        own = term.preset or preset
        try:
            reward = resolve(term.name, own, term.config)
        except InvalidRequest as error:
            inside = "name" if error.field == "reward" else error.field
            raise InvalidRequest(error.message, field=f"rewards.{at}.{inside}") from error
        terms.append(Term.of(term, own, reward))
    return WeightedSum(terms)


def _overridden(base: Chosen, overrides: Mapping[str, Any]) -> Chosen:
    if not overrides:
        return base
    merged = _merge(base.model_dump(), overrides)
    try:
        return type(base).model_validate(merged)
    except ValidationError as problem:
        error = problem.errors(include_url=False, include_input=False)[0]
        path, parent = _path(merged, error["loc"])
        message = problem_of(error)
        if error["type"] == "extra_forbidden":
            known = [key for key in parent if key != path[-1]]
            message = f"no such field; there are {_listed(known)}"
        raise InvalidRequest(message, field=".".join(["config", *path])) from problem


def _merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in overrides.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(old, value) if both and old is not None else value
    return merged


def _path(data: Any, location: tuple[int | str, ...]) -> tuple[list[str], Mapping[str, Any]]:
    """Return the part of pydantic's `location` that names fields (not union branches), and its mapping."""
    path: list[str] = []
    parent: Mapping[str, Any] = {}
    for step in location:
        if isinstance(data, Mapping) and step in data:
            parent, data = data, data[step]
        elif isinstance(data, list | tuple) and isinstance(step, int):
            data = data[step]
        else:
            break
        path.append(str(step))
    return path, parent


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def config_hash(reward: AnyReward) -> str:
    """Return the sha256 of the canonical JSON of the reward's name and resolved configuration."""
    resolved = {"reward": reward.name, "config": reward.config.model_dump(mode="json")}
    canonical = json.dumps(resolved, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


@cache
def describe() -> tuple[RewardInfo, ...]:
    """Return what GET /rewards lists: every reward, its needs, presets and configuration schema."""
    return tuple(_describe(kind) for kind in rewards().values())


def _describe(kind: type[AnyReward]) -> RewardInfo:
    presets: dict[str, PresetInfo] = {}
    for name, base in kind.presets.items():
        bound = _sum(base, name) if isinstance(base, SumConfig) else kind.bind(base)
        presets[name] = PresetInfo(
            config=bound.config.model_dump(mode="json"),
            config_hash=config_hash(bound),
            components=list(bound.components),
            formula=bound.formula("open"),
        )
    return RewardInfo(
        name=kind.name,
        summary=kind.summary,
        needs=list(kind.needs),
        source=kind.source,
        equation=kind.equation,
        unsettled=list(kind.unsettled),
        turns=kind.turns,
        presets=presets,
        config_schema=type(kind.presets["hardened"]).model_json_schema(),
    )
