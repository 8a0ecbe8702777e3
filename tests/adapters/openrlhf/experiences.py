"""Samples become experience by OpenRLHF's own code, up to the advantages."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from openrlhf.trainer.ppo_utils.experience import Experience, split_experience_batch
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator

MAX_LENGTH = 512


def experience(sample: dict[str, Any]) -> Experience:
    """Turn one sample into an experience, as SamplesGenerator does."""
    return SamplesGenerator._process_response_into_experience(None, sample, max_len=MAX_LENGTH)


def concat(samples: list[dict[str, Any]]) -> Experience:
    """Concatenate samples to one micro-batch, and take it apart again, which checks every length."""
    batch = Experience.concat_experiences([experience(sample) for sample in samples], pad_token_id=0)
    assert len(split_experience_batch(batch)) == len(samples)
    return batch


def advantages(samples: list[dict[str, Any]], size: int, estimator: str) -> list[float]:
    """Return each sample's advantage at its last token, by the trainer's own arithmetic, without a KL penalty."""
    arguments = SimpleNamespace(
        rollout=SimpleNamespace(n_samples_per_prompt=size, micro_batch_size=2),
        train=SimpleNamespace(dynamic_batch_enable=False),
        reward=SimpleNamespace(
            clip_range=(-10, 10), overlong_buffer_len=None, overlong_penalty_factor=1.0,
            stop_properly_penalty_coef=None,
        ),
        algo=SimpleNamespace(
            advantage=SimpleNamespace(estimator=estimator, gamma=1.0, lambd=1.0, no_std_norm=False),
        ),
    )  # fmt: skip
    maker = RemoteExperienceMaker.__new__(RemoteExperienceMaker)
    maker.args, maker.strategy = arguments, SimpleNamespace(args=arguments)
    maker.advantage_estimator = estimator
    maker.kl_ctl, maker.tokenizer = SimpleNamespace(value=0.0), SimpleNamespace(pad_token_id=0)
    batches = maker.split_rollout_samples([experience(sample) for sample in samples])
    for batch in batches:
        batch.kl = torch.zeros_like(batch.action_mask, dtype=torch.float32)
        batch.values = torch.zeros_like(batch.kl)
    maker.compute_advantages_and_returns(batches)
    found = []
    for batch in batches:
        for values, mask in zip(batch.advantages, batch.action_mask, strict=True):
            found.append(values[mask.bool()][-1].item() if mask.any() else 0.0)
    return found
