"""Several replicas, their coordinator and a push, in one process and without Ray: real services, real files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
from safetensors.numpy import save_file

from opera_client.errors import InvalidWeights, NotSupported, OperaError, PolicyBusy, WeightVersionTaken
from opera_client.wire import RewardRequest
from opera_service.pipelines.reward import score_groups
from opera_service.pipelines.runtime import Runtime
from opera_service.ray_serve import coordinator as keeping
from opera_service.ray_serve.coordinator import Coordinator
from opera_service.ray_serve.fleet import Fleet
from opera_service.ray_serve.folders import folder_of
from opera_service.ray_serve.ledger import Beat, Order
from opera_service.ray_serve.participant import Participant
from opera_service.server.backends import load_backend
from opera_service.server.settings import Settings

from ..app import runtime_on
from ..until import until

LINE = "dummy"
LEASE_S = 2.0
GROUP = {
    "prompt": "What is 17 + 25?\n",
    "reference": "42",
    "trajectories": [{"response": "<think>\nWait, 42.\n\n</think>\n\n42"}, {"response": "32"}],
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "LEASE_S", LEASE_S)
    monkeypatch.setattr(keeping, "HOLD_S", 0.1)
    monkeypatch.setattr("opera_service.ray_serve.participant.AGAIN_S", 0.05)
    monkeypatch.setattr("opera_service.ray_serve.participant.CALL_S", 0.3)


@dataclass
class Replica:
    runtime: Runtime
    participant: Participant
    fleet: Fleet

    async def version(self) -> str:
        await self.participant.settled()
        answer = await score_groups(self.runtime, RewardRequest.model_validate({"groups": [GROUP]}))
        return answer.model.weight_version


class Cluster:
    """Replicas that ask whichever coordinator there is now."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.coordinator: Coordinator | None = Coordinator(root)
        self.replicas: list[Replica] = []
        self.deaf: set[str] = set()

    async def hear(self, beat: Beat) -> Order:
        if self.coordinator is None or beat.replica in self.deaf:
            raise ConnectionError("nobody there")
        return await self.coordinator.hear(LINE, beat)

    async def start(self, name: str, runtime: Runtime | None = None) -> Replica:
        runtime = runtime or runtime_on()
        participant = Participant(name, runtime.engine, runtime.weights, self.hear)

        async def push(weights) -> bool | OperaError:
            assert self.coordinator is not None
            return await self.coordinator.push(LINE, weights)

        fleet = Fleet(runtime.weights, push, folder_of(self.root, LINE), self.root / "spool")
        await participant.join()
        self.replicas.append(Replica(runtime, participant, fleet))
        return self.replicas[-1]

    def pushed(self, salt: int) -> Path:
        folder = self.root / "spool" / f"push-{salt}"
        folder.mkdir(parents=True)
        save_file({"salt": np.array(salt, dtype=np.int64)}, folder / "model.safetensors")
        return folder


async def once_counted(fleet: Fleet, source: Path, version: str):
    """Push as a client does: again while the coordinator still counts its replicas."""
    while True:
        try:
            return await fleet.load(source, version)
        except PolicyBusy:
            await asyncio.sleep(0.1)


async def until_serving(*replicas: Replica) -> None:
    await until(lambda: all(replica.participant.may_serve for replica in replicas), every_s=0.05)


async def until_version(version: str, *replicas: Replica) -> None:
    async with asyncio.timeout(60):
        while {await replica.version() for replica in replicas} != {version}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.fixture
async def cluster(tmp_path) -> AsyncIterator[Cluster]:
    made = Cluster(tmp_path)
    for name in "abc":
        await made.start(name)
    yield made
    for replica in made.replicas:
        await replica.participant.aclose()
        await replica.runtime.aclose()


async def test_all_switch_and_nobody_scores_while_some_have_and_some_have_not(cluster):
    first = cluster.replicas[0]
    seen: list[tuple[float, str, float]] = []
    clock = asyncio.get_running_loop().time
    ended = asyncio.Event()

    async def load(replica: Replica) -> None:
        while not ended.is_set():
            seen.append((clock(), await replica.version(), clock()))
            await asyncio.sleep(0)

    loads = [asyncio.create_task(load(replica)) for replica in cluster.replicas]
    for salt in (1, 2, 3):
        result = await once_counted(first.fleet, cluster.pushed(salt), str(salt))
        assert (result.weight_version, result.previous_version, result.changed) == (str(salt), str(salt - 1), True)
        after = clock()
        assert {await replica.version() for replica in cluster.replicas} == {str(salt)}
        assert {version for asked, version, _ in seen if asked > after} <= {str(salt)}
    ended.set()
    await asyncio.gather(*loads)
    assert {version for _, version, _ in seen} == set("0123")
    # One switch for all: whoever asks after anybody has had newer weights gets no older ones, from no replica.
    for asked, version, _ in seen:
        assert version >= max((other for _, other, answered in seen if answered < asked), default="0")
    kept = [path.parent.name for path in cluster.root.rglob("*.safetensors")]
    assert len(kept) == 1


