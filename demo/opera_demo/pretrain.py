"""Makes the embedded model: `python -m opera_demo.pretrain --out DIR --seed 0`, a few minutes on a CPU.

One document a row, padded on the right: nothing leaks from one document to the next, and every document starts
at position 0, as a scored one does. Ends by measuring the model and writing its card.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from opera_demo import card, corpus, tokenizer
from opera_demo.corpus import Span
from opera_demo.evaluate import evaluate

STEPS = 1200
ROWS = 32
"""Documents a step."""
POOL = 16
"""Batches drawn together and sorted by length, to save padding."""
LEARNING_RATE = 2e-3
IGNORED = -100
TOKENIZER_DOCUMENTS = 4000


def architecture(vocabulary: PreTrainedTokenizerFast) -> Qwen3Config:
    """Return the Qwen3 configuration of the embedded model."""
    return Qwen3Config(
        vocab_size=len(vocabulary),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=tokenizer.MAX_LENGTH,
        tie_word_embeddings=True,
        initializer_range=0.06,  # the usual 0.02 suits wider networks; here it delays copying by 1M tokens
        bos_token_id=None,
        eos_token_id=vocabulary.eos_token_id,
        pad_token_id=vocabulary.pad_token_id,
    )


def untrained(config: Qwen3Config, seed: int) -> Qwen3ForCausalLM:
    """Return a randomly initialised model; the same seed gives the same weights."""
    torch.manual_seed(seed)
    return Qwen3ForCausalLM(config)  # type: ignore[no-untyped-call]


def batches(vocabulary: PreTrainedTokenizerFast, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (ids, labels), both int64[ROWS, longest document], without end; padding and questions are ignored."""
    documents = corpus.documents(seed)
    generator = torch.Generator().manual_seed(seed)
    while True:
        pool = [encode(vocabulary, spans) for spans in itertools.islice(documents, ROWS * POOL)]
        pool.sort(key=lambda document: len(document[0]))
        for number in torch.randperm(POOL, generator=generator).tolist():
            rows = pool[number * ROWS : (number + 1) * ROWS]
            ids, labels = (
                torch.nn.utils.rnn.pad_sequence(
                    [torch.tensor(row[side]) for row in rows], batch_first=True, padding_value=padding
                )
                for side, padding in ((0, int(vocabulary.pad_token_id)), (1, IGNORED))
            )
            yield ids, labels


def encode(vocabulary: PreTrainedTokenizerFast, spans: list[Span]) -> tuple[list[int], list[int]]:
    """Return a document's ids and labels: the id itself where it is learnt, `IGNORED` elsewhere."""
    ids: list[int] = []
    labels: list[int] = []
    for span, tokens in zip(spans, vocabulary([span.text for span in spans])["input_ids"], strict=True):
        ids += tokens
        labels += tokens if span.learn else [IGNORED] * len(tokens)
    return ids, labels


def train(model: Qwen3ForCausalLM, vocabulary: PreTrainedTokenizerFast, *, steps: int, seed: int) -> int:
    """Train `model` in place for `steps` batches and return how many tokens it read."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    # bf16 pays only where the CPU multiplies it natively
    native = torch.cpu.get_capabilities().get("avx512_bf16", False)
    tokens, smooth = 0, math.nan
    model.train()
    for step, (ids, labels) in enumerate(itertools.islice(batches(vocabulary, seed), steps), start=1):
        with torch.autocast("cpu", torch.bfloat16) if native else nullcontext():
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
            learnt = labels[:, 1:] != IGNORED
            logits = model.lm_head(hidden[learnt])
        loss = cross_entropy(logits.float(), labels[:, 1:][learnt])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        tokens += int((ids != vocabulary.pad_token_id).sum())
        smooth = loss.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss.item()
        _progress(step, steps, tokens, smooth)
    return tokens


def _rate(step: int, steps: int) -> float:
    warmup = max(1, steps // 20)
    return min(1.0, (step + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _progress(step: int, steps: int, tokens: int, loss: float) -> None:
    on_terminal = sys.stderr.isatty()
    if on_terminal or step % 100 == 0 or step == steps:
        line = f"step {step}/{steps}  {tokens / 1e6:.2f}M tokens  loss {loss:.3f}  {time.process_time():.0f} CPU-s"
        end = "\n" if not on_terminal or step == steps else ""
        sys.stderr.write(("\r" if on_terminal else "") + line + end)
        sys.stderr.flush()


def make(folder: Path, *, seed: int = 0, steps: int = STEPS, count: int = 256) -> None:
    """Train a model, write it to `folder` in bf16, read it back, measure what was written and write its card."""
    torch.set_num_threads(1)  # more hardly helps at this size, and one is reproducible
    folder.mkdir(parents=True, exist_ok=True)
    first = itertools.islice(corpus.documents(seed), TOKENIZER_DOCUMENTS)
    vocabulary = tokenizer.build(
        "".join(span.text for span in spans if span.learn or span is spans[0]) for spans in first
    )
    config = architecture(vocabulary)
    model = untrained(config, seed)
    started = time.process_time()
    tokens = train(model, vocabulary, steps=steps, seed=seed)
    spent = time.process_time() - started

    tokenizer.save(vocabulary, folder)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True,
        temperature=1.0,
        top_k=0,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)  # not its owner alone
    written = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    report = evaluate(written, untrained(config, seed), vocabulary, count=count)
    origin = card.Origin(
        seed=seed,
        steps=steps,
        tokens=tokens,
        cpu_seconds=round(spent),
        parameters=sum(parameter.numel() for parameter in written.parameters()),
    )
    card.write(folder, origin, report)


def main() -> None:
    """Parse the command line and make the model."""
    parser = argparse.ArgumentParser(prog="python -m opera_demo.pretrain", description=__doc__)
    packaged = Path(__file__).parent / "model"
    parser.add_argument(
        "--out", type=Path, default=packaged, help="folder to write into; the package's by default"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS, help=f"training steps, {STEPS} by default")
    options = parser.parse_args()
    make(options.out, seed=options.seed, steps=options.steps)


if __name__ == "__main__":
    main()
