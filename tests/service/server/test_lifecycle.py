"""What happens between loading and the first request."""

import logging

import pytest

from opera_client.errors import EngineFailed
from opera_service.engines.dummy import DummyEngine
from opera_service.server.app import create_app
from opera_service.server.backends import Backend
from opera_service.server.settings import Settings
from opera_service.trajectories.byte_tokenizer import ByteTokenizer


class HalfPrecision(DummyEngine):
    """A dummy that says that it computes in half precision, and counts how often it is asked."""

    asked = 0
    broken = False

    @property
    def info(self):
        return type(super().info)(**{**vars(super().info), "dtype": "bfloat16"})

    async def score(self, trees):
        self.asked += 1
        if self.broken:
            raise EngineFailed("no device")
        return await super().score(trees)


async def started(engine: HalfPrecision) -> None:
    app = create_app(Settings(), backend=Backend(engine, ByteTokenizer()))
    async with app.router.lifespan_context(app):
        assert engine.asked == 1
        await app.state.lifecycle.runtime.noise.logprob_error()


async def test_the_noise_of_half_precision_is_measured_before_the_first_request():
    engine = HalfPrecision(ByteTokenizer().vocab_size)
    await started(engine)
    assert engine.asked == 1


async def test_a_failed_measurement_does_not_keep_the_service_from_starting(caplog):
    engine = HalfPrecision(ByteTokenizer().vocab_size)
    engine.broken = True
    with caplog.at_level(logging.WARNING), pytest.raises(EngineFailed):
        await started(engine)  # raised by the second try, which the first request would make
    assert "noise could not be measured" in caplog.text
