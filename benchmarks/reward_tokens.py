"""What a reward costs: tokens of one group's tree against those of another preset, counted, not timed.

    python benchmarks/reward_tokens.py [--shape 8,16,2048,512,300 …] [--against hardened-1]

A shape is n,S,R,G,A: members, segments of each, tokens of each response, of the reference, of the answer. Texts
are random letters read by the byte tokenizer: a character is a token, and nothing is shared by chance.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from opera_client.wire import Group
from opera_service.rewards.registry import resolve
from opera_service.scoring.tree import TreeBuilder
from opera_service.trajectories.byte_tokenizer import ByteTokenizer
from opera_service.trajectories.encode import encode_group
from opera_service.trajectories.field_tokenizer import FieldTokenizer

SHAPES = ("8,16,2048,512,300", "8,8,1024,128,200", "8,4,400,80,120", "8,3,200,40,60", "4,6,600,300,300")
VARIANTS: Mapping[str, tuple[Mapping[str, Any], bool]] = {
    "hardened": ({}, False),
    "with detail: segments": ({}, True),
    "without precision": ({"value": {"precision_share": 0}}, False),
    "without relevance": ({"value": {"least_relevance": 0}}, False),
    "without the thought": ({"value": {"thought_share": 0}}, False),
    "answer alone": ({"value": {"precision_share": 0, "thought_share": 0, "least_relevance": 0}}, False),
}


def main() -> None:
    """Print a line a variant, a column a shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", default=SHAPES)
    parser.add_argument("--against", default="hardened-1")
    options = parser.parse_args()
    shapes = [tuple(map(int, one.split(","))) for one in options.shape]
    base = [tokens(shape, options.against, {}, explained=False) for shape in shapes]
    print(f"{'n, S, R, G, A':24s}" + "".join(f"{','.join(map(str, shape)):>20s}" for shape in shapes))
    print(f"{options.against + ', tokens':24s}" + "".join(f"{count:20,d}" for count in base))
    for name, (config, explained) in VARIANTS.items():
        found = [tokens(shape, "hardened", config, explained=explained) for shape in shapes]
        print(f"{name:24s}" + "".join(f"{own / other:20.2f}" for own, other in zip(found, base, strict=True)))


def tokens(shape: Sequence[int], preset: str, config: Mapping[str, Any], *, explained: bool) -> int:
    """Return the tokens of the tree of one group of `shape`."""
    reward = resolve("opera", preset, config)
    tokenizer = ByteTokenizer()
    fields = FieldTokenizer(tokenizer, tokenizer.vocab_size, 1 << 20)
    encoded = encode_group(_group(shape), 0, fields, reward.config).group
    assert encoded is not None
    builder = TreeBuilder()
    reward.plan(replace(encoded, explained=explained), builder)
    return builder.build().num_tokens


def _group(shape: Sequence[int]) -> Group:
    members, segments, response, reference, answer = shape
    letters = random.Random(0)

    def text(length: int) -> str:
        return "".join(letters.choice("bcdfghjklmnpqrstvwxz") for _ in range(length))

    def written() -> str:
        paragraph = max(9, (response - answer) // segments - 2)
        thought = "\n\n".join(text(paragraph) for _ in range(segments))
        return f"<think>\n{thought}\n</think>\n\n{text(answer)}"

    return Group(
        prompt=text(128), reference=text(reference), trajectories=[{"response": written()} for _ in range(members)]
    )


if __name__ == "__main__":
    main()
