"""A vLLM plug-in: prompts are scored from the prefix cache that the rollouts left.

vLLM finds it by the entry point `vllm.general_plugins`; no flag is needed, and `VLLM_PLUGINS` keeps it out. A
request opts in by one key of its `extra_args`, see `FIRST_ROW`; whatever does not carry it is served as if the
plug-in were not there. Depends on vLLM alone.
"""

from __future__ import annotations

import logging
from functools import wraps
from typing import Any

from opera_vllm.versions import refusal

FIRST_ROW = "opera_first_row"
"""Key of a request's `extra_args` (`vllm_xargs` over HTTP): index of the first prompt token whose next-token row
is read. Such a request asks for `prompt_logprobs`, reads the prefix cache up to that token, and is answered with
the rows from there on instead of those of the whole prompt."""

log = logging.getLogger("vllm.opera_vllm")  # below vLLM's own logger, so that it shows as vLLM's lines do


def register() -> None:
    """Let every scheduler that vLLM chooses from now on know about scored prompts. Again changes nothing.

    vLLM calls it in each of its processes. It raises nothing: a plug-in that fails must not stop the rollouts.
    """
    try:
        if reason := refusal():
            log.warning("opera-reward scores nothing from the prefix cache: %s", reason)
            return
        _wrap_choice_of_scheduler()
    except Exception:
        log.exception("opera-reward scores nothing from the prefix cache")


def _wrap_choice_of_scheduler() -> None:
    from vllm.config import SchedulerConfig

    choose = SchedulerConfig.get_scheduler_cls
    if hasattr(choose, "__wrapped__"):
        return

    @wraps(choose)
    def get_scheduler_cls(self: Any) -> Any:
        chosen = choose(self)
        try:
            from opera_vllm.scheduler import scoring

            return scoring(chosen)
        except Exception:  # a change within vLLM: sampling must go on without us
            log.exception("opera-reward scores nothing from the prefix cache")
            return chosen

    SchedulerConfig.get_scheduler_cls = get_scheduler_cls
