"""Trajectories of several turns on a random tiny Qwen3 in float64 against plain transformers, context by context.

Tokens, masks and contexts are put together here by hand, without the service's code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from .test_reward_exact import MESSAGES, PROMPT, REFERENCE, answer_of, serving

NATS = 1e-6
OPEN, CLOSE, LABEL, END = "<think>\n", "</think>\n\n", "Answer:\n", "<|im_end|>"
CALLS = "I need to add the numbers.\n\nBut let me check it with the tool first."
SURE = "The tool says 42, so the sum is right.\n\nWait, let me check that again: 7 + 5 carries.\n\n"


def thinks(thought: str, said: str) -> str:
    return f"{OPEN}{thought}\n{CLOSE}{said}"


TRAJECTORIES = {
    "thinks again after a turn without a thought": [
        ("assistant", thinks(CALLS, "add(17, 25)")),
        ("tool", "42. However, wait: It is 42, since 7 + 5 carries."),
        ("assistant", "add(42, 0)"),
        ("tool", "等等 42"),
        ("user", "So?"),
        ("assistant", thinks(SURE.strip(), "It is 42.")),
    ],
    "thinks once": [
        ("assistant", thinks(CALLS, "add(17, 25)")),
        ("tool", "32"),
        ("assistant", "The sea is grey and the harbour empty."),
    ],
    "one turn": [("assistant", thinks(SURE.strip(), "So 42 it is."))],
}
ROUNDS = [TRAJECTORIES[name] for name in TRAJECTORIES]


@dataclass
class Written:
    """A trajectory as a rollout leaves it."""

    ids: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)


class Tokens:
    """The tiny model's tokenizer; ids are joined, texts never."""

    def __init__(self, hf_tokenizer) -> None:
        self.hf = hf_tokenizer

    def __call__(self, text: str) -> list[int]:
        return self.hf(text, add_special_tokens=False).input_ids

    def written(self, turns: list[tuple[str, str]]) -> Written:
        found = Written()
        for number, (role, content) in enumerate(turns):
            if role == "assistant":
                if number:
                    between = "".join(
                        f"<|im_start|>{other}\n{said}{END}\n" for other, said in _before(turns, number)
                    )
                    glue = self(f"\n{between}<|im_start|>assistant\n")
                    found.ids += glue
                    found.mask += [0] * len(glue)
                found.starts.append(len(found.ids))
                own = self(content) + ([self.hf.eos_token_id] if number < len(turns) - 1 else [])
                found.ids += own
                found.mask += [1] * len(own)
                found.ends.append(len(found.ids))
        return found


def _before(turns: list[tuple[str, str]], number: int) -> list[tuple[str, str]]:
    start = max(at for at in range(number) if turns[at][0] == "assistant")
    return turns[start + 1 : number]


def body(form: str, tokens: Tokens, reward: str, **changes) -> dict[str, Any]:
    trajectories: list[dict[str, Any]] = []
    for turns in ROUNDS:
        one = tokens.written(turns)
        if form == "mask":
            trajectories.append({"response_token_ids": one.ids, "response_mask": one.mask})
        elif form == "messages":
            trajectories.append({"turns": [{"role": role, "content": said} for role, said in turns]})
        else:
            bounds = [*zip(one.starts, one.ends, strict=True)]
            runs: list[dict[str, Any]] = []
            for at, (start, end) in enumerate(bounds):
                if at:
                    runs.append({"role": "environment", "token_ids": one.ids[bounds[at - 1][1] : start]})
                runs.append({"role": "assistant", "token_ids": one.ids[start:end]})
            trajectories.append({"turns": runs})
    group = {"prompt": MESSAGES, "reference": REFERENCE, "trajectories": trajectories}
    return {"reward": reward, "detail": "segments", "groups": [group], **changes}


