"""`opera-reward bench` finds the repository's benchmarks and passes their options and exit codes on."""

import pytest

from opera_cli import bench


@pytest.mark.parametrize("name", bench.Benchmark)
def test_every_named_benchmark_exists_and_explains_itself(name, capsys):
    assert bench.run([name, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_a_wrong_option_is_bad_usage():
    assert bench.run(["serving", "--no-such-option"]) == 2


def test_an_unknown_benchmark_is_refused_with_the_known_ones(capsys):
    assert bench.run(["speed"]) == 2
    said = capsys.readouterr().err
    assert "'speed'" in said
    assert all(name in said for name in bench.Benchmark)
