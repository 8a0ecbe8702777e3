"""OPERA through real encoding and the embedded model: mending pays, filler does not, `paper` cannot tell them."""

import random

import numpy as np
import pytest

import opera_demo
from opera_client.wire import Group
from opera_demo.corpus import prompt
from opera_demo.traces import trace
from opera_demo.world import tasks
from opera_service.engines.torch.engine import TorchEngine
from opera_service.rewards.registry import resolve
from opera_service.scoring.tree import TreeBuilder
from opera_service.trajectories.encode import encode_group
from opera_service.trajectories.field_tokenizer import FieldTokenizer
from opera_service.trajectories.hf_tokenizer import HFTokenizer

MODEL = f"{opera_demo.__path__[0]}/model"
KINDS = ("right", "fix", "slip", "spoil", "confirm", "filler")
FILLER = (
    "Wait, let me think about this again.\n\nHmm, let me go over it once more now.\n\n"
    "But let me look at it from the start.\n\nHowever, I should check it again.\n\n"
)


@pytest.fixture(scope="module")
def embedded():
    engine = TorchEngine.load(MODEL, dtype="float32", device="cpu")
    return engine, FieldTokenizer(HFTokenizer.load(MODEL), engine.info.vocab_size, engine.info.max_context)


def reasoned(kind: str, task, rng) -> str:
    thoughts = trace(task, rng, None if kind == "right" else kind)
    return "<think>\n" + "".join(f"{thought.text}\n\n" for thought in thoughts) + "</think>\n\n" + task.reference


async def priced(embedded, preset, groups):
    """Return reward, relative and reflection as arrays [groups, trajectories]."""
    engine, fields = embedded
    reward = resolve("opera", preset, {})
    encoded, plans, trees = [], [], []
    for task, responses in groups:
        group = Group(
            prompt=prompt(task.question),
            reference=task.reference,
            trajectories=[{"response": response} for response in responses],
        )
        encoded.append(encode_group(group, 0, fields, reward.config).group)
        builder = TreeBuilder()
        plans.append(reward.plan(encoded[-1], builder))
        trees.append(builder.build())
    scores = await engine.score(trees)
    read = [reward.read(*one) for one in zip(encoded, plans, scores, strict=True)]
    return [
        np.array([[value(one) for one in group.trajectories] for group in read])
        for value in (
            lambda one: one.reward,
            lambda one: one.components["relative"],
            lambda one: one.components["reflection"],
        )
    ]


async def test_mending_pays_and_nothing_else_that_says_wait(embedded):
    rng = random.Random(0)
    groups = [(task, [reasoned(kind, task, rng) for kind in KINDS]) for task in tasks("test", 96, seed=9)]
    reward, relative, reflection = (
        dict(zip(KINDS, found.mean(axis=0), strict=True)) for found in await priced(embedded, "hardened-1", groups)
    )
    assert min(relative["right"], relative["fix"], relative["confirm"]) > 0.9
    assert max(relative["slip"], relative["spoil"]) < 0.1
    assert reflection["fix"] > 0.08
    assert max(reflection[kind] for kind in ("right", "slip", "spoil", "confirm", "filler")) < 0.01
    assert reward["fix"] > reward["right"] > reward["filler"] > reward["slip"]

    _, _, paper = await priced(embedded, "paper", groups)
    released = dict(zip(KINDS, paper.mean(axis=0), strict=True))
    assert min(released["spoil"], released["confirm"]) > 0.5 * released["fix"]


async def test_filler_paragraphs_are_cash_in_paper_only(embedded):
    rng = random.Random(1)
    groups = []
    for task in tasks("test", 24, seed=3):
        plain = [reasoned(kind, task, rng) for kind in ("right", "slip", "fix")]
        groups.append((task, [plain[0], plain[0].replace("</think>", FILLER + "</think>"), *plain[1:]]))
    paper, _, _ = await priced(embedded, "paper", groups)
    hardened, _, reflection = await priced(embedded, "hardened-1", groups)
    assert (paper[:, 1] - paper[:, 0]).mean() > 0.2
    assert (hardened[:, 1] - hardened[:, 0]).mean() <= 0
    assert reflection[:, 1].mean() < 0.02
