"""`opera-reward score` as a user meets it: a process, files, an exit code, one line when something is wrong."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.conftest import environment
from tests.client.toy import MODEL, group, refusal, toy_reward


def write_jsonl(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def rewards(records):
    return [[t.get("reward") for t in r["trajectories"]] for r in records]


@pytest.fixture
def groups(tmp_path):
    return write_jsonl(tmp_path / "in.jsonl", [group("a" * n, "b" * (n + 1)) for n in range(1, 31)])


EXPECTED = [[toy_reward("a" * n), toy_reward("b" * (n + 1))] for n in range(1, 31)]


def test_all_scored_is_0_and_every_group_is_in_out_in_order(cli, url, groups, tmp_path):
    out = tmp_path / "out.jsonl"
    done = cli("score", groups, "-o", out, "--url", url)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "30 done" in done.stderr
    assert "60 trajectories scored" in done.stderr
    records = read_jsonl(out)
    assert rewards(records) == EXPECTED
    assert [r["group_id"] for r in records] == [str(i) for i in range(30)]
    assert all(r["run"]["model"] == MODEL and r["run"]["reward"] == "opera" for r in records)


def test_without_out_the_records_go_to_stdout_and_nothing_else(cli, url, groups):
    done = cli("score", groups, OPERA_REWARD_URL=url)
    assert done.returncode == 0
    assert rewards(json.loads(line) for line in done.stdout.splitlines()) == EXPECTED
    assert "\x1b" not in done.stderr


def test_settings_and_key_reach_the_service(cli, url, service, groups):
    argv = ["--reward", "logprob", "--preset", "paper", "--detail", "tokens"]
    argv += ["--config", "x=1.5", "--config", "y=no", "--config", '{"x": 2, "z": [1]}']
    assert cli("score", groups, "--url", url, *argv, OPERA_API_KEY="secret").returncode == 0
    asked = service.seen[-1]
    assert (asked["reward"], asked["preset"], asked["detail"]) == ("logprob", "paper", "tokens")
    assert asked["config"] == {"x": 2, "y": "no", "z": [1]}
    assert asked["weight_version"] == MODEL["weight_version"]
    assert {h["authorization"] for h in service.headers} == {"Bearer secret"}


def test_some_failed_is_1_and_they_are_in_out_with_their_errors(cli, url, tmp_path):
    file = write_jsonl(tmp_path / "in.jsonl", [group("a", ""), group("b")])
    out = tmp_path / "out.jsonl"
    done = cli("score", file, "-o", out, "--url", url)
    assert done.returncode == 1
    assert "1 failed (1 empty_response)" in done.stderr
    assert read_jsonl(out)[0]["trajectories"][1]["error"]["code"] == "empty_response"
    again = cli("score", file, "-o", out, "--url", url)
    assert again.returncode == 1, "what failed the first time is still failed"
    assert rewards(read_jsonl(out)) == [[0.01, None], [0.01]]


def test_a_request_that_fails_is_recorded_and_its_neighbours_are_scored(cli, url, service, tmp_path):
    file = write_jsonl(tmp_path / "in.jsonl", [group("a"), group("bb"), group("ccc")])
    out = tmp_path / "out.jsonl"

    def fail(request):
        second = request.get("groups", [{}])[0].get("group_id") == "1"
        return refusal(413, "body_too_large") if second else None

    service.fail = fail
    done = cli("score", file, "-o", out, "--url", url)
    assert done.returncode == 1
    assert rewards(read_jsonl(out)) == [[0.01], [None], [0.03]]
    assert read_jsonl(out)[1]["trajectories"][0]["error"]["code"] == "body_too_large"


BAD_FILES = {
    "half-written": (b'{"prompt": "p", "reference": "r", "trajectories": [{"respo', "line 1", "half-written"),
    "broken": (b'{"prompt": p}\n{}\n', "line 1", "not JSON"),
    "cut short": (b'{"prompt": "p"\r\n', "line 1", "at column 15"),
    "open text": (b'{"prompt": "p\n', "line 1", "Unterminated string starting at column 12;"),
    "second line": (json.dumps(group("a")).encode() + b"\n[1]\n", "line 2", "object"),
    "latin-1": ('{"prompt": "é"}\n'.encode("latin-1"), "line 1", "not UTF-8"),
    "utf-16": ('{"prompt": "p"}\n'.encode("utf-16"), "line 1", "not UTF-8"),
    "empty": (b"", "empty", "JSON object"),
    "blank": (b"\n \n", "empty", "JSON object"),
    "nan": (b'{"prompt": NaN}\n', "line 1", "NaN"),
    "no response": (b'{"prompt": "p", "reference": "r"}\n', "line 1", "response"),
    "no prompt": (b'{"reference": "p", "response": "r"}\n', "line 1", "prompt"),
    "deep": (b'{"prompt": ' + b"[" * 100_000 + b"\n", "line 1", ""),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_input_is_2_with_file_line_and_remedy_and_nothing_is_asked(cli, url, service, tmp_path, name):
    content, place, what = BAD_FILES[name]
    file = tmp_path / "in.jsonl"
    file.write_bytes(content)
    done = cli("score", file, "-o", tmp_path / "out.jsonl", "--url", url)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "in.jsonl" in done.stderr
    assert place in done.stderr
    assert what in done.stderr
    assert service.seen == []
    assert not (tmp_path / "out.jsonl").exists()


def test_bad_usage_is_2_in_one_line(cli, url, groups, tmp_path):
    before = groups.read_bytes()
    cases = [
        (("score", tmp_path / "none.jsonl"), "does not exist"),
        (("score", tmp_path), "directory"),
        (("score", groups, "-o", tmp_path), "directory"),
        (("score", groups, "-o", groups), "input file"),
        (("score", groups, "-o", tmp_path / "no" / "out.jsonl"), "cannot write"),
        (("score", groups, "-o", "/dev/full"), "no regular file"),
        (("score", groups, "-o", tmp_path / "out.jsonl.gz"), "give -o a name without .gz"),
        (("score", groups, "--config", "oops"), "key=value"),
        (("score", groups, "--config", "{oops"), "not JSON"),
        (("score", groups, "--engine", "dummy"), "--engine"),
        (("score", groups, "--plot", tmp_path / "no" / "plot.html"), "folder"),
        (("score", groups, "--plot", tmp_path), "directory"),
        (("score", groups, "--plot", groups), "is the input file; choose another --plot"),
        (("score", groups, "-o", tmp_path / "o", "--plot", tmp_path / "o"), "is what -o writes"),
        (("score", groups, "--concurrency", "-1", "--timeout", "-1"), ""),
    ]
    for argv, what in cases:
        done = cli(*argv, "--url", url)
        assert done.returncode == 2, (argv, done.stderr)
        assert what in done.stderr
    assert cli("score", groups, "--url", "localhost:1").returncode == 2
    assert groups.read_bytes() == before


def test_a_full_disk_behind_stdout_is_one_line(groups, url):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "opera_cli", "score", str(groups), "--url", url],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False, env=environment(),
        )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "cannot write to standard output: No space left on device; mend that, or give -o" in line


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_an_unreachable_service_is_3(cli, groups, address):
    done = cli("score", groups, "--url", address)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert address in done.stderr


def test_a_stranger_at_the_address_is_3(cli, url, service, groups):
    service.script = [(200, {}, b"<html>hello</html>")]
    done = cli("score", groups, "--url", url)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1


def test_a_refused_key_is_2(cli, url, service, groups):
    service.script = [refusal(401, "unauthorized")]
    assert cli("score", groups, "--url", url).returncode == 2


def test_an_unknown_reward_is_2_and_out_stays_fit_for_another_try(cli, url, service, groups, tmp_path):
    out = tmp_path / "out.jsonl"
    service.fail = lambda request: refusal(404, "not_found") if request.get("groups") else None
    assert cli("score", groups, "-o", out, "--url", url).returncode == 2
    service.fail = lambda request: None
    assert cli("score", groups, "-o", out, "--url", url).returncode == 0
    assert rewards(read_jsonl(out)) == EXPECTED


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_goes_on_without_loss_or_repetition(
    cli, stopped_midway, url, service, groups, tmp_path, number
):
    out = tmp_path / "out.jsonl"
    argv = ["score", groups, "-o", out, "--url", url, "--concurrency", "2"]
    service.delay = lambda: 0.03
    ended = stopped_midway(number, out, 7, argv)
    if number == signal.SIGINT:
        assert ended.returncode == 130
        assert "interrupted" in ended.stderr
        assert str(out) in ended.stderr
        assert "Traceback" not in ended.stderr
    done_before = out.read_bytes().count(b"\n")
    assert 7 <= done_before < 30
    service.delay = lambda: 0.0
    before = len(service.seen)
    done = cli(*argv)
    assert done.returncode == 0
    assert "going on after" in done.stderr
    assert "60 trajectories scored" in done.stderr
    assert rewards(read_jsonl(out)) == EXPECTED
    asked = [r for r in service.seen[before:] if r.get("groups")]
    assert len(asked) == 30 - done_before


def test_a_whole_out_is_left_as_it_is(cli, url, service, groups, tmp_path):
    out = tmp_path / "out.jsonl"
    assert cli("score", groups, "-o", out, "--url", url).returncode == 0
    content, asked = out.read_bytes(), len(service.seen)
    assert cli("score", groups, "-o", out, "--url", url).returncode == 0
    assert out.read_bytes() == content
    assert not [r for r in service.seen[asked:] if r.get("groups")]


def test_an_out_of_other_weights_settings_or_input_is_never_continued(cli, url, service, groups, tmp_path):
    out = tmp_path / "out.jsonl"
    assert cli("score", groups, "-o", out, "--url", url).returncode == 0
    content = out.read_bytes()
    other = write_jsonl(tmp_path / "other.jsonl", [group("zzz")])
    cases = [
        ((groups, "--preset", "paper"), "preset"),
        ((groups, "--config", "x=1"), "config"),
        ((other,), "another input"),
    ]
    for argv, what in cases:
        done = cli("score", *argv, "-o", out, "--url", url)
        assert done.returncode == 2
        assert what in done.stderr
    service.answer, real = (
        (lambda path, request: real(path, request) | ({"weight_version": "8"} if path == "/model" else {})),
        service.answer,
    )
    done = cli("score", groups, "-o", out, "--url", url)
    assert done.returncode == 2
    assert 'weight_version "7", not "8"' in done.stderr
    assert out.read_bytes() == content


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_of_two_commands_with_one_out_the_second_is_refused_and_harms_nothing(
    cli, url, service, groups, tmp_path, name
):
    out = tmp_path / name
    service.hold = lambda request: len(service.seen) > 4 and "groups" in request  # so the first is not done yet
    command = [sys.executable, "-m", "opera_cli", "score", groups, "-o", out, "--url", url, "--concurrency", "1"]
    first = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True)
    growing = out if name.endswith("jsonl") else out.with_name(out.name + ".partial.jsonl")
    while not growing.exists() or not growing.read_bytes():
        assert first.poll() is None
        time.sleep(0.01)
    second = cli("score", groups, "-o", out, "--url", url)
    assert first.poll() is None, "the first had ended already"
    assert second.returncode == 2
    assert second.stderr.splitlines()[-1] == (
        f"opera-reward score: {growing} is being written by another command; wait for it, or choose another -o"
    )
    service.hold = lambda request: False
    assert first.communicate(timeout=60)[1].endswith(f"-> {out}\n")
    assert first.returncode == 0
    assert cli("score", groups, "-o", out, "--url", url).returncode == 0  # it is free again
    if name.endswith("jsonl"):
        assert rewards(read_jsonl(out)) == EXPECTED


def test_a_dash_is_standard_input_and_output(url, groups, tmp_path):
    command = [sys.executable, "-m", "opera_cli", "score", "-", "-o", "-", "--url", url]
    with groups.open() as given:
        done = subprocess.run(
            command, stdin=given, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
        )
    assert done.returncode == 0, done.stderr
    assert rewards(json.loads(line) for line in done.stdout.splitlines()) == EXPECTED
    assert not (tmp_path / "-").exists()


def test_what_is_wrong_in_standard_input_is_told_by_line(url, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "opera_cli", "score", "-", "--url", url],
        input="\n[]\n", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "standard input, line 2: a JSON object is needed" in done.stderr


@pytest.mark.parametrize("content", [b"my notes", b"my notes\n", b'{"a": 1}\n', b"\x00\xff"])
def test_a_strangers_file_is_never_touched(cli, url, groups, tmp_path, content):
    out = tmp_path / "out.jsonl"
    out.write_bytes(content)
    done = cli("score", groups, "-o", out, "--url", url)
    assert done.returncode == 2
    assert "another -o" in done.stderr
    assert out.read_bytes() == content


def test_a_reader_that_leaves_early_is_no_error_message(cli, url, groups):
    command = f"{sys.executable} -m opera_cli score {groups} --url {url} | head -c 10"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    assert "Broken" not in done.stderr


def test_a_row_without_reference_is_named_before_anything_is_asked(cli, tmp_path):
    rows = [{"prompt": "p", "reference": "r", "response": "a"}, {"prompt": "q", "response": "b"}]
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused = cli("score", path, "-o", out, "--engine", "dummy")
    assert refused.returncode == 2
    assert "in.jsonl, line 2: opera needs a reference" in refused.stderr
    assert not out.exists()
    assert cli("score", path, "-o", out, "--engine", "dummy", "--reward", "rent").returncode == 0
