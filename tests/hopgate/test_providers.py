"""Fetching keys from a provider that is away, slow, too large, or leads elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hopgate import providers
from hopgate.config import IssuerConfig
from hopgate.errors import Unavailable
from hopgate.jwks import KeySet
from hopgate.providers import MAX_DOCUMENT, FileKeys, RemoteKeys, open_client
from tests.doubles import Answer, Provider, jwk

DISCOVERY = "/.well-known/openid-configuration"


async def fetch(provider: Provider, **config: str) -> KeySet:
    issuer = IssuerConfig(name="corp", issuer=provider.issuer, audience=("a",)).model_copy(update=config)
    client = await open_client()
    try:
        return await RemoteKeys(issuer, client).fetch()
    finally:
        await client.aclose()


async def refused(provider: Provider, words: str, **config: str) -> None:
    with pytest.raises(Unavailable, match=words):
        await fetch(provider, **config)


async def test_by_discovery_and_by_address() -> None:
    with Provider() as provider:
        assert (await fetch(provider)).has("k0")
        assert provider.requests == [DISCOVERY, "/keys"]
        assert (await fetch(provider, jwks=f"{provider.issuer}/keys")).has("k0")
        assert provider.requests == [DISCOVERY, "/keys", "/keys"]


async def test_a_slash_at_the_end_of_the_issuer_is_not_doubled() -> None:
    with Provider() as provider:
        issuer = provider.issuer + "/"
        provider.answers[DISCOVERY] = Answer(body=json.dumps({"issuer": issuer, "jwks_uri": f"{issuer}keys"}).encode())
        assert (await fetch(provider, issuer=issuer)).has("k0")


async def test_a_provider_that_is_away() -> None:
    with Provider() as provider:
        provider.cut = True
        await refused(provider, "cannot be reached")
    await refused(provider, "cannot be reached")  # and nobody listens at all


async def test_a_provider_that_answers_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "TIMEOUT", 0.2)
    with Provider() as provider:
        provider.answers["/keys"] = Answer(body=b"{", headers={"Content-Length": "1000"})  # and the rest never comes
        await refused(provider, "no answer within|cannot be reached")


ANSWERS = [
    (DISCOVERY, Answer(status=404), "status 404"),
    (DISCOVERY, Answer(status=500, body=b"hunter2"), "status 500"),
    (DISCOVERY, Answer(body=b"not json"), "not a JSON object"),
    (DISCOVERY, Answer(body=b"[]"), "not a JSON object"),
    (DISCOVERY, Answer(body=b'{"issuer": "https://evil.example", "jwks_uri": "https://evil.example/k"}'), "names another issuer"),
    ("/keys", Answer(status=204), "status 204"),
    ("/keys", Answer(body=b"x" * (MAX_DOCUMENT + 1)), "larger than 256 KiB"),
    ("/keys", Answer(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}), "compressed"),
    ("/keys", Answer(body=b"<html>login</html>"), "not a JWKS document"),
    ("/keys", Answer(status=302, headers={"Location": "/keys"}), "redirects too often"),
    ("/keys", Answer(status=302, headers={"Location": "http://localhost:1/keys"}), "redirects to another host"),
    ("/keys", Answer(status=301, headers={"Location": "//evil.example/keys"}), "redirects to another host"),
    ("/keys", Answer(status=307, headers={"Location": "http://[::"}), "cannot be reached|no URL"),
]


@pytest.mark.parametrize(("path", "answer", "words"), ANSWERS)
async def test_answers_that_are_refused(path: str, answer: Answer, words: str) -> None:
    with Provider() as provider:
        provider.answers[path] = answer
        with pytest.raises(Unavailable, match=words) as caught:
            await fetch(provider)
        assert "hunter2" not in str(caught.value)


async def test_a_redirect_to_another_port_is_not_followed() -> None:
    with Provider() as provider, Provider() as other:
        provider.answers["/keys"] = Answer(status=302, headers={"Location": f"{other.issuer}/keys"})
        await refused(provider, "redirects to another host")
        assert other.requests == []


async def test_a_redirect_on_the_same_host_is_followed() -> None:
    with Provider() as provider:
        provider.answers["/keys"] = Answer(status=302, headers={"Location": "/v2/keys"})
        provider.answers["/v2/keys"] = Answer(body=json.dumps({"keys": [jwk("ES256", "new")]}).encode())
        assert (await fetch(provider)).has("new")


@pytest.mark.parametrize(
    "address", [None, 5, "", "/keys", "http://keys.example/", "file:///etc/passwd", "https://169.254.169.254/", "https://["]
)
async def test_key_addresses_that_are_not_trusted(address: object) -> None:
    with Provider() as provider:
        provider.answers[DISCOVERY] = Answer(body=json.dumps({"issuer": provider.issuer, "jwks_uri": address}).encode())
        await refused(provider, "no https:// jwks_uri")


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with Provider() as provider:
        assert (await fetch(provider)).has("k0")


async def test_keys_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(Unavailable, match="cannot be read: no such file"):
        await FileKeys(path).fetch()
    path.write_text(json.dumps({"keys": [jwk("ES256", "a")]}))
    assert (await FileKeys(path).fetch()).has("a")
    path.write_bytes(b" " * (MAX_DOCUMENT + 1))
    with pytest.raises(Unavailable, match="larger than 256 KiB"):
        await FileKeys(path).fetch()
