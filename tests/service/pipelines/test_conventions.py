"""Templates, think blocks and ends of turns as models have them, priced against contexts written down by hand.

Every byte is a token so that a text has one tokenisation wherever it is cut; the model is random, in float64.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tests.service.trajectories.test_chat_format import (
    BRACKETS,
    CHATML,
    HARMONY,
    OPENS,
    SHOWS_LAST_THOUGHT,
    SWITCHES_OFF,
)
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from opera_client.wire import Group
from opera_service.engines.dummy import DummyEngine
from opera_service.engines.torch.loading import LoadedModel
from opera_service.engines.torch.scorer import TreeScorer
from opera_service.rewards.config import RewardConfig
from opera_service.scoring.scores import TreeScores
from opera_service.scoring.tree import ROOT, TokenTree, TreeBuilder
from opera_service.trajectories.encode import encode_group
from opera_service.trajectories.encoding_config import ContextConfig, SegmentConfig
from opera_service.trajectories.field_tokenizer import FieldTokenizer
from opera_service.trajectories.hf_tokenizer import HFTokenizer

SPECIAL = [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|pad|>", "<|A|>", "<|U|>", "<|end_of_text|>",
    "</s>", "[INST]", "[/INST]",
    "<|start|>", "<|end|>", "<|return|>", "<|message|>", "<|channel|>",
]  # fmt: skip
TAGS = ["<think>", "</think>", "[THINK]", "[/THINK]"]
QUESTION, REFERENCE = "Which one?", "The eighth."
FIRST, SECOND, ANSWER = "It may be the seventh one.\n\n", "Wait, the eighth it is.", "The eighth one."
# The label of a later default stands between bridge and reference; here nothing does.
NO_LABEL = {"label": ""} if "label" in ContextConfig.model_fields else {}
RULES = RewardConfig(
    segment=SegmentConfig(min_tokens=0), context=ContextConfig(score_end=True, controls=False, **NO_LABEL)
)


@dataclass(frozen=True)
class Kind:
    """A template with what a person would write for it."""

    template: str
    ends: tuple[str, ...]
    """What the configuration lists; the template's own comes first."""
    prompt: str
    opening: str
    """What opens a thought behind the prompt; empty where the prompt did."""
    close: str
    """How a thought is closed."""
    written: str
    """How the policy opens its thought."""


ASKED = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
FINAL = "<|end|><|start|>assistant<|channel|>final<|message|>"
KINDS = {
    "chatml": Kind(CHATML, ("<|im_end|>", "<|endoftext|>"), ASKED, "<think>\n", "</think>\n\n", "<think>\n"),
    "shows thoughts": Kind(
        SHOWS_LAST_THOUGHT, ("<|im_end|>", "<|endoftext|>"), ASKED, "<think>\n", "</think>\n\n", "<think>\n"
    ),
    "opens thoughts": Kind(OPENS, ("<|end_of_text|>",), f"<|U|>{QUESTION}<|A|><think>\n", "", "</think>\n\n", ""),
    "brackets": Kind(BRACKETS, ("</s>",), f"[INST]{QUESTION}[/INST]", "[THINK]", "[/THINK]", "[THINK]"),
    "channels": Kind(
        HARMONY,
        ("<|return|>", "<|endoftext|>"),
        f"<|start|>user<|message|>{QUESTION}<|end|><|start|>assistant",
        "<|channel|>analysis<|message|>",
        FINAL,
        "<|channel|>analysis<|message|>",
    ),
}
TAILS = ("{end}", "{end}{pad}{pad}", "{other}", "{end}\n{other}{pad}", "{pad}", "")


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=256 + len(SPECIAL) + len(TAGS), max_position_embeddings=512, **sizes)
    made = LlamaForCausalLM(config).double().eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(0, 0.2) if weight.dim() > 1 else weight
    return made


