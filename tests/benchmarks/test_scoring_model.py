"""`bench scoring --model`: what it recommends follows from what it measured, and what it refuses."""

import json
from argparse import ArgumentTypeError

import pytest

import opera_demo
import scoring
import scoring_model
from opera_service.engines.torch.loading import load_model

MODEL = str(opera_demo.model_path())


def test_a_model_s_own_numbers_and_flags(tmp_path, capsys):
    file = tmp_path / "figures.json"
    arguments = [
        "--model",
        MODEL,
        "--shape",
        "2,3,40,6",
        "--shape",
        "1,2,30,4",
        "--trajectories",
        "7200",
        "--quick",
    ]
    assert scoring.main([*arguments, "--json", str(file)]) == 0
    figures, said = json.loads(file.read_text()), capsys.readouterr().out
    assert [row["shape"] for row in figures["rows"]] == [[2, 3, 40, 6], [1, 2, 30, 4]]
    for row in figures["rows"]:
        assert row["tokens"] < row["tokens_naive"]
        assert row["trajectories_per_s"] == pytest.approx(row["shape"][0] / row["seconds"])
        assert row["device_hours"] == pytest.approx(7200 / row["trajectories_per_s"] / 3600)
        assert row["tokens_per_s"] == pytest.approx(row["tokens"] / row["seconds"])
    assert figures["max_batch_tokens"] in scoring_model.QUICK_BUDGETS
    assert figures["memory_mb"] >= 0
    assert figures["weights_mb"] == pytest.approx(3.4, abs=0.5)
    assert f"--model {MODEL} --max-batch-tokens {figures['max_batch_tokens']} --route auto" in said


def test_the_smallest_budget_that_is_fast_enough():
    assert scoring_model.recommended({512: 90.0, 1024: 97.5, 2048: 100.0, 4096: 99.0}) == 1024
    assert scoring_model.recommended({512: 100.0, 1024: 100.0}) == 512


@pytest.mark.parametrize("text", ["", "1,2,3", "a,2,3,4", "0,2,30,4", "1,30,30,4", "1,2,30,0", "1,2,30,4,5"])
def test_a_shape_that_is_none_is_refused(text):
    with pytest.raises(ArgumentTypeError, match="n,S,R,G"):
        scoring_model.shape_of(text)


def test_a_shape_that_the_model_cannot_hold_is_refused_with_the_numbers():
    loaded = load_model(MODEL)
    with pytest.raises(SystemExit, match=str(loaded.max_context)):
        scoring_model.fitting((1, 2, loaded.max_context, 4), loaded)


def test_a_model_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match="does not exist"):
        scoring.main(["--model", str(tmp_path / "none")])
