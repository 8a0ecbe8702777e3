"""What the environment does to a connection: proxies, certificates, keys; errors name variables, never values."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from opera_client import AsyncRewardClient, RewardClient
from opera_client.errors import InvalidRequest, OperaError, ServiceUnreachable
from opera_client.network import address, header_value, http_client, is_loopback

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "a.localhost", "::1", "[::1]"])
def test_what_is_this_machine(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "localhost.example", "example", "::2"])
def test_what_is_not(host):
    assert not is_loopback(host)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://[::1]:8000", "http://localhost"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"HTTP_PROXY": "http://proxy.example:3128"},
        {"http_proxy": "http://u:secret@proxy.example:3128"},
        {"ALL_PROXY": "socks5://proxy.example:1080"},
        {"ALL_PROXY": "nonsense"},
        {"HTTP_PROXY": "http://proxy.example:3128", "NO_PROXY": "[::1]"},
        {"SSL_CERT_FILE": "/no/such/file"},
    ],
)
def test_this_machine_is_asked_directly_whatever_the_environment_says(monkeypatch, url, wrong):
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    http = http_client(url, {})
    assert http._mounts == {}
    assert http.trust_env is False


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"ALL_PROXY": "socks5://u:secret@proxy.example:1080"}, "ALL_PROXY"),
        ({"all_proxy": "socks5://u:secret@proxy.example:1080"}, "all_proxy"),
        ({"HTTP_PROXY": "ftp://u:secret@proxy.example"}, "HTTP_PROXY"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_by_its_variable(monkeypatch, wrong, names):
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidRequest) as raised:
        http_client("http://far.example", {})
    assert raised.value.field == names
    assert "secret" not in str(raised.value)


def test_a_proxy_that_can_be_used_is_used(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    assert [pattern.pattern for pattern in http_client("http://far.example", {})._mounts] == ["http://"]


@pytest.mark.parametrize("content", [None, "no certificate"])
@pytest.mark.parametrize("url", ["https://far.example", "https://127.0.0.1:8443"])
def test_certificates_that_cannot_be_read_are_named(monkeypatch, tmp_path: Path, url, content):
    file = tmp_path / "certificates.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(InvalidRequest) as raised:
        http_client(url, {})
    assert raised.value.field == "SSL_CERT_FILE"


@pytest.mark.parametrize(
    "url", ["http://a:0", "http://a:65536", "http://a:99999", "ftp://a", "a:80", "", "http://"]
)
def test_addresses_that_are_none(url):
    with pytest.raises(InvalidRequest) as raised:
        address(url, field="here")
    assert raised.value.field == "here"


@pytest.mark.parametrize("key", ["geheim\n", "geheim\r\n", "\ngeheim", "gehéim", "geh\x00eim", "geheim\t"])
def test_keys_that_no_header_carries_are_refused_without_being_told(monkeypatch, key):
    with pytest.raises(InvalidRequest) as raised:
        header_value(key, field="OPERA_API_KEY")
    assert "geh" not in str(raised.value)
    monkeypatch.setenv("OPERA_API_KEY", key.replace("\x00", "\x01"))
    for kind in (AsyncRewardClient, RewardClient):
        with pytest.raises(InvalidRequest) as raised:
            kind("http://127.0.0.1:9")
        assert raised.value.field == "OPERA_API_KEY"
        assert "geh" not in str(raised.value)
        with pytest.raises(InvalidRequest) as raised:
            kind("http://127.0.0.1:9", api_key=key)
        assert raised.value.field == "api_key"


async def test_who_cannot_be_reached_through_a_proxy_says_so(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://u:secret@127.0.0.1:9")
    async with AsyncRewardClient("http://far.example", retries=0) as client:
        with pytest.raises(ServiceUnreachable, match="through the proxy of HTTP_PROXY") as raised:
            await client.health()
    assert "secret" not in str(raised.value)


async def test_a_transport_of_ones_own_needs_no_environment(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "nonsense")
    answer = httpx.MockTransport(lambda _: httpx.Response(500))
    async with AsyncRewardClient("http://far.example", transport=answer, retries=0) as client:
        with pytest.raises(OperaError):
            await client.health()
