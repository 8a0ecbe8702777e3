"""What the files of a model tell before it is loaded is what it says once it is loaded."""

from pathlib import Path

from opera_client import RewardClient
from opera_service.model_store.folders import EMBEDDED
from opera_service.server.backends import foretold
from opera_service.server.settings import Settings


def test_a_model_is_foretold_as_it_is_loaded(tmp_path: Path):
    copy = tmp_path / "mine"
    copy.mkdir()
    for file in Path(EMBEDDED).iterdir():
        (copy / file.name).symlink_to(file)
    for given in ({}, {"model": str(copy), "dtype": "float64", "weight_version": "7"}):
        told = foretold(Settings(**given))
        with RewardClient.in_process(**given) as client:
            served = client.model().model_dump()
        assert told is not None
        assert told == {name: served[name] for name in told}
        assert {"name", "revision", "weight_version", "engine"} <= told.keys()


def test_what_files_do_not_tell_is_not_foretold(tmp_path: Path):
    (tmp_path / "config.json").touch()
    assert foretold(Settings(engine="dummy")) is None
    assert foretold(Settings(model="some/hub-id")) is None
    assert foretold(Settings(model=str(tmp_path))) is None
    assert foretold(Settings(second_model="demo")) is None
