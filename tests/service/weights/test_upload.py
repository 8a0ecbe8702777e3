"""Pushed weights on disk: whole, hashed, bounded, tidied, and never held up by a sender that vanished."""

import asyncio
import fcntl
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from opera_client.errors import BodyTooLarge, DeadlineExceeded, InvalidWeights
from opera_service.weights.upload import WeightSpool

LARGE = bytes(range(256)) * 40_000


async def pieces(content: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


async def test_what_arrives_is_what_lies_there(tmp_path: Path):
    spool = WeightSpool(tmp_path, len(LARGE))
    async with spool.receive(pieces(LARGE)) as received:
        (file,) = files(received.folder)
        assert file.read_bytes() == LARGE
        assert received.revision == f"sha256:{hashlib.sha256(LARGE).hexdigest()}"
    assert files(tmp_path) == [], "it was not kept"
    spool.close()
    assert list(tmp_path.glob("*")) == []  # noqa: ASYNC240


async def test_a_spool_that_never_received_anything_can_be_closed(tmp_path: Path):
    WeightSpool(tmp_path, 1).close()
    assert list(tmp_path.glob("*")) == []  # noqa: ASYNC240


async def test_what_serves_stays_until_the_next_does(tmp_path: Path):
    spool = WeightSpool(tmp_path, 100)
    kept = []
    for content in (b"one", b"two"):
        async with spool.receive(pieces(content)) as received:
            kept.append(received.folder)
            await spool.keep(received)
    assert files(tmp_path) == files(kept[1])
    async with spool.receive(pieces(b"three")):
        assert len(files(tmp_path)) == 2
    assert files(tmp_path) == files(kept[1])
    await spool.keep(None)
    assert files(tmp_path) == []


async def test_nothing_stays_of_what_was_refused(tmp_path: Path):
    spool = WeightSpool(tmp_path, 10)
    with pytest.raises(BodyTooLarge, match="10 bytes"):
        async with spool.receive(pieces(b"x" * 11, size=4)):
            raise AssertionError
    for wrong in ("0", "f"):
        with pytest.raises(InvalidWeights, match="sha256"):
            async with spool.receive(pieces(b"x"), sha256=wrong * 64):
                raise AssertionError
    async with spool.receive(pieces(b"x" * 10), sha256=hashlib.sha256(b"x" * 10).hexdigest()):
        pass
    assert files(tmp_path) == []


async def test_a_sender_that_vanishes_is_given_up(tmp_path: Path):
    async def silent() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    spool = WeightSpool(tmp_path, 10, idle_s=0.01)
    with pytest.raises(DeadlineExceeded, match="push them again"):
        async with spool.receive(silent()):
            raise AssertionError
    assert files(tmp_path) == []


async def test_only_what_dead_processes_left_is_removed(tmp_path: Path):
    for name in ("dead", "living"):
        folder = tmp_path / f"opera-weights-{name}"
        folder.mkdir()
        (folder / "lock").touch()
        (folder / "model.safetensors").write_bytes(b"x")
    (tmp_path / "mine.safetensors").write_bytes(b"x")
    with (tmp_path / "opera-weights-living" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        spool, other = WeightSpool(tmp_path, 10), WeightSpool(tmp_path, 10)
        async with spool.receive(pieces(b"x")) as received, other.receive(pieces(b"y")):
            left = {file.relative_to(tmp_path).parts[0] for file in files(tmp_path)}
            assert "opera-weights-dead" not in left
            assert {"opera-weights-living", "mine.safetensors"} < left
            assert received.folder.relative_to(tmp_path).parts[0] in left, "two in one folder keep apart"
