"""Loading from folders: what is said about a model, and every refusal with its remedy."""

import hashlib
import json

import pytest
import torch

from opera_client.errors import EngineFailed, NotSupported
from opera_service.engines.torch.loading import LoadedModel, load_model


@pytest.fixture(scope="module")
def folder(lab, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny"
    lab.make_model("qwen3", torch.bfloat16).save_pretrained(path)
    return path


def test_what_is_said_about_a_loaded_model(folder):
    loaded = load_model(folder)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert (loaded.name, loaded.revision) == ("tiny", f"sha256:{digest}")
    assert (loaded.max_context, loaded.vocab_size) == (256, 89)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU auto keeps half precision")
def test_half_precision_weights_are_widened_on_a_cpu_unless_asked_for(folder):
    assert load_model(folder).dtype == "float32"
    assert load_model(folder, dtype="bfloat16").dtype == "bfloat16"
    assert load_model(folder, dtype="float64", device="cpu", name="x").name == "x"


def test_sharded_weights_have_a_revision_of_all_files(lab, tmp_path):
    lab.make_model("qwen3").save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    first = load_model(tmp_path).revision
    shard = sorted(tmp_path.glob("*.safetensors"))[-1]
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x01")
    assert load_model(tmp_path).revision != first


@pytest.mark.parametrize(("name", "length"), [("gpt2", 256), ("qwen3_next", 256), ("bloom", 2**20)])
def test_the_model_s_length_is_found_whatever_it_is_called(lab, name, length):
    assert LoadedModel.of(lab.make_model(name), name=name).max_context == length


def test_a_missing_folder(tmp_path):
    with pytest.raises(NotSupported, match=r"does not exist; give a folder or a Hugging Face id"):
        load_model(tmp_path / "nowhere")


def test_a_file_in_place_of_a_folder(folder):
    with pytest.raises(NotSupported, match="give the folder that holds"):
        load_model(folder / "config.json")


def test_a_folder_without_a_config(tmp_path):
    with pytest.raises(NotSupported, match=r"no config\.json"):
        load_model(tmp_path)


def test_a_folder_without_weights(folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(NotSupported, match=r"no weights.*safetensors"):
        load_model(tmp_path)


def test_cut_off_weights(folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:2000])
    with pytest.raises(EngineFailed, match="weights"):
        load_model(tmp_path)


def test_weights_of_fewer_layers_than_the_config_says_are_never_filled_with_noise(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 4}
    config.pop("layer_types", None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(EngineFailed, match=r"lacks \d+ weights"):
        load_model(tmp_path)


def test_a_model_that_is_no_language_model(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(EngineFailed, match="could not be loaded"):
        load_model(tmp_path)


def test_an_unknown_hub_id(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EngineFailed, match="no-such-owner/no-such-model"):
        load_model("no-such-owner/no-such-model")


@pytest.mark.parametrize("dtype", ["int8", "float"])
def test_an_unknown_dtype(folder, dtype):
    with pytest.raises(NotSupported, match="use one of auto, float32"):
        load_model(folder, dtype=dtype)


@pytest.mark.parametrize("device", ["tpu", "mps", "cuda:99", ""])
def test_a_device_that_is_not_there(folder, device):
    with pytest.raises(NotSupported, match="device"):
        load_model(folder, device=device)
