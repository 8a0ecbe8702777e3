"""What is deployed: the replicas that score, and the coordinator that keeps them on one set of weights.

It knows Serve's options and the service's settings; how many replicas there are is Serve's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import RequestRouterConfig

from opera_service.ray_serve.args import settings_of
from opera_service.ray_serve.coordinator import Coordinator
from opera_service.ray_serve.replica import Scorer

SCORER, COORDINATOR = "scorer", "coordinator"

SCALING: dict[str, Any] = {
    "autoscaling_config": {
        "min_replicas": 1,
        "max_replicas": 8,
        "target_ongoing_requests": 16,
        "upscale_delay_s": 10,
        "downscale_delay_s": 300,
    },
    # Members of unfinished groups are ongoing requests, too: a replica that lets in fewer than those that wait for
    # one another would keep the last of a group out.
    "max_ongoing_requests": 2048,
    "max_queued_requests": 4096,
    "backpressure_config": {"status_code": 429, "retry_after_s": 1.0},
    "graceful_shutdown_timeout_s": 120,
    "health_check_period_s": 5,
}
"""Defaults; the `deployments` section of a Serve configuration overrides each."""


def app_with(args: Mapping[str, Any], **scaling: Any) -> Application:
    """Return the application; `scaling` are options of the scorer's deployment, in place of those in `SCALING`.

    Raises `SettingsError`.
    """
    settings = settings_of(args)
    coordinator = serve.deployment(Coordinator).options(
        name=COORDINATOR,
        num_replicas=1,
        max_ongoing_requests=1_000_000,  # every replica has a question open all the time
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=2,
        logging_config={"enable_access_log": False},  # the same question every other second
    )
    scorer = serve.deployment(Scorer).options(
        name=SCORER,
        request_router_config=RequestRouterConfig(
            request_router_class="opera_service.ray_serve.router:GroupRouter"
        ),
        **{**SCALING, **scaling},
    )
    return scorer.bind(dict(args), coordinator.bind(settings.spool_dir))
