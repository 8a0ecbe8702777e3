"""What --model may name, without any download."""

from pathlib import Path

import pytest

from opera_client.errors import NotFound, NotSupported
from opera_service.model_store.cache import cache_home, is_complete, written_whole
from opera_service.model_store.folders import model_folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPERA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_cache_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path):
    assert cache_home() == home
    assert cache_home(tmp_path / "flag") == tmp_path / "flag"
    monkeypatch.delenv("OPERA_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_home() == tmp_path / "xdg" / "opera-reward"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_home() == Path.home() / ".cache" / "opera-reward"


def test_the_embedded_model_has_a_name_unless_a_folder_here_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    assert Path(model_folder("demo"), "config.json").is_file()
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "other.py").touch()
    # A folder without a model, as in this project's clone.
    assert Path(model_folder("demo"), "config.json").is_file()
    (tmp_path / "demo" / "config.json").touch()
    assert model_folder("demo") == "demo"


@pytest.mark.parametrize("source", ["org/model", "./model"])
def test_what_transformers_loads_itself_stays(source: str):
    assert model_folder(source) == source


def test_a_path_that_leads_nowhere_is_said_before_anything_is_imported():
    with pytest.raises(NotFound, match="model /no/such/folder: there is no such file or folder"):
        model_folder("/no/such/folder")


def test_a_fetchable_model_that_was_not_fetched_names_the_command():
    with pytest.raises(NotSupported, match="opera-reward fetch-model smollm2"):
        model_folder("smollm2")


def test_a_fetched_model_is_its_folder(home: Path):
    made = home / "models" / "smollm2"
    made.mkdir(parents=True)
    (made / "config.json").touch()
    assert model_folder("smollm2") == str(made)


def test_a_folder_of_the_same_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2").mkdir()
    (tmp_path / "smollm2" / "config.json").touch()
    assert model_folder("smollm2") == "smollm2"


def test_of_several_gguf_files_one_must_be_given(tmp_path: Path):
    for name in ("q4.gguf", "q8.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(NotSupported, match=r"holds 2 GGUF files \(q4.gguf, q8.gguf\)"):
        model_folder(str(tmp_path))


def test_a_model_with_a_configuration_is_no_gguf_folder(tmp_path: Path):
    for name in ("q4.gguf", "config.json"):
        (tmp_path / name).touch()
    assert model_folder(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [("m-00001-of-00002.gguf", "one part of several"), ("broken.gguf", "cannot be converted")],
)
def test_a_gguf_file_that_cannot_be_used_names_the_way(tmp_path: Path, home: Path, name: str, words: str):
    (tmp_path / name).write_bytes(b"GGUF, but not really")
    with pytest.raises(NotSupported, match=f"{words}.*save_pretrained"):
        model_folder(str(tmp_path / name))
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_a_folder_appears_when_it_is_whole(home: Path):
    folder = home / "models" / "x"

    def cut_short() -> None:
        with written_whole(folder) as draft:
            (draft / "config.json").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        cut_short()
    assert list(folder.parent.iterdir()) == []
    with written_whole(folder) as first, written_whole(folder) as second:
        (first / "config.json").write_text("1")
        (second / "config.json").write_text("2")
    assert is_complete(folder)
    assert (folder / "config.json").read_text() == "2"  # the inner block ended first
    assert [path.name for path in folder.parent.iterdir()] == ["x"]


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(NotSupported, match="OPERA_HOME"), written_whole(tmp_path / "file" / "x"):
        pass
