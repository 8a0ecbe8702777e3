"""The root command, `rank`, commands of other rooms, options, and Parquet results."""

import json
import subprocess
import sys
from importlib.metadata import EntryPoint

import pyarrow.parquet as pq
import pytest
from tests.client.toy import group

from opera_cli import plugins
from opera_cli.options import parse_config
from opera_client.errors import BadInput


def write_jsonl(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_help_names_every_command_and_imports_nothing_heavy(cli):
    done = cli("--help")
    assert done.returncode == 0
    for word in ("score", "rank", "demo", "serve"):
        assert word in done.stdout
    code = """
import sys
from opera_cli.main import build
build()
names = ("torch", "transformers", "numpy", "pyarrow", "fastapi", "uvicorn")
heavy = [name for name in names if name in sys.modules]
sys.exit(str(heavy) if heavy else 0)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "argv", [["sing"], ["score"], ["score", "f", "--sing"], ["score", "f", "--detail", "all"]]
)
def test_wrong_usage_is_2(cli, argv):
    assert cli(*argv).returncode == 2


def test_version(cli):
    assert cli("--version").stdout.strip().count(".") == 2


def test_rank_orders_and_goes_on(cli, url, service, tmp_path):
    lines = [{"prompt": "p", "candidates": ["x" * k, "y" * (k + 1)]} for k in range(1, 6)]
    file, out = write_jsonl(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl"
    done = cli("rank", file, "-o", out, "--url", url)
    assert done.returncode == 0
    assert "10 candidates scored" in done.stderr
    content = out.read_bytes()
    assert [json.loads(line)["ranking"] for line in content.splitlines()] == [[1, 0]] * 5
    out.write_bytes(content[: len(content) // 2])
    assert cli("rank", file, "-o", out, "--url", url).returncode == 0
    assert out.read_bytes() == content


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_a_parquet_result_holds_what_json_lines_would_and_is_gone_on_with(cli, url, service, tmp_path, cut):
    file = write_jsonl(tmp_path / "in.jsonl", [group("a", ""), group("bb", "c", "d"), group("")])
    plain, out = tmp_path / "out.jsonl", tmp_path / "out.parquet"
    assert cli("score", file, "-o", plain, "--url", url).returncode == 1
    content = plain.read_bytes().splitlines(keepends=True)
    (tmp_path / "out.parquet.partial.jsonl").write_bytes(b"".join(content[:cut]) + b'{"input":"ab')
    assert cli("score", file, "-o", out, "--url", url).returncode == 1
    rows = pq.read_table(out).to_pylist()
    for row, line in zip(rows, map(json.loads, content), strict=True):
        assert json.loads(row["run"]) == line["run"]
        assert row["group_id"] == line["group_id"]
        assert [t["reward"] for t in row["trajectories"]] == [t.get("reward") for t in line["trajectories"]]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl", "out.parquet"]
    asked = len(service.seen)
    assert cli("score", file, "-o", out, "--url", url).returncode == 1, "whole already; its failures still count"
    assert not [request for request in service.seen[asked:] if request.get("groups")]
    assert pq.read_table(out).to_pylist() == rows
    done = cli("score", file, "-o", out, "--url", url, "--preset", "paper")
    assert done.returncode == 2
    assert 'preset "hardened", not "paper"' in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl", "out.parquet"]


@pytest.mark.parametrize(
    ("given", "config"),
    [
        ([], {}),
        (["a=1"], {"a": 1}),
        (["a=text", "b=true", 'c="1"', "d="], {"a": "text", "b": True, "c": "1", "d": ""}),
        (["a.b=1", "a.c=[2]", '{"a": {"d": 3}, "e": null}'], {"a": {"b": 1, "c": [2], "d": 3}, "e": None}),
        (["a=1", "a=2"], {"a": 2}),
    ],
)
def test_config_is_read_as_json_where_it_can_be(given, config):
    assert parse_config(given) == config


@pytest.mark.parametrize("given", ["a", "=1", "{", "[1]"])
def test_a_config_that_is_neither_form_is_refused(given):
    with pytest.raises(BadInput):
        parse_config([given])


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    def make(body: str) -> EntryPoint:
        (tmp_path / "their_command.py").write_text(body)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "their_command", raising=False)
        return EntryPoint("theirs", "their_command:run", plugins.GROUP)

    return make


def test_a_command_of_another_room_gets_its_arguments_and_gives_the_code(plugin):
    entry = plugin("def run(argv):\n    '''Do it.\n\n    More.\n    '''\n    return len(argv)\n")
    assert plugins.summary(entry) == "Do it."
    assert plugins.call(entry, ["--a", "b"]) == 2


def test_its_help_is_read_without_running_it(plugin):
    entry = plugin("import no_such_module\nraise SystemExit\ndef run(argv):\n    '''Still here.'''\n")
    assert plugins.summary(entry) == "Still here."


@pytest.mark.parametrize(("module", "extra"), [("torch", "server"), ("vllm.engine", "vllm"), ("peft", "trainer")])
def test_a_missing_extra_is_one_line_that_names_it(plugin, module, extra):
    entry = plugin(f"def run(argv):\n    raise ModuleNotFoundError('No module', name={module!r})\n")
    with pytest.raises(BadInput, match=rf"pip install 'opera-reward\[{extra}\]'"):
        plugins.call(entry, [])


def test_a_defect_of_ours_is_not_a_missing_extra(plugin):
    entry = plugin("import opera_service.no_such_room\ndef run(argv):\n    return 0\n")
    with pytest.raises(ModuleNotFoundError):
        plugins.call(entry, [])


def test_there_is_a_bar_on_a_terminal_and_none_in_a_pipe(url, service, tmp_path):
    service.delay = lambda: 0.05
    file = write_jsonl(tmp_path / "in.jsonl", [group("a")] * 8)
    command = f"{sys.executable} -m opera_cli score {file} -o {tmp_path}/out --url {url} --concurrency 1"
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"], capture_output=True, text=True, timeout=60, check=False
    )
    assert "8/8" in done.stdout
    (tmp_path / "out").unlink()
    done = subprocess.run(command.split(), capture_output=True, text=True, timeout=60, check=False)
    assert len(done.stderr.splitlines()) == 1
