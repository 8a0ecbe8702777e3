"""The vLLM that each trainer samples with, as something that can be asked for scores: one file a trainer.

Each is an `opera_vllm.asking.RolloutVllm`; `AsyncRewardClient.in_process(rollout=…)` scores on it. Knows how a
trainer calls its vLLM; no reward and no group.
"""