def tokenizer_of(kind: Kind) -> HFTokenizer:
    raw = Tokenizer(
        models.BPE({char: at for at, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, [])
    )
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in SPECIAL])
    raw.add_tokens([AddedToken(one, special=False, normalized=False) for one in TAGS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=kind.ends[-1], pad_token="<|pad|>", chat_template=kind.template
    )
    return HFTokenizer(fast, [raw.token_to_id(one) for one in kind.ends])


Score = Callable[[TokenTree], TreeScores]


@pytest.fixture(params=["tree_sdpa", "kv_fork", "naive", "dummy"])
def score(request: pytest.FixtureRequest, model: LlamaForCausalLM) -> Score:
    if request.param == "dummy":
        engine = DummyEngine(model.config.vocab_size)
        return lambda tree: asyncio.run(engine.score([tree]))[0]
    scorer = TreeScorer(LoadedModel.of(model, name="tiny"), route=request.param)
    return lambda tree: scorer.score([tree])[0]


def priced(score: Score, contexts: list[np.ndarray], target: np.ndarray) -> list[float]:
    tree = TreeBuilder()
    queries = [tree.score(tree.extend(ROOT, context), target) for context in contexts]
    found = score(tree.build())
    return [float(found.of(query).mean()) for query in queries]


def by_hand(score: Score, model: LlamaForCausalLM, encode: Callable[[str], np.ndarray], contexts: list[str],
            target: str, *, dummy: bool) -> list[float]:  # fmt: skip
    """Recompute each context alone: plain float64 forwards, or for the dummy engine its own documented table."""
    ids = encode(target)
    if dummy:
        return [priced(score, [encode(context)], ids)[0] for context in contexts]
    found = []
    for context in contexts:
        path = np.concatenate([encode(context), ids])
        with torch.inference_mode():
            rows = model(input_ids=torch.as_tensor(path[None]).long()).logits[0].log_softmax(-1)
        found.append(float(np.mean([rows[len(path) - len(ids) - 1 + at, token] for at, token in enumerate(ids)])))
    return found


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("name", KINDS)
def test_every_context_is_the_one_a_person_would_write(name, tail, score, model, request):
    kind = KINDS[name]
    tokenizer = tokenizer_of(kind)
    fields = FieldTokenizer(tokenizer, model.config.vocab_size, 512)
    end, other = kind.ends[0], kind.ends[-1]
    thought = FIRST + SECOND + "\n"
    response = kind.written + thought + kind.close + ANSWER + tail.format(end=end, other=other, pad="<|pad|>")
    unopened = thought + kind.close + ANSWER
    group = Group(
        prompt=[{"role": "user", "content": QUESTION}],
        reference=REFERENCE + tail.format(end=end, other=other, pad="<|pad|>"),
        trajectories=[
            {"response": response},
            {"response_token_ids": tokenizer.encode(response).tolist()},
            {"response": unopened},
        ],
    )
    encoding = encode_group(group, 0, fields, RULES)
    assert encoding.errors == {}
    assert encoding.group is not None
    start = kind.prompt + kind.opening
    expected = [start + kind.close, start + FIRST + kind.close, start + thought + kind.close]
    hand = by_hand(score, model, tokenizer.encode, expected, REFERENCE + end, dummy="dummy" in request.node.name)
    for place, one in enumerate(encoding.group.trajectories):
        contexts = [np.concatenate([context, encoding.group.bridge]) for context in one.contexts]
        found = priced(score, contexts, encoding.group.reference_ids)
        np.testing.assert_allclose(found, hand, rtol=0, atol=1e-10)
        assert one.answer == ANSWER
        assert tokenizer.decode(one.full) == start + thought + kind.close + ANSWER
        lone = place == 2 and bool(kind.opening)
        assert one.flags == (("think_unopened",) if lone else ())


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("name", KINDS)
def test_no_tail_makes_an_answer(name, tail, model):
    kind = KINDS[name]
    tokenizer = tokenizer_of(kind)
    written = kind.written + FIRST + kind.close + tail.format(end=kind.ends[0], other=kind.ends[-1], pad="<|pad|>")
    group = Group(
        prompt=[{"role": "user", "content": QUESTION}], reference=REFERENCE, trajectories=[{"response": written}]
    )
    encoding = encode_group(group, 0, FieldTokenizer(tokenizer, model.config.vocab_size, 512), RULES)
    assert encoding.group is not None
    (one,) = encoding.group.trajectories
    assert one.flags == ("empty_answer",)
    assert len(one.answer_ids) == 0


def test_a_thought_that_the_template_closed(score, model, request):
    kind = Kind(SWITCHES_OFF, ("<|im_end|>",), ASKED + "<think>\n\n</think>\n\n", "", "", "")
    tokenizer = tokenizer_of(kind)
    fields = FieldTokenizer(tokenizer, model.config.vocab_size, 512)
    group = Group(
        prompt=[{"role": "user", "content": QUESTION}], reference=REFERENCE, trajectories=[{"response": ANSWER}]
    )
    encoding = encode_group(group, 0, fields, RULES)
    assert encoding.group is not None
    (one,) = encoding.group.trajectories
    found = priced(score, [np.concatenate([one.contexts[0], encoding.group.bridge])], encoding.group.reference_ids)
    target = REFERENCE + "<|im_end|>"
    hand = by_hand(score, model, tokenizer.encode, [kind.prompt], target, dummy="dummy" in request.node.name)
    np.testing.assert_allclose(found, hand, rtol=0, atol=1e-10)
    assert one.flags == ("think_in_prompt",)


@pytest.mark.parametrize("name", ["chatml", "opens thoughts", "brackets"])
def test_text_messages_and_ids_of_one_prompt_are_one(name, score, model):
    kind = KINDS[name]
    tokenizer = tokenizer_of(kind)
    fields = FieldTokenizer(tokenizer, model.config.vocab_size, 512)
    found = []
    for prompt in (
        {"prompt": [{"role": "user", "content": QUESTION}]},
        {"prompt": kind.prompt},
        {"prompt_token_ids": tokenizer.encode(kind.prompt).tolist()},
    ):
        response = {"response": kind.written + FIRST + kind.close + ANSWER}
        encoding = encode_group(Group(reference=REFERENCE, trajectories=[response], **prompt), 0, fields, RULES)
        assert encoding.group is not None
        contexts = list(encoding.group.trajectories[0].contexts)
        found.append(priced(score, contexts, encoding.group.reference_ids))
    assert found[0] == found[1] == found[2]