@pytest.mark.parametrize("mode", ["required", "none"])
async def test_steps_and_segments_are_the_oracles(tiny_qwen: Path, hf_tokenizer, oracle, mode):
    tokens = Tokens(hf_tokenizer)
    async with serving(tiny_qwen, "float64") as client:
        asked = body("mask", tokens, "igpo", config={"think": {"mode": mode}})
        answer = await answer_of(client, asked)
    prompt, target = tokens(PROMPT), tokens(REFERENCE)
    open_, bridge, line = tokens(OPEN), tokens(CLOSE) + tokens(LABEL), tokens("\n")

    def level(context: list[int]) -> float:
        return mean(oracle(context + bridge, target))

    for turns, found in zip(ROUNDS, answer["groups"][0]["trajectories"], strict=True):
        one = tokens.written(turns)
        assert found["status"] == "ok", found["error"]
        assert found["response_tokens"] == sum(one.mask)
        befores = [level(prompt + one.ids[:start] + open_) for start in one.starts]
        own = [said for role, said in turns if role == "assistant"]
        segments = [each for each in found["segments"] if each["start"] >= one.starts[-1]]
        if mode == "none":
            assert found["segments"] == []
            last = prompt + one.ids[: one.starts[-1]] + open_ + tokens(own[-1]) + line
            ends = [*befores[1:], level(last)]
        else:
            last = prompt + one.ids[: segments[-1]["end"]] if segments else None
            ends = [*befores[1:], level(last) if last else befores[-1]]
            _check_segments(
                found["segments"], one, own, befores, lambda end, one=one: level(prompt + one.ids[:end]), tokens
            )
        assert [(step["turn"], step["start"], step["end"]) for step in found["steps"]] == [
            (at, start, end) for at, (start, end) in enumerate(zip(one.starts, one.ends, strict=True))
        ]
        assert [step["mean_logprob"] for step in found["steps"]] == pytest.approx(ends, abs=NATS)
        gains = [after - before for before, after in zip([befores[0], *ends[:-1]], ends, strict=True)]
        assert [step["gain"] for step in found["steps"]] == pytest.approx(gains, abs=2 * NATS)
        assert len(gains) == 1 or max(map(abs, gains)) > 100 * NATS  # or a wrong context would go unseen
        chances = [math.exp(one) for one in (befores[0], *ends)]
        earned = [after - before for before, after in pairwise(chances)]
        assert [step["reward"] for step in found["steps"]] == pytest.approx(earned, abs=NATS)
        assert found["reward"] == pytest.approx(chances[-1] - chances[0], abs=NATS)


def _check_segments(segments, one, own, befores, level, tokens) -> None:
    """Paragraphs of every turn's thought lie in their turn, and gain over what is before them in it."""
    thoughts = [said.split(CLOSE)[0].removeprefix(OPEN) if OPEN in said else "" for said in own]
    paragraphs = [
        (at, text.strip()) for at, thought in enumerate(thoughts) for text in thought.split("\n\n") if text
    ]
    assert [segment["text"] for segment in segments] == [text for _, text in paragraphs]
    last_turn, before = -1, 0.0
    for segment, (turn, text) in zip(segments, paragraphs, strict=True):
        assert one.starts[turn] <= segment["start"] < segment["end"] <= one.ends[turn]
        assert tokens.hf.decode(one.ids[segment["start"] : segment["end"]]).strip() == text
        assert segment["reflective"] == text.startswith(("But", "Wait"))
        if turn != last_turn:
            last_turn, before = turn, befores[turn]
        after = level(segment["end"])
        assert segment["mean_logprob"] == pytest.approx(after, abs=NATS)
        assert segment["gain"] == pytest.approx(after - before, abs=2 * NATS)
        before = after


@pytest.mark.parametrize("reward", ["opera", "igpo", "logprob", "rlpr", "verifree", "jepo", "nover"])
async def test_messages_masks_and_ids_are_one_thing_and_steps_add_up(tiny_qwen: Path, hf_tokenizer, reward):
    tokens = Tokens(hf_tokenizer)
    async with serving(tiny_qwen) as client:
        answers = [await answer_of(client, body(form, tokens, reward)) for form in ("mask", "messages", "ids")]
    told = [answer["groups"][0]["trajectories"] for answer in answers]
    assert told[0] == told[1] == told[2]
    for one in told[0]:
        assert sum(step["reward"] for step in one["steps"]) == pytest.approx(one["reward"], abs=1e-12)


