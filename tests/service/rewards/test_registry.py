"""Finding rewards and binding configurations."""

import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from opera_client.errors import InvalidRequest
from opera_service.rewards import catalog
from opera_service.rewards.registry import config_hash, describe, resolve, rewards

EVERY = [(name, preset) for name, kind in rewards().items() for preset in kind.presets]


NEED_RIGHT_AND_WRONG = {"unlikeliness", "steer", "clip_cov", "ares", "cepo", "cde"}


def plain_of(name, preset):
    """The preset itself, with the one choice that it may leave to the request."""
    return resolve(name, preset, {"rewards": [{"name": "opera"}]} if name == "sum" else {})


def test_every_file_of_the_catalog_is_a_reward():
    files = sorted(module.name for module in pkgutil.iter_modules(catalog.__path__))
    assert list(rewards()) == sorted([*files, "sum"])
    assert {"opera", "logprob", "verifree", "rlpr", "jepo", "nover", "igpo"} <= set(files)


@pytest.mark.parametrize(
    ("arguments", "field", "remedy"),
    [
        (("opra", "paper", {}), "reward", "`opera`"),
        (("opera", "strict", {}), "preset", "`hardened`, `hardened-1`, `paper`"),
        (("opera", "hardened", {"comparson": {}}), "config.comparson", "`comparison`"),
        (("opera", "hardened", {"comparison": {"margn": 1}}), "config.comparison.margn", "`margin`"),
        (("opera", "hardened", {"comparison": {"margin": -1}}), "config.comparison.margin", "at least 0"),
        (("opera", "hardened", {"comparison": {"margin": float("nan")}}), "config.comparison.margin", "finite"),
        (("opera", "hardened-1", {"relative": {"temperature": "hot"}}), "config.relative.temperature", "number"),
        (("opera", "hardened", {"comparison": 3}), "config.comparison", "JSON object"),
        (("opera", "hardened", {"total": {"relative": None}}), "config.total.relative", "number"),
        (
            ("opera", "paper", {"reflection_words": {"languages": ["en", "xx"]}}),
            "config.reflection_words.languages.1",
            "'zh'",
        ),
    ],
)
def test_mistakes_name_the_field_and_what_exists(arguments, field, remedy):
    with pytest.raises(InvalidRequest) as caught:
        resolve(*arguments)
    assert caught.value.field == field
    assert remedy in caught.value.message


def test_an_override_changes_one_field_and_keeps_its_neighbours():
    plain = resolve("opera", "paper", {}).config
    changed = resolve(
        "opera", "paper", {"relative": {"margin": 0.5}, "reflection_words": {"words": ["Nope"]}}
    ).config
    assert changed.relative == plain.relative.model_copy(update={"margin": 0.5})
    assert changed.reflection_words.words == ("Nope",)
    assert changed.reflection_words.languages == plain.reflection_words.languages
    assert changed.total == plain.total


def test_sections_can_be_switched_off_and_on():
    assert resolve("opera", "paper", {"ema": None}).config.ema is None
    assert resolve("opera", "hardened", {"ema": {"alpha": 0.5}}).config.ema.alpha == 0.5
    assert resolve("opera", "hardened-1", {"total": {"level": None}}).components == (
        "relative",
        "reflection",
        "consistency",
    )


def test_the_hash_names_reward_and_resolved_configuration():
    hashes = [config_hash(plain_of(name, preset)) for name, preset in EVERY]
    assert len(set(hashes)) == len(EVERY)
    margin = resolve("opera", "hardened", {}).config.comparison.margin
    same = resolve("opera", "hardened", {"comparison": {"margin": margin}})
    other = resolve("opera", "hardened", {"comparison": {"margin": margin + 0.01}})
    plain = config_hash(resolve("opera", "hardened", {}))
    assert config_hash(same) == plain != config_hash(other)


def test_a_hash_is_the_same_in_another_process():
    code = "from opera_service.rewards.registry import *\nprint(config_hash(resolve('opera', 'hardened', {})))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == config_hash(resolve("opera", "hardened", {}))


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_a_preset_survives_its_own_json(name, preset):
    reward = plain_of(name, preset)
    listed = next(info for info in describe() if info.name == name).presets[preset]
    assert listed.config_hash == config_hash(reward)
    assert listed.components == list(reward.components)
    assert config_hash(resolve(name, preset, json.loads(json.dumps(listed.config)))) == listed.config_hash


PLUGIN = """
from opera_service.rewards.catalog.logprob import Logprob

class Mine(Logprob):
    name = "{name}"
"""


@pytest.mark.parametrize(
    ("name", "target", "printed"),
    [
        ("mine", "plugin:Mine", "sum"),
        ("opera", "plugin:Mine", "reward name 'opera' of entry point mine = plugin:Mine is taken"),
        ("mine", "plugin:PLUGIN", "reward plugin mine = plugin:PLUGIN cannot be loaded"),
        ("mine", "plugin:Logprob.name", "is not a subclass"),
    ],
)
def test_packages_add_rewards_by_entry_point(tmp_path, name, target, printed):
    (tmp_path / "plugin.py").write_text(PLUGIN.format(name=name))
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[opera_reward.rewards]\nmine = {target}\n")
    code = "from opera_service.rewards.registry import resolve; print(resolve('mine', 'paper', {}).components)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({str(tmp_path)!r}); {code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert printed in done.stdout + done.stderr


def undocumented(schema) -> Iterator[str]:
    sections = {"": schema, **schema.get("$defs", {})}
    for section, body in sections.items():
        if not body.get("description"):
            yield section
        for field, described in body.get("properties", {}).items():
            if "$ref" not in described and not described.get("description"):
                yield f"{section}.{field}"


def test_every_field_of_every_configuration_is_described():
    assert {info.name: list(undocumented(info.config_schema)) for info in describe()} == {
        name: [] for name in rewards()
    }


def test_what_rewards_need():
    needs = {info.name: info.needs for info in describe()}
    assert needs["opera"] == ["reference", "group", "outcome"]
    assert needs["jepo"] == needs["nover"] == ["reference", "group"]
    assert needs["logprob"] == ["reference"]


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_every_reward_reads_every_shape_of_group_with_its_own_component_keys(hand, name, preset):
    shapes = [
        [hand.thought(-1.0)],
        [hand.Response()],
        [hand.thought(-1.0, -0.5, reflective=(1,)), hand.Response(flags=("think_missing",)), hand.thought(-3.0)],
    ]
    reward = plain_of(name, preset)
    for responses, tokens in product(shapes, (1, 8, 400)):
        bridge = () if preset == "paper" and name in ("opera", "sum") else (3,)
        bench = hand.Bench(reference_tokens=tokens, bridge=bridge)
        if name in NEED_RIGHT_AND_WRONG:  # which open tasks do not have
            bench = replace(bench, task="math", reference="42")
        outcome = bench.price(reward, responses)
        assert len(outcome.trajectories) == len(responses)
        for one in outcome.trajectories:
            assert tuple(one.components) == tuple(reward.components)
            assert all(value == value and abs(value) < 1e6 for value in (one.reward, *one.components.values()))
