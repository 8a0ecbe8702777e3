"""verl's real rollout on the CPU against a real `opera-reward serve` in a process of its own.

Without verl installed nothing here is collected: `make test-verl` runs it in an environment of its own. verl's
dependencies are not the service's, so the service comes from `OPERA_REWARD_COMMAND`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec("verl") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    import ray
    from tests.adapters.verl.relay import Relay, relaying

from tests.service.live import Live, live

ADMIN_KEY = "the-admin-key"


def command() -> list[str]:
    found = os.environ.get("OPERA_REWARD_COMMAND") or str(Path(sys.executable).with_name("opera-reward"))
    return [found, "serve"]


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Start a service of one's own."""
    keys = tmp_path_factory.mktemp("keys") / "admin"
    keys.write_text(ADMIN_KEY)

    def start(*flags: str) -> Any:
        return live(*flags, "--admin-key-file", str(keys), command=command())

    return start


@pytest.fixture(scope="session")
def service(serve: Callable[..., Any]) -> Iterator[Live]:
    """The service, with the embedded model, as step 2 of a run left it."""
    with serve("--engine", "torch", "--weight-version", "run-7/2") as started:
        yield started


@pytest.fixture(scope="session")
def relay(service: Live) -> Iterator[Relay]:
    with relaying(service.url) as started:
        yield started


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Ray and verl's TransferQueue, as TaskRunnerV1 starts them."""
    import transfer_queue as tq
    from tests.adapters.verl import rollouts

    ray.cloudpickle.register_pickle_by_value(rollouts)  # workers cannot import the tests
    os.environ["RAY_AUTH_MODE"] = "disabled"  # or Ray writes a token into the home folder
    env = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TRANSFER_QUEUE_ENABLE": "1"}
    ray.init(
        num_cpus=32,  # actors claim one each, whatever the machine has
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        runtime_env={"env_vars": {**env, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}},
    )
    tq.init(rollouts.configuration("http://unused").transfer_queue)
    yield
    tq.close()
    ray.shutdown()