async def test_what_the_environment_says_pays_nothing_by_itself(tiny_qwen: Path, hf_tokenizer, oracle):
    """The default reward reads the last answer behind the prompt alone; the environment's words are nobody's."""
    tokens = Tokens(hf_tokenizer)
    asked = body("messages", tokens, "opera")
    async with serving(tiny_qwen) as client:
        first = await answer_of(client, asked)
        for one in asked["groups"][0]["trajectories"]:
            for turn in one["turns"]:
                if turn["role"] != "assistant":
                    turn["content"] = "Wait, hmm. " + REFERENCE * 3
        second = await answer_of(client, asked)
    own = tokens("The sea is grey and the harbour empty.")
    prompt, target = tokens(PROMPT), tokens(REFERENCE)
    bridge = tokens(CLOSE) + tokens(LABEL)
    initial = oracle(prompt + tokens(OPEN) + bridge, target)
    after = oracle(prompt + tokens(OPEN) + own + tokens("\n") + bridge, target)
    weights = [min(max(-one, 1e-3), 5.0) for one in initial]
    if len(weights) > 12:
        weights[0] = 1e-3
    gains = [min(max(now - then, -5.0), 5.0) for now, then in zip(after, initial, strict=True)]
    gains = [one if one > 0 else 0.7 * one for one in gains]
    expected = sum(u * one for u, one in zip(weights, gains, strict=True)) / sum(weights)
    assert first["groups"][0]["trajectories"][1]["components"]["answer"] == pytest.approx(expected, abs=1e-4)
    changed = False
    for one, other in zip(*(answer["groups"][0]["trajectories"] for answer in (first, second)), strict=True):
        for name in ("answer", "precision", "relevance"):
            assert one["components"][name] == other["components"][name]
        assert one["response_tokens"] == other["response_tokens"]
        assert one["flags"] == other["flags"]
        told, again = (
            [(each["text"], each["reflective"]) for each in member["segments"]] for member in (one, other)
        )
        assert told == again
        changed |= one["components"]["thought"] != other["components"]["thought"]
    assert changed


async def test_a_mask_of_ones_is_a_response(tiny_qwen: Path, hf_tokenizer):
    """In a bit: whatever a reward makes of a response it makes of the same tokens as one turn."""
    tokens = Tokens(hf_tokenizer)
    ids = [tokens(turns[-1][1]) for turns in ROUNDS]
    for reward, preset in (
        ("opera", "hardened"),
        ("opera", "hardened-1"),
        ("nover", "hardened"),
        ("igpo", "paper"),
    ):
        request = {"reward": reward, "preset": preset}
        plain = [{"response_token_ids": one} for one in ids]
        masked = [{**one, "response_mask": [1] * len(one["response_token_ids"])} for one in plain]
        async with serving(tiny_qwen) as client:
            told = [
                await answer_of(
                    client,
                    {**request, "groups": [{"prompt": MESSAGES, "reference": REFERENCE, "trajectories": each}]},
                )
                for each in (plain, masked)
            ]
        for one, other in zip(*(answer["groups"][0]["trajectories"] for answer in told), strict=True):
            assert one["steps"] is None
            assert len(other["steps"]) == 1
            assert {**one, "steps": None} == {**other, "steps": None}


async def test_environment_tokens_are_no_length(tiny_qwen: Path, hf_tokenizer):
    """NOVER's efficiency compares what policies wrote: a long answer of a tool makes nobody longer."""
    tokens = Tokens(hf_tokenizer)
    asked = body("messages", tokens, "nover", preset="paper")
    trajectories = asked["groups"][0]["trajectories"]
    told = []
    async with serving(tiny_qwen) as client:
        for said in ("32 ", "Wait. ", "The sea is grey. ", REFERENCE):
            other = {"turns": [dict(turn) for turn in trajectories[1]["turns"]]}
            other["turns"][1]["content"] = said * 20
            asked["groups"][0]["trajectories"] = [trajectories[1], other]
            answer = await answer_of(client, asked)
            told.append([one["components"] for one in answer["groups"][0]["trajectories"]])
    assert {(one["reasoning"], other["reasoning"]) for one, other in told} == {(1.0, 0.5), (0.5, 1.0)}
    assert {part["efficiency"] for parts in told for part in parts} == {0.0}  # all are of one length


async def test_several_references_combine_steps(tiny_qwen: Path, hf_tokenizer):
    tokens = Tokens(hf_tokenizer)
    other = "Forty-two, the sum of both."
    async with serving(tiny_qwen, "float64") as client:
        alone = []
        for reference in (REFERENCE, other, [REFERENCE, other]):
            asked = body("mask", tokens, "igpo")
            asked["groups"][0]["reference"] = reference
            alone.append((await answer_of(client, asked))["groups"][0]["trajectories"])
    for first, second, both in zip(*alone, strict=True):
        for one, two, found in zip(first["steps"], second["steps"], both["steps"], strict=True):
            for name in ("mean_logprob", "gain", "reward"):
                assert found[name] == pytest.approx((one[name] + two[name]) / 2, abs=NATS)
