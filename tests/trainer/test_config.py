"""A run's YAML file: what is refused, and how the message names it."""

from pathlib import Path

import pytest
import yaml

from opera_client.errors import BadInput
from opera_trainer.config import RunConfig, load, packaged


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("name", ["demo", "open-small", "open-smollm2", "gpu-small", "paper-qwen3-8b"])
def test_packaged_configurations_load(name):
    assert load(packaged(name)).name == name


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("name: a\nsede: 1", "sede: is no field here; did you mean `seed`?"),
        ("name: a\ngrpo: {rolouts: 3}", "grpo.rolouts: is no field here; did you mean `rollouts`?"),
        (
            "name: a\ngrpo: {reward: {presett: paper}}",
            "grpo.reward.presett: is no field here; did you mean `preset`?",
        ),
        ("name: a\ngrpo: {rollouts: 0}", "grpo.rollouts"),
        ("name: a\ngrpo: {learning_rate: .nan}", "grpo.learning_rate"),
        ("name: a\nsft: {packing: perhaps}", "sft.packing"),
        ("seed: 1", "name"),
        ("name: a\ngrpo: {prompts: 8, prompts_per_update: 3}", "must divide"),
        ("name: a\ngrpo: {scorer: {model: random, follow: synced}}", "leave `model` out"),
        ("name: a\ngrpo: {scorer: {follow: ema}, lora: {rank: 4}}", "lora"),
        ("[1, 2]", "holds no keys"),
        ("name: [", "is no YAML"),
    ],
)
def test_mistakes_are_named(written, text, where):
    with pytest.raises(BadInput) as caught:
        load(written(text))
    assert where in str(caught.value)
    assert "run.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"cannot read .*nowhere\.yaml: No such file"):
        load(tmp_path / "nowhere.yaml")


def test_overrides_reach_any_depth_and_are_typed(written):
    path = written("name: a\ngrpo: {rollouts: 3}")
    found = load(path, ["grpo.rollouts=7", "grpo.scorer.follow=ema", "seed=4", "synthesis=null", "sft=null"])
    assert found.grpo is not None
    assert (found.grpo.rollouts, found.grpo.scorer.follow, found.seed) == (7, "ema", 4)
    assert found.synthesis is None


@pytest.mark.parametrize(
    "change", ["grpo.rollouts", "=3", "grpo.rolouts=3", "grpo.rollouts=x", "seed=[", "seed.x=1"]
)
def test_wrong_overrides_are_refused(written, change):
    with pytest.raises(BadInput):
        load(written("name: a"), [change])


def test_a_configuration_survives_yaml():
    config = load(packaged("demo"))
    assert RunConfig.model_validate(yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))) == config


def test_the_paper_configuration_has_the_published_numbers():
    grpo = load(packaged("paper-qwen3-8b")).grpo
    assert grpo is not None
    assert (grpo.prompts, grpo.generations, grpo.prompts_per_update) == (64, 16, 8)
    assert (grpo.learning_rate, grpo.warmup, grpo.weight_decay, grpo.kl) == (1e-6, 0.4, 0.01, 0.001)
    assert (grpo.clip, grpo.dual_clip, grpo.temperature, grpo.top_p) == (0.2, 3.0, 1.0, 1.0)
    assert (grpo.max_prompt_length, grpo.max_completion_length) == (6144, 10240)
    assert (grpo.rollouts, grpo.updates) == (26, 208)
    assert grpo.vllm is not None
    assert (grpo.vllm.tensor_parallel, grpo.vllm.memory, grpo.vllm.max_model_length) == (2, 0.4, 16384)
    assert (grpo.reward.preset, grpo.scorer.follow) == ("paper", "synced")
