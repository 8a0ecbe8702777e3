"""One tree of settings: flags, environment, file and defaults, in that order."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from opera_service.server.flags import load_settings
from opera_service.server.setting_groups import GROUPS
from opera_service.server.settings import Settings, SettingsError


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*Settings.model_fields, "config"]:
        monkeypatch.delenv(f"OPERA_{name.upper()}", raising=False)


def test_defaults_serve_the_embedded_model_on_this_machine_only():
    settings = load_settings([])
    assert (settings.host, settings.port, settings.engine, settings.route) == ("127.0.0.1", 8000, "torch", "auto")
    assert settings.model is None
    assert settings.model_path.endswith("opera_demo/model")
    assert settings.keys == ()


def test_a_flag_wins_over_the_environment_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "opera.yaml"
    file.write_text("port: 1\nhost: from-file\nweight_version: from-file\n")
    monkeypatch.setenv("OPERA_PORT", "2")
    monkeypatch.setenv("OPERA_HOST", "from-env")
    settings = load_settings(["--config", str(file), "--port", "3"])
    assert (settings.port, settings.host, settings.weight_version) == (3, "from-env", "from-file")


def test_the_file_can_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "opera.yaml"
    file.write_text("engine: dummy\n")
    monkeypatch.setenv("OPERA_CONFIG", str(file))
    assert load_settings([]).engine == "dummy"


def test_every_field_is_a_flag_and_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    odd = {
        "port": "81", "engine": "dummy", "route": "naive", "dtype": "float64", "log_level": "debug",
        "log_format": "json", "overload_status": "503",
        "weights_mode": "in_place", "policy_root": str(tmp_path),
    }  # fmt: skip
    for name, field in Settings.model_fields.items():
        # They must exist, are a tree of their own, or go with another one; tested below.
        if name.endswith("file") or name in ("vllm", "second_device"):
            continue
        value = "true" if field.annotation is bool else odd.get(name, "7")
        from_flag = getattr(load_settings([f"--{name.replace('_', '-')}", value]), name)
        monkeypatch.setenv(f"OPERA_{name.upper()}", value)
        assert from_flag == getattr(load_settings([]), name) != field.default
        monkeypatch.delenv(f"OPERA_{name.upper()}")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--colour", "red"], "--colour"),
        (["--por", "1"], "--por"),
        (["--port", "70000"], "port"),
        (["--port", "eighty"], "port"),
        (["--engine", "steam"], "--engine"),
        (["--max-batch-tokens", "0"], "max_batch_tokens"),
        (["--engine", "dummy", "--route", "kept_trunks"], "route"),
        (["--second-device", "cpu"], "second_device: there is no --second-model"),
        (["--api-key-file", "/nowhere/keys"], "api_key_file"),
        (["--admin-key-file", "/nowhere/keys"], "admin_key_file"),
        (["--api-keys", "one,two", "--admin-keys", "two"], "admin_keys"),
        (["--policy-root", "/nowhere"], "/nowhere"),
        (["--ssl-keyfile", "/nowhere/key.pem"], "--ssl-certfile"),
        (["--ssl-certfile", "/nowhere/cert.pem"], "/nowhere/cert.pem"),
        (["--allow-open", "perhaps"], "allow_open"),
        (["--config", "/nowhere/opera.yaml"], "/nowhere/opera.yaml"),
        (["--port"], "--port"),
        (["--max-body-mb", "inf"], "max_body_mb"),
        (["--max-body-mb", "1e308"], "max_body_mb"),
        (["--max-weights-gb", "inf"], "max_weights_gb"),
        (["--cache-mb", "inf"], "cache_mb"),
        (["--cache-mb", "nan"], "cache_mb"),
        (["--drain-timeout", "inf"], "drain_timeout"),
        (["--keep-members-s", "1e300"], "keep_members_s"),
        (["--max-queue-tokens", "9" * 400], "max_queue_tokens"),
        (["--weight-version", "two words"], "weight_version"),
        (["--weight-version", "naïve"], "weight_version"),
        (["--weight-version", "v" * 129], "weight_version"),
        (["--weight-version", ""], "weight_version"),
    ],
)
def test_a_wrong_flag_is_one_line_that_names_it(argv: list[str], said: str):
    with pytest.raises(SettingsError) as raised:
        load_settings(argv)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", ["prot: 1", "- 1", "port: [", "port: 70000", "1: 2", b"\xff"])
def test_a_wrong_file_is_one_line_that_names_it(tmp_path: Path, content: str | bytes):
    file = tmp_path / "opera.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError) as raised:
        load_settings(["--config", str(file)])
    assert "\n" not in str(raised.value)
    assert any(name in str(raised.value) for name in ("opera.yaml", "port"))


def test_a_number_of_the_file_may_stand_for_a_name(tmp_path: Path):
    file = tmp_path / "opera.yaml"
    file.write_text("overload_status: 503\n")
    assert load_settings(["--config", str(file)]).overload_status == "503"
    with pytest.raises(SettingsError, match="--overload-status"):
        load_settings(["--overload-status", "500"])


def test_an_empty_file_changes_nothing(tmp_path: Path):
    file = tmp_path / "opera.yaml"
    file.write_text("# nothing yet\n")
    assert load_settings(["--config", str(file)]) == load_settings([])


def test_keys_come_from_the_list_and_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "keys"
    file.write_text("three\n\nfour\n")
    monkeypatch.setenv("OPERA_API_KEYS", "k-one, k-two,")
    settings = load_settings(["--api-key-file", str(file)])
    assert settings.keys == ("k-one", "k-two", "three", "four")
    assert "k-one" not in repr(settings)


def test_vllm_s_own_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "opera.yaml"
    file.write_text("vllm:\n  max_model_len: 10\n  max_num_seqs: 11\n  block_size: 12\n")
    monkeypatch.setenv("OPERA_VLLM__MAX_NUM_SEQS", "21")
    monkeypatch.setenv("OPERA_VLLM__BLOCK_SIZE", "22")
    flags = ["--vllm.block-size=32", "--vllm.enforce_eager", "--vllm.weight_transfer_config", "{backend: nccl}"]
    settings = load_settings(["--config", str(file), *flags, "--port", "3"])
    assert settings.port == 3
    assert settings.vllm.engine_args() == {
        "tensor_parallel_size": 1, "data_parallel_size": 1, "max_model_len": 10, "max_num_seqs": 21,
        "block_size": 32, "enforce_eager": True, "weight_transfer_config": {"backend": "nccl"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--vllm.logprobs_mode", "x"], "raw log-probabilities"),
        (["--vllm.max_model_len", "one"], "vllm.max_model_len"),
        (["--engine", "vllm-http"], "--vllm-url"),
        (["--engine", "vllm-http", "--vllm-url", "http://x", "--vllm-api-key-file", "/nowhere/k"], "/nowhere/k"),
    ],
)
def test_what_vllm_cannot_be_told(argv: list[str], said: str):
    with pytest.raises(SettingsError) as raised:
        load_settings(argv)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_key_of_a_vllm_server(tmp_path: Path):
    file = tmp_path / "key"
    file.write_text("secret\n")
    flags = ["--engine", "vllm-http", "--vllm-url", "http://gpu:8000"]
    assert load_settings(flags).vllm_key is None
    assert load_settings([*flags, "--vllm-api-key-file", str(file)]).vllm_key == "secret"
    settings = load_settings([*flags, "--vllm-api-key", "own", "--vllm-api-key-file", str(file)])
    assert settings.vllm_key == "own"
    assert "own" not in repr(settings)


def test_a_switch_needs_no_value():
    assert load_settings(["--allow-open", "--log-prompts"]).allow_open
    assert not load_settings(["--allow-open", "false"]).allow_open


def test_several_roots_and_origins(tmp_path: Path):
    (tmp_path / "a").mkdir()
    both = f"{tmp_path},{tmp_path / 'a'}"
    settings = load_settings(["--policy-root", both, "--cors-origin", "https://a.example, https://b.example"])
    assert settings.policy_root == (tmp_path, tmp_path / "a")
    assert settings.cors_origin == ("https://a.example", "https://b.example")


def test_a_key_file_without_keys_locks_nobody_out_silently(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text("\n")
    with pytest.raises(SettingsError, match="holds no key"):
        load_settings(["--api-key-file", str(file)])


def test_settings_are_frozen_and_unknown_names_refused():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="prot"):
        Settings(prot=1)  # type: ignore[call-arg]


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        load_settings(["--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')}" in text for name in Settings.model_fields)


def test_every_setting_stands_in_one_group_and_is_explained_by_whole_sentences():
    grouped = [name for group in GROUPS for name in group.model_fields]
    assert sorted(grouped) == sorted(Settings.model_fields)
    for group in GROUPS:
        for name, field in group.model_fields.items():
            assert field.description, name
            assert field.description[0].isupper(), name
            assert field.description[-1] in ".…", name


@pytest.mark.parametrize("key", ["gehe\u00efm", "one\ntwo", "one\x07", "\u200bone"])
def test_a_key_that_nobody_can_send_is_refused_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
):
    monkeypatch.setenv("OPERA_API_KEYS", f"good,{key}")
    with pytest.raises(SettingsError, match="api_keys: a key must be one line of ASCII") as told:
        load_settings([])
    assert key not in str(told.value)
    assert "good" not in str(told.value)


def test_a_key_of_a_file_that_nobody_can_send_is_refused(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text("good\ngehe\u00efm\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"api_key_file: .*must be one line of ASCII"):
        load_settings(["--api-key-file", str(file)])


def test_the_line_end_of_a_mounted_secret_is_no_part_of_the_key(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPERA_API_KEYS", "one\n")
    assert [key.get_secret_value() for key in load_settings([]).api_keys] == ["one"]


def test_a_second_model_has_a_device_of_its_own():
    assert load_settings(["--second-model", "demo", "--second-device", "cpu"]).second_device == "cpu"
