"""The GPU run, rehearsed: every part at tiny size on a CPU, in an environment like a bare GPU machine's."""

import json
import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from tests.benchmarks.gpu.bare import ABSENT, MACHINE, canonical, carried, closure, make_environment, make_wheels

from gpu import report

# Five parts, each in processes of its own: under a minute on two cores that do nothing else.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[3]
RUN = ROOT / "benchmarks" / "gpu" / "run.sh"


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    return make_environment(tmp_path_factory.mktemp("bare") / "environment")


@pytest.fixture(scope="module")
def rehearsed(python, tmp_path_factory) -> Path:
    """Run all parts, in two processes at a time; return the folder of figures."""
    folder = tmp_path_factory.mktemp("run")
    make_wheels(folder / "carried" / "wheels")
    settings = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHON": str(python), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [RUN, "--dry-run", "--out", folder / parts[0], "--carried", folder / "carried", *parts],
            env=settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for parts in (("exactness", "throughput"), ("over_http", "weight_push", "grpo"))
    ]
    for process in processes:
        said, _ = process.communicate()
        assert process.returncode == 0, said
    for figures in folder.glob("*/*.json"):
        shutil.copy(figures, folder)
    return folder


@pytest.mark.parametrize("package", ["fastapi", "pydantic", "uvicorn", "starlette", "trl", "datasets", "vllm"])
def test_the_environment_is_bare(python, package):
    done = subprocess.run([python, "-c", f"import {package}"], capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError" in done.stderr


def test_the_whole_run_is_rehearsed(rehearsed, tmp_path, capsys):
    """One test, so that no second worker rehearses again."""
    every_part_ran_to_its_end(rehearsed)
    every_table_has_rows_and_every_column_its_figure(rehearsed)
    it_was_exact_and_pushed_its_weights(rehearsed)
    a_rehearsal_never_becomes_evidence(rehearsed, tmp_path, capsys)


def every_part_ran_to_its_end(rehearsed):
    runs = report.read(rehearsed, report.PARTS)
    assert list(runs) == list(report.PARTS)
    for run in runs.values():
        assert run["finished"]
        assert run["dry_run"]


def every_table_has_rows_and_every_column_its_figure(rehearsed):
    runs = report.read(rehearsed, report.PARTS)
    only_on_a_gpu = {"memory_gb"}
    for table in report.TABLES:
        rows = runs[table.part]["tables"][table.name]
        for key, _ in table.columns.values():
            assert all(key in row for row in rows), f"{table.part}.{table.name}.{key}"
            if key not in only_on_a_gpu | {"reward", "gain"}:
                assert all(row[key] is not None for row in rows), f"{table.part}.{table.name}.{key}"
    text = "\n".join(report.report(runs))
    for table in report.TABLES:
        assert f"**{table.title}**" in text


def it_was_exact_and_pushed_its_weights(rehearsed):
    runs = report.read(rehearsed, report.PARTS)
    single = [row for row in runs["exactness"]["tables"]["exactness"] if row["dtype"] == "float32"]
    assert {row["route"] for row in single} == {"naive", "flex", "tree_sdpa", "kv_fork"}
    assert all(row["met"] for row in single)
    (pushed,) = runs["weight_push"]["tables"]["pushed"]
    assert pushed["versions"] == ["0", "1"]
    assert pushed["failed"] == 0
    assert runs["exactness"]["tables"]["tests"][0]["passed"] > 0


def a_rehearsal_never_becomes_evidence(rehearsed, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    assert report.main([str(rehearsed), "--into", str(page)]) == 1
    assert "old" in page.read_text()
    assert "rehearsal" in capsys.readouterr().err


def test_without_a_gpu_only_a_rehearsal_runs(python, tmp_path):
    settings = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHON": str(python),
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [RUN, "--out", tmp_path / "out", "throughput"],
        env=settings, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "--dry-run" in done.stdout


def test_the_carried_wheels_are_all_that_the_service_needs():
    """What the installed service needs is on the machine or in wheels.txt."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = closure([*project["dependencies"], *project["optional-dependencies"]["server"]])
    there = closure(MACHINE) - set(ABSENT) | {canonical(name) for name in carried()}
    assert needed - there == set()


def gpu_run(tmp_path: Path) -> Path:
    """Write what a run on a GPU leaves that was cut in its second part."""
    about = {"date": "2026-01-02 03:04 UTC", "device": "NVIDIA H100", "torch": "2.11.0"}
    run = {"dry_run": False, "seconds": 61.0, "about": about}
    tree = {"point": [2, 16, 2048, 128], "tokens_tree": 8669, "seconds": 0.25, "utilisation": 0.58}
    first = {
        "part": "exactness",
        "finished": True,
        "tables": {"tests": [{"passed": 11, "failed": 0, "exit_code": 0}]},
    }
    second = {
        "part": "throughput",
        "finished": False,
        "tables": {"tree": [tree, {"point": [1, 2, 3, 4], "seconds": None}]},
    }
    for figures in (first, second):
        (tmp_path / f"{figures['part']}.json").write_text(json.dumps(run | figures))
    return tmp_path


def test_what_a_cut_run_had_goes_between_the_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    assert report.main([str(gpu_run(tmp_path)), "--into", str(page)]) == 0
    text = page.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n2026-01-02 03:04 UTC: device NVIDIA H100, torch 2.11.0.\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    assert "| 2,16,2048,128 | – | 8,669 | 0.25 | – | – | 0.58 | – | – |" in text
    assert "| 1,2,3,4 | – | – | – | – | – | – | – | – |" in text
    assert "throughput was cut after 61 s" in text
    assert text.count("**Met.**") == 1
    assert text.count("**Met by what was measured.**") == 1


def test_a_page_without_marks_is_left_alone(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("nothing here\n")
    assert report.main([str(gpu_run(tmp_path)), "--into", str(page)]) == 1
    assert page.read_text() == "nothing here\n"
    assert report.BEGIN in capsys.readouterr().err


def test_a_long_curve_is_thinned_from_its_first_step_to_its_last(tmp_path):
    run = json.loads((gpu_run(tmp_path) / "exactness.json").read_text())
    run |= {"part": "grpo", "tables": {"curve": [{"step": step} for step in range(1, 51)]}}
    steps = [line.split("|")[2].strip() for line in report.report({"grpo": run}) if line.startswith("| ")]
    assert len(steps) == 1 + 24
    assert steps[1] == "1"
    assert steps[-1] == "50"


def test_the_model_in_parts_needs_all_of_them(tmp_path):
    smollm2 = pytest.importorskip("gpu.smollm2", reason="gguf is not installed")
    with pytest.raises(SystemExit, match=r"prepare\.sh"):
        smollm2.unpack(tmp_path, tmp_path / "model")
    (tmp_path / "part-00").write_bytes(b"half of an archive")
    with pytest.raises(SystemExit, match="lacks a part: 1"):
        smollm2.unpack(tmp_path, tmp_path / "model")


def test_help_says_what_the_parts_are():
    done = subprocess.run([RUN, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    for part in report.PARTS:
        assert part in done.stderr
