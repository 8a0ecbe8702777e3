"""`opera-reward check` as a user runs it: a verdict, numbers, files; a journal to go on with; clear refusals."""

import json
from pathlib import Path

import pytest

from opera_service.check import measuring
from opera_service.check.command import run

WORDS = [
    "the",
    "rain",
    "falls",
    "on",
    "a",
    "quiet",
    "street",
    "and",
    "people",
    "open",
    "their",
    "umbrellas",
    "while",
    "the",
    "bus",
    "is",
    "late",
    "again",
]
WHOLE = {"prompt": "p", "reference": "r", "trajectories": [{"response": "x"}]}


def groups(count: int) -> list[dict]:
    def text(seed: int) -> str:
        return " ".join(WORDS[(seed * 7 + at * 3) % len(WORDS)] for at in range(12))

    return [
        {
            "group_id": f"q{number}",
            "prompt": f"Say something about rain, please, number {number}.",
            "reference": text(number),
            "trajectories": [
                {"id": str(at), "response": f"<think>\n{text(number + at)}\n\n</think>\n\n{text(at)}", "grade": at}
                for at in range(3)
            ],
        }
        for number in range(count)
    ]


def written(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return written(tmp_path / "groups.jsonl", groups(4))


def check(data: Path, *more: object) -> int:
    return run([str(data), "--engine", "dummy", "--attacked", "1", *map(str, more)])


def test_the_findings_are_on_the_terminal_in_json_and_on_a_page(data, tmp_path, capsys):
    code = check(data, "--json", tmp_path / "out.json", "--html", tmp_path / "out.html")
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "out.json").read_text())
    assert code == {"ok": 0, "warning": 1, "unfit": 2}[found["verdict"]]
    sections = {row["section"] for row in found["findings"]}
    assert sections == {"signal", "farming", "format", "cost"}
    for row in found["findings"]:
        assert row["name"] in said
        assert row["low"] is None or row["low"] <= row["value"] <= row["high"]
    page = (tmp_path / "out.html").read_text()
    assert "not whether it is true" in page
    assert "<script" not in page


def test_grades_are_compared_with_the_rewards(data, tmp_path):
    check(data, "--json", tmp_path / "out.json")
    rows = {row["name"]: row for row in json.loads((tmp_path / "out.json").read_text())["findings"]}
    assert 0 <= rows["agreement with the given grades"]["value"] <= 1


def test_thresholds_decide_the_exit_code(data):
    lenient = ["--informative", 0, 0, "--farmed", 1, 1, "--agreement", 0, 0, "--gated", 1, 1]
    assert check(data, *lenient) == 1  # four groups are few
    lenient += ["--enough", 4, 4]
    assert check(data, *lenient) == 0
    assert check(data, *lenient, "--enough", 6, 5) == 2
    assert check(data, *lenient, "--agreement", 1.1, 1.05) == 2
    assert check(data, *lenient, "--agreement", 1.1, 0) == 1


def test_a_threshold_that_nothing_can_pass_is_refused(data, capsys):
    assert check(data, "--farmed", "nan", 0.25) == 2
    assert "--farmed needs two numbers, not nan" in capsys.readouterr().err


def test_responses_without_a_thought_are_named_as_the_cause(tmp_path, capsys):
    rows = groups(2)
    for row in rows:
        for one in row["trajectories"]:
            one["response"] = "no thought at all"
    assert check(written(tmp_path / "plain.jsonl", rows)) == 2
    assert "think.mode" in " ".join(capsys.readouterr().out.split())


def test_an_interrupted_check_goes_on_with_what_was_scored(data, tmp_path, monkeypatch):
    journal = tmp_path / "journal.jsonl"
    first = check(data, "--journal", journal)
    kept = journal.read_text()
    journal.write_text(kept[: len(kept) - 40])  # killed while it wrote
    asked = []
    ask = measuring.AsyncRewardClient.reward

    async def counted(self, *args, **more):
        asked.append(args)
        return await ask(self, *args, **more)

    monkeypatch.setattr(measuring.AsyncRewardClient, "reward", counted)
    assert check(data, "--journal", journal) == first
    assert len(asked) == 1, "only the torn line was asked again"
    assert check(data, "--journal", journal) == first
    assert len(asked) == 1, "what was asked again is kept"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "p", "reference": "r", "completion": "x"}, "give `response`"),
        (WHOLE | {"trajectories": [{"response": "x", "grade": float("nan")}]}, "finite number"),
        (WHOLE | {"trajectories": [{"respons": "x"}]}, "respons: is no field here"),
        (WHOLE | {"preferences": 3}, "pairs of positions"),
        (WHOLE | {"preferences": [[0.0, 0]]}, "pairs of positions"),
        ({"prompt": "p", "trajectories": [{"response": "x"}]}, "reference"),
        (
            {"prompt": "p", "reference": "r", "trajectories": [{"response": "x", "grade": "good"}]},
            "grade is a finite number",
        ),
        (
            {"prompt": "p", "reference": "r", "trajectories": [{"response": "x"}], "preferences": [[0, 3]]},
            "positions",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path, capsys, row, said):
    assert check(written(tmp_path / "bad.jsonl", [row])) == 2
    error = capsys.readouterr().err
    assert "line 1" in error
    assert said in error


