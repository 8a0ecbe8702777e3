"""The scheduler that vLLM's EngineCore runs for us: the plug-in's, named so that no setting can leave it out."""

from __future__ import annotations

from vllm.v1.core.sched.async_scheduler import AsyncScheduler

from opera_vllm.scheduler import scoring

ScoreScheduler = scoring(AsyncScheduler)
