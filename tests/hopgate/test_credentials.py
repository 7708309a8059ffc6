"""Leases: to grants of open sessions only, always current, silent about what they hold."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hopgate.config.connections import ConnectionConfig
from hopgate.credentials import Credentials, Lease, SecretStore
from hopgate.errors import Denied, Expired, Misconfigured
from hopgate.grants import grant_session
from hopgate.sources import Sources
from hopgate.store import Store
from tests.hopgate.people import AGENT, opened

VALUE = "hunter2-hunter2"


@dataclass
class Configuration:
    state: Path
    connections: list[ConnectionConfig] = field(default_factory=list)


def connection(name: str = "billing", **credential: Any) -> ConnectionConfig:
    fields = {"credential": credential} if credential else {}
    return ConnectionConfig.model_validate({"name": name, "kind": "http", "target": "http://10.0.0.5:80", **fields})


async def leasing(store: Store, state: Path, *connections: ConnectionConfig, environ: dict[str, str] | None = None) -> Credentials:
    secrets = SecretStore(store, state, {})
    await secrets.set("billing", VALUE)
    return Credentials(Configuration(state, list(connections)), store, Sources(secrets, environ or {}))


GRANT = grant_session("s1", AGENT, "billing")


async def test_a_lease_has_what_the_connection_says_and_names_every_secret_in_it(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("a file's password\n")
    wanted = ConnectionConfig.model_validate(
        {
            "name": "billing",
            "kind": "http",
            "target": "http://10.0.0.5:80",
            "credential": {
                "headers": {"Authorization": "Bearer ${secret:billing}", "X-Env": "prod", "X-Api-Key": "Token written-here"},
                "query": {"key": "${env:A}", "page": "1"},
                "username": "${env:USER_NAME}",
                "password": "${file:pw}",
            },
        },
        context={"base": str(tmp_path)},
    )
    async with opened(tmp_path / "var") as store:
        credentials = await leasing(store, tmp_path / "var", wanted, environ={"A": "from-the-environment", "USER_NAME": "app"})
        lease = await credentials.lease(GRANT)
        assert dict(lease.headers) == {"Authorization": f"Bearer {VALUE}", "X-Env": "prod", "X-Api-Key": "Token written-here"}
        assert dict(lease.query) == {"key": "from-the-environment", "page": "1"}
        assert (lease.username, lease.password, lease.private_key) == ("app", "a file's password", "")
        assert set(lease.literals) == {
            VALUE.encode(),
            b"Token written-here",
            b"written-here",
            b"from-the-environment",
            b"a file's password",
        }
        shown = f"{lease} {lease!r} {[lease]}"
        assert shown.startswith("Lease('billing', version 1: header Authorization, header X-Env")
        assert not any(literal.decode() in shown for literal in lease.literals)
        with pytest.raises(TypeError):
            pickle.dumps(lease)
        with pytest.raises(TypeError):
            lease.headers["X"] = "y"  # type: ignore[index]
        await credentials.close()


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("Basic ${env:PAIR}", {b"YXBwOmh1bnRlcjI6eA==", b"app:hunter2:x", b"hunter2:x"}),
        ("${env:WHOLE}", {b"basic YXBwOmh1bnRlcjI6eA==", b"app:hunter2:x", b"hunter2:x"}),
        ("Basic YXBwOmh1bnRlcjI6eA==", {b"Basic YXBwOmh1bnRlcjI6eA==", b"YXBwOmh1bnRlcjI6eA==", b"app:hunter2:x", b"hunter2:x"}),
        ("Basic ${env:ODD}", {b"=not base64"}),
        ("Bearer ${env:PAIR}", {b"YXBwOmh1bnRlcjI6eA=="}),
    ],
)
async def test_the_password_inside_basic_credentials_is_a_secret_too(tmp_path: Path, written: str, found: set[bytes]) -> None:
    environ = {"PAIR": "YXBwOmh1bnRlcjI6eA==", "WHOLE": "basic YXBwOmh1bnRlcjI6eA==", "ODD": "=not base64"}
    async with opened(tmp_path / "var") as store:
        credentials = await leasing(store, tmp_path / "var", connection(headers={"Authorization": written}), environ=environ)
        assert set((await credentials.lease(GRANT)).literals) == found
        await credentials.close()


async def test_a_connection_without_a_credential_adds_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        lease = await (await leasing(store, tmp_path, connection())).lease(GRANT)
        assert lease == Lease("billing", 0)
        assert repr(lease) == "Lease('billing', version 0: nothing)"


@pytest.mark.parametrize("grant", [None, "billing", AGENT, object()])
async def test_nothing_but_a_grant_gets_a_lease(tmp_path: Path, grant: Any) -> None:
    async with opened(tmp_path) as store:
        credentials = await leasing(store, tmp_path, connection(password="${secret:billing}"))
        with pytest.raises(TypeError):
            await credentials.lease(grant)


async def test_a_grant_is_worth_nothing_after_its_session_or_elsewhere(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        credentials = await leasing(store, tmp_path, connection(password="${secret:billing}"))
        grant = grant_session("s1", AGENT, "billing")
        assert (await credentials.lease(grant)).password == VALUE
        grant.end()
        with pytest.raises(Expired):
            await credentials.lease(grant)
        with pytest.raises(Denied):
            await credentials.lease(grant_session("s1", AGENT, "orders"))


async def test_a_session_that_ends_while_a_secret_is_read_gets_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as store:
        credentials = await leasing(store, tmp_path, connection(password="${secret:billing}"))
        grant = grant_session("s1", AGENT, "billing")
        resolve = credentials.sources.resolve

        async def slow(reference: Any) -> Any:
            grant.end()
            return await resolve(reference)

        monkeypatch.setattr(credentials.sources, "resolve", slow)
        with pytest.raises(Expired):
            await credentials.lease(grant)


async def test_a_lease_is_kept_until_its_secret_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as store, opened(tmp_path) as elsewhere:
        environ = {"A": "aaaaaa"}
        credentials = await leasing(store, tmp_path, connection(headers={"X-Key": "${secret:billing}${env:A}"}), environ=environ)
        first = await credentials.lease(GRANT)
        assert await credentials.lease(GRANT) is first
        assert len({id(each) for each in await asyncio.gather(*(credentials.lease(GRANT) for _ in range(5)))}) == 1

        await SecretStore(elsewhere, tmp_path, {}).set("billing", "another-value")
        await store.look()
        second = await credentials.lease(GRANT)
        assert (second.headers["X-Key"], second.version) == ("another-valueaaaaaa", 2)

        environ["A"] = "bbbbbb"
        assert (await credentials.lease(GRANT)).headers["X-Key"] == "another-valuebbbbbb"

        await SecretStore(elsewhere, tmp_path, {}).delete("billing")
        await store.look()
        with pytest.raises(Misconfigured, match="there is no secret"):
            await credentials.lease(GRANT)


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "pw"
    path.write_text("first-password")
    async with opened(tmp_path / "var") as store:
        credentials = await leasing(store, tmp_path / "var", connection(password=f"${{file:{path}}}"))
        assert (await credentials.lease(GRANT)).password == "first-password"
        path.write_text("second-password")
        assert (await credentials.lease(GRANT)).password == "second-password"
        path.unlink()
        with pytest.raises(Misconfigured):
            await credentials.lease(GRANT)


@pytest.mark.parametrize(
    "credential",
    [
        {"headers": {"X-Key": "${env:A}"}},
        {"headers": {"X Key": "${secret:billing}"}},
        {"headers": {"X-Key:": "${secret:billing}"}},
        {"username": "${env:NUL}"},
        {"password": "${env:MISSING}"},
    ],
)
async def test_a_value_that_does_not_fit_its_place_is_refused_and_not_quoted(tmp_path: Path, credential: dict[str, Any]) -> None:
    async with opened(tmp_path) as store:
        environ = {"A": f"{VALUE}\r\nX-Admin: 1", "NUL": f"{VALUE}\0"}
        credentials = await leasing(store, tmp_path, connection(**credential), environ=environ)
        with pytest.raises(Misconfigured) as caught:
            await credentials.lease(GRANT)
        assert VALUE not in str(caught.value)


async def test_a_wrong_key_is_an_error_at_the_lease(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        credentials = await leasing(store, tmp_path, connection(password="${secret:billing}"))
        (tmp_path / "keys" / "secrets.key").unlink()
        with pytest.raises(Misconfigured, match=r"put .* back"):
            await credentials.lease(GRANT)
