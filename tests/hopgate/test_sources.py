"""References to their values, or an error; never an empty one, never one quoted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from hopgate.errors import HopgateError, Misconfigured, Unavailable
from hopgate.references import Reference, parse_template
from hopgate.secret_store import SecretStore
from hopgate.sources import Sources
from tests.hopgate.people import opened

VALUE = "hunter2-hunter2"
VAULT = {"VAULT_ADDR": "https://vault.test:8200/", "VAULT_TOKEN": "hvs.secret-token"}
REFERENCE = Reference("vault", "kv/data/orders", "password")
NO_SECRETS: Any = None


async def test_each_source_gives_its_value(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("-----BEGIN KEY-----\nAAAA\n")
    (tmp_path / "password").write_text(f"{VALUE}\r\n")
    async with opened(tmp_path / "var") as store:
        secrets = SecretStore(store, tmp_path / "var", {})
        await secrets.set("billing", VALUE)
        sources = Sources(secrets, {"API_KEY": "from-env"})
        text = "${secret:billing} ${env:API_KEY} ${file:password} ${file:key.pem}$${x}"
        rendered = await sources.render(parse_template(text, tmp_path))
        assert rendered.reveal() == f"{VALUE} from-env {VALUE} -----BEGIN KEY-----\nAAAA\n${{x}}"
        assert VALUE not in repr(rendered)


@pytest.mark.parametrize(
    ("reference", "content"),
    [
        (Reference("env", "MISSING"), None),
        (Reference("env", "EMPTY"), None),
        (Reference("file", "missing"), None),
        (Reference("file", "."), None),
        (Reference("file", "empty"), b"\n"),
        (Reference("file", "binary"), b"\xff\xfe" + VALUE.encode()),
        (Reference("file", "large"), VALUE.encode() * 5000),
        (REFERENCE, None),
    ],
    ids=str,
)
async def test_what_is_missing_or_empty_or_no_text_is_an_error(tmp_path: Path, reference: Reference, content: bytes | None) -> None:
    if reference.source == "file":
        reference = Reference("file", str(tmp_path / reference.name))
        if content is not None:
            (tmp_path / reference.name).write_bytes(content)
    with pytest.raises(Misconfigured) as caught:
        await Sources(NO_SECRETS, {"EMPTY": ""}).resolve(reference)
    assert VALUE not in str(caught.value)


def answering(status: int, **body: Any) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(status, json=body)


async def test_vault_is_asked_with_the_token_and_both_engine_versions_are_read() -> None:
    asked: list[httpx.Request] = []

    def vault(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        values = {"password": VALUE}
        return httpx.Response(200, json={"data": {"data": values, "metadata": {"version": 3}} if "/data/" in request.url.path else values})

    sources = Sources(NO_SECRETS, {**VAULT, "VAULT_NAMESPACE": "team"}, httpx.MockTransport(vault))
    assert (await sources.resolve(REFERENCE)).reveal() == VALUE
    assert (await sources.resolve(Reference("vault", "kv1/orders", "password"))).reveal() == VALUE
    assert [str(request.url) for request in asked] == ["https://vault.test:8200/v1/kv/data/orders", "https://vault.test:8200/v1/kv1/orders"]
    assert (asked[0].headers["x-vault-token"], asked[0].headers["x-vault-namespace"]) == ("hvs.secret-token", "team")
    await sources.close()


def _down(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError(f"refused {VALUE}")


@pytest.mark.parametrize(
    ("vault", "error"),
    [
        (answering(403), Misconfigured),
        (answering(404), Misconfigured),
        (answering(500), Unavailable),
        (answering(302, data={"password": VALUE}), Unavailable),
        (answering(200, data={"other": VALUE}), Misconfigured),
        (answering(200, data={"password": ""}), Misconfigured),
        (answering(200, data={"password": 12345678}), Misconfigured),
        (answering(200, data=VALUE), Misconfigured),
        (answering(200), Misconfigured),
        (lambda request: httpx.Response(200, text=f"<html>{VALUE}"), Misconfigured),
        (_down, Unavailable),
    ],
)
async def test_what_vault_does_not_give_is_an_error(vault: Callable[[httpx.Request], httpx.Response], error: type[HopgateError]) -> None:
    sources = Sources(NO_SECRETS, VAULT, httpx.MockTransport(vault))
    with pytest.raises(error) as caught:
        await sources.resolve(REFERENCE)
    assert VALUE not in str(caught.value)
    assert VAULT["VAULT_TOKEN"] not in str(caught.value)
    await sources.close()


@pytest.mark.parametrize(
    ("address", "sent"),
    [("http://10.0.0.5:8200", False), ("http://vault.test", False), ("ftp://x", False), ("http://127.0.0.1:8200", True)],
)
async def test_the_vault_token_does_not_cross_a_network_in_clear(address: str, sent: bool) -> None:
    asked: list[str] = []

    def vault(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json={"data": {"password": VALUE}})

    sources = Sources(NO_SECRETS, {**VAULT, "VAULT_ADDR": address}, httpx.MockTransport(vault))
    if sent:
        await sources.resolve(REFERENCE)
    else:
        with pytest.raises(Misconfigured, match="https"):
            await sources.resolve(REFERENCE)
    assert bool(asked) is sent
    await sources.close()
