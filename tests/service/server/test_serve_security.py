"""`opera-reward serve` towards a network: open only when told aloud, over TLS when told, weights by admin key."""

import ssl
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import save_file

from ..live import live
from .test_serve import GROUP, refused


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key),
         "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def test_an_open_address_without_keys_is_refused():
    line = refused("--engine", "dummy", "--port", "0", "--host", "0.0.0.0")
    assert "--api-key-file" in line
    assert "--allow-open" in line


def test_it_is_served_when_told_aloud():
    with live("--engine", "dummy", "--host", "0.0.0.0", "--allow-open") as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/model").status_code == 200
        assert httpx.put(f"{url}/policy/weights", headers={"X-Weight-Version": "1"}).status_code == 403
        server.process.terminate()
        assert "anybody" in server.process.stderr.read()


def test_it_is_served_with_keys(tmp_path: Path):
    (tmp_path / "keys").write_text("sesame\n")
    with live("--engine", "dummy", "--host", "0.0.0.0", "--api-key-file", str(tmp_path / "keys")) as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/model").status_code == 401


def test_https(certificate: tuple[Path, Path]):
    cert, key = certificate
    with live("--engine", "dummy", "--ssl-certfile", str(cert), "--ssl-keyfile", str(key)) as server:
        assert server.url.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(cert))
        assert httpx.post(f"{server.url}/reward", json={"groups": [GROUP]}, verify=trusting).status_code == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(server.url.replace("https", "http"))


def test_a_certificate_that_does_not_fit_its_key_is_one_line(certificate: tuple[Path, Path], tmp_path: Path):
    cert, _ = certificate
    (tmp_path / "key.pem").write_text("no key")
    line = refused("--port", "0", "--ssl-certfile", str(cert), "--ssl-keyfile", str(tmp_path / "key.pem"))
    assert "ssl_certfile" in line


def test_weights_travel_to_a_process(tmp_path: Path):
    (tmp_path / "admins").write_text("root\n")
    (tmp_path / "spool").mkdir()
    save_file({"salt": np.array(3)}, tmp_path / "w.safetensors")
    body = (tmp_path / "w.safetensors").read_bytes()
    flags = ("--admin-key-file", str(tmp_path / "admins"), "--spool-dir", str(tmp_path / "spool"))
    with live("--engine", "dummy", *flags) as server:
        url, version = f"{server.url}/policy/weights", {"X-Weight-Version": "7"}
        before = httpx.post(f"{server.url}/reward", json={"groups": [GROUP]}).json()
        assert httpx.put(url, content=body, headers=version).status_code == 401
        done = httpx.put(url, content=body, headers={**version, "Authorization": "Bearer root"})
        assert done.status_code == 200, done.text
        after = httpx.post(f"{server.url}/reward", json={"groups": [GROUP]}).json()
        assert (before["model"]["weight_version"], after["model"]["weight_version"]) == ("0", "7")
        assert before["groups"][0]["initial_mean_logprob"] != after["groups"][0]["initial_mean_logprob"]
        server.process.kill()
    left = list((tmp_path / "spool").glob("*/*/model.safetensors"))
    assert len(left) == 1, "a killed process cannot tidy up"
    with live("--engine", "dummy", *flags) as server:
        headers = {"X-Weight-Version": "8", "X-API-Key": "root"}
        assert httpx.put(f"{server.url}/policy/weights", content=body, headers=headers).status_code == 200
        assert not left[0].exists(), "the next one does it"
    assert list((tmp_path / "spool").iterdir()) == []
