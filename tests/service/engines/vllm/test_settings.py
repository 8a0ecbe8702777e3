"""What may be said to vLLM."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from opera_service.engines.vllm.settings import OWNED, VllmSettings


def test_everything_but_our_own_is_passed_on():
    settings = VllmSettings(max_model_len=100, enforce_eager=True, inflight_tokens=5)
    assert settings.engine_args() == {
        "max_model_len": 100,
        "enforce_eager": True,
        "tensor_parallel_size": 1,
        "data_parallel_size": 1,
    }


@pytest.mark.parametrize("name", OWNED)
def test_what_exactness_rests_on_cannot_be_set(name):
    with pytest.raises(ValidationError, match=name):
        VllmSettings(**{name: "x"})