def flat(rows: list[dict]) -> list[dict]:
    shared = ("group_id", "prompt", "reference")
    return [{name: row[name] for name in shared} | one for row in rows for one in row["trajectories"]]


def test_flat_rows_are_the_groups_they_belong_to(data, tmp_path, capsys):
    rows = flat(groups(4))
    check(data, "--json", tmp_path / "nested.json")
    check(written(tmp_path / "flat.jsonl", [row | {"note": 1} for row in rows]), "--json", tmp_path / "flat.json")
    assert "fields that are not used: note" in capsys.readouterr().err
    nested, found = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("nested", "flat"))
    told = [[row for row in one["findings"] if row["section"] != "cost"] for one in (nested, found)]
    assert told[0] == told[1]
    assert "agreement with the given grades" in {row["name"] for row in told[1]}
    other = [*rows[:1], rows[1] | {"reference": "another"}]
    assert check(written(tmp_path / "other.jsonl", other)) == 2
    assert "line 2: another prompt, reference or task than line 1" in capsys.readouterr().err


def test_a_wrong_setting_is_not_told_about_a_line(data, capsys):
    assert check(data, "--config", "think.mod=none") == 2
    error = capsys.readouterr().err
    assert "(field config.think.mod)" in error
    assert "line" not in error


def test_equal_members_get_no_temperature(tmp_path, capsys):
    rows = groups(1)
    rows[0]["trajectories"] = [{"response": "<think>\na\n\n</think>\n\nb"}] * 2
    check(written(tmp_path / "equal.jsonl", rows))
    assert "comparison.temperature" not in capsys.readouterr().out


def test_a_file_that_is_no_journal_is_refused_and_stays(data, capsys):
    before = data.read_bytes()
    copy = data.with_name("copy.jsonl")
    copy.write_bytes(before)
    assert check(data, "--journal", copy) == 2
    assert "is not the journal of a check; choose another --journal" in capsys.readouterr().err
    assert copy.read_bytes() == before


def test_a_missing_file_is_one_line(tmp_path, capsys):
    assert check(tmp_path / "none.jsonl") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_nothing_is_written_over_what_is_read_or_written_beside_it(data, tmp_path, capsys):
    before, both = data.read_bytes(), tmp_path / "both"
    for option in ("--json", "--html", "--journal"):
        assert check(data, option, data) == 2
        assert f"is the input file; choose another {option}" in capsys.readouterr().err
    assert check(data, "--json", both, "--html", both) == 2
    assert "is what --html writes; choose another --json" in capsys.readouterr().err
    assert data.read_bytes() == before
    assert not both.exists()


@pytest.mark.parametrize("option", ["--json", "--html", "--journal"])
def test_a_file_that_cannot_be_written_is_told_before_the_work(data, tmp_path, capsys, monkeypatch, option):
    monkeypatch.setattr(measuring, "measure", None)  # is never come to
    assert check(data, option, tmp_path / "no" / "file") == 2
    assert f"its folder does not exist; choose another {option}" in capsys.readouterr().err
    assert check(data, option, tmp_path) == 2
    assert f"is a directory; give a file name for {option}" in capsys.readouterr().err


def test_a_text_of_somebody_is_no_journal_and_stays(data, tmp_path, capsys):
    for content in (b"my notes\nof today\n", b"\xff\xfe\x00"):
        notes = tmp_path / "notes.txt"
        notes.write_bytes(content)
        assert check(data, "--journal", notes) == 2
        assert "is not the journal of a check; choose another --journal" in capsys.readouterr().err
        assert notes.read_bytes() == content
