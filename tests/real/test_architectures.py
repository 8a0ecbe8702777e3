"""Every causal language model class of transformers, made small: scored as plain forwards, or refused."""

import pytest
from tests.service.engines.torch.architectures import judge, model_types

pytestmark = pytest.mark.real


@pytest.mark.parametrize("model_type", model_types())
def test_every_architecture_is_exact_or_refused(model_type):
    verdict = judge(model_type)
    assert verdict.reason or verdict.apart < 2e-5