async def test_what_was_computed_before_waits_too_while_others_still_read(cluster, monkeypatch):
    engine = cluster.replicas[2].runtime.engine
    load, read = engine.load_weights, asyncio.Event()

    async def slowly(*args, **kwargs):
        await read.wait()
        await load(*args, **kwargs)

    monkeypatch.setattr(engine, "load_weights", slowly)
    assert {await replica.version() for replica in cluster.replicas} == {"0"}  # all have the scores cached now
    pushing = asyncio.create_task(once_counted(cluster.replicas[0].fleet, cluster.pushed(1), "1"))
    while not cluster.replicas[0].participant.state.staged:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    asking = asyncio.create_task(cluster.replicas[0].version())
    assert await cluster.replicas[2].version() == "0"
    await asyncio.sleep(0.2)
    assert not asking.done()
    read.set()
    assert await asking == "1"
    await pushing


async def test_one_replicas_refusal_is_everybodys(cluster, monkeypatch):
    async def refuse(*_, **__):
        raise InvalidWeights("this replica cannot")

    monkeypatch.setattr(cluster.replicas[2].runtime.engine, "load_weights", refuse)
    source = cluster.pushed(5)
    with pytest.raises(InvalidWeights, match="this replica cannot"):
        await once_counted(cluster.replicas[0].fleet, source, "5")
    assert source.exists()  # back in the spool, which its owner empties
    await asyncio.sleep(0.3)
    assert [await replica.version() for replica in cluster.replicas] == ["0", "0", "0"]
    await until_serving(*cluster.replicas)


async def test_a_replica_that_nobody_hears_may_not_serve_and_catches_up(cluster):
    cluster.deaf.add("c")
    await once_counted(cluster.replicas[0].fleet, cluster.pushed(4), "4")
    assert not cluster.replicas[2].participant.may_serve
    await until_serving(*cluster.replicas[:2])
    assert await cluster.replicas[2].version() == "0"
    cluster.deaf.clear()
    await until_serving(*cluster.replicas)
    assert await cluster.replicas[2].version() == "4"


async def test_a_replica_that_starts_later_has_the_weights_when_it_may_serve(cluster):
    await once_counted(cluster.replicas[0].fleet, cluster.pushed(6), "6")
    late = await cluster.start("late")
    assert late.participant.may_serve
    assert await late.version() == "6"


async def test_a_new_coordinator_goes_on_where_the_old_one_was(cluster):
    await once_counted(cluster.replicas[0].fleet, cluster.pushed(7), "7")
    cluster.coordinator = None
    await asyncio.sleep(LEASE_S + 0.1)
    assert not any(replica.participant.may_serve for replica in cluster.replicas)  # it may be alive, behind a wall
    cluster.coordinator = Coordinator(cluster.root)
    late = await cluster.start("late")
    assert await late.version() == "7"
    await until_serving(*cluster.replicas)
    with pytest.raises(WeightVersionTaken):
        await once_counted(late.fleet, cluster.pushed(8), "7")
    result = await once_counted(late.fleet, cluster.pushed(9), "8")
    assert result.previous_version == "7"
    assert {await replica.version() for replica in cluster.replicas} == {"8"}


async def test_two_coordinators_on_one_disk_follow_one_another(cluster, tmp_path):
    # As while KubeRay replaces one cluster by another.
    await once_counted(cluster.replicas[0].fleet, cluster.pushed(2), "2")
    other = Cluster(tmp_path)
    newcomer = await other.start("x")
    assert await newcomer.version() == "2"
    await once_counted(newcomer.fleet, cluster.pushed(3), "3")
    await until_version("3", *cluster.replicas)
    result = await once_counted(cluster.replicas[1].fleet, cluster.pushed(4), "4")
    assert result.previous_version == "3"
    await until_version("4", newcomer)
    await newcomer.participant.aclose()
    await newcomer.runtime.aclose()


async def test_weights_that_not_all_replicas_see_are_refused_with_the_remedy(cluster, tmp_path):
    source = tmp_path / "elsewhere" / "w.safetensors"
    source.parent.mkdir()
    save_file({"salt": np.array(1, dtype=np.int64)}, source)
    await once_counted(cluster.replicas[0].fleet, source, "1")
    source.unlink()
    blind = runtime_on()
    participant = Participant("blind", blind.engine, blind.weights, cluster.hear)
    with pytest.raises(InvalidWeights, match="--spool-dir"):
        await participant.join()
    await participant.aclose()


async def test_a_model_waits_for_the_others_on_its_device_thread(tmp_path):
    settings = Settings(engine="torch", device="cpu")
    cluster = Cluster(tmp_path)
    for name in "ab":
        await cluster.start(name, runtime_on(await asyncio.to_thread(load_backend, settings)))
    folder = tmp_path / "spool" / "push"
    folder.mkdir(parents=True)
    tensors = safetensors.torch.load_file(Path(settings.model_path) / "model.safetensors")
    other = {name: 1.01 * tensor for name, tensor in tensors.items()}
    safetensors.torch.save_file(other, folder / "model.safetensors")
    before = await cluster.replicas[1].runtime.weights.info()
    await once_counted(cluster.replicas[0].fleet, folder, "1")
    after = [await replica.runtime.weights.info() for replica in cluster.replicas]
    assert {info.weight_version for info in after} == {"1"}
    assert len({info.canary.mean_logprob for info in after}) == 1
    assert after[0].canary.mean_logprob != before.canary.mean_logprob
    for replica in cluster.replicas:
        await replica.participant.aclose()
        await replica.runtime.aclose()


async def test_adapters_are_for_a_single_process(cluster, tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(NotSupported, match="merge"):
        await cluster.replicas[0].fleet.load(tmp_path / "adapter", "a")
