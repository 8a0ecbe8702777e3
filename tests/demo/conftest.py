"""The packaged model and its tokenizer, loaded once as any user would."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from opera_demo import model_path


@pytest.fixture(scope="session")
def packaged_tokenizer():
    return AutoTokenizer.from_pretrained(model_path())


@pytest.fixture(scope="session")
def packaged_model():
    return AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32)


@pytest.fixture(scope="session")
def twin(packaged_model):
    """The same architecture with random weights."""
    torch.manual_seed(1)
    return AutoModelForCausalLM.from_config(packaged_model.config, dtype=torch.float32).eval()
