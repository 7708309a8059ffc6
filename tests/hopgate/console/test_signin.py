"""Signing in by link, signing out, cookies, CSRF, foreign hosts, and what every answer carries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from hopgate.console.place import place_of
from hopgate.console.signin import SignIns
from hopgate.errors import Expired, Unauthenticated
from hopgate.tokens import is_opaque
from tests.hopgate.console.conftest import URL, Console, browser, console, person
from tests.hopgate.console.seed import configure
from tests.hopgate.people import Clock, opened


def asked[T](directory: Path, work: Callable[[Console], Awaitable[T]], more: str = "") -> T:
    async def run() -> T:
        async with console(directory, more) as it:
            return await work(it)

    return asyncio.run(run())


def test_a_link_signs_in_once_and_looking_at_it_uses_nothing_up(tmp_path: Path) -> None:
    async def work(it: Console) -> None:
        token = await it.desk.signins.make_link(person("alice", "dba"))
        for _ in range(3):  # a mail scanner, a preview, the person
            looked = await it.client.get("/login/link", params={"token": token})
            assert looked.status_code == 200
            assert "set-cookie" not in looked.headers
        used = await it.client.post("/login/link", data={"token": token})
        assert (used.status_code, used.headers["location"]) == (303, "/approvals")
        cookie = used.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert (await it.client.get("/approvals")).status_code == 200
        async with browser(it.desk) as other:
            again = await other.post("/login/link", data={"token": token})
            assert again.status_code == 401
            assert "used already" in again.text
        signed = [line for line in it.desk.services.ledger.path.read_text().splitlines() if '"signed_in"' in line]
        assert len(signed) == 1
        assert token not in "".join(signed)

    asked(tmp_path, work)


def test_of_two_who_use_a_link_at_once_one_gets_in(tmp_path: Path) -> None:
    async def work(it: Console) -> list[int]:
        token = await it.desk.signins.make_link(person("alice", "dba"))
        clients = [browser(it.desk) for _ in range(6)]
        answers = await asyncio.gather(*(client.post("/login/link", data={"token": token}) for client in clients))
        return sorted(answer.status_code for answer in answers)

    assert asked(tmp_path, work) == [303, 401, 401, 401, 401, 401]


def test_links_and_sign_ins_end(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            clock = Clock()
            signins = SignIns(store, clock)
            link = await signins.make_link(person("alice", "dba"), 300)
            token = await signins.begin(person("alice", "dba"), 3600)
            assert not is_opaque(token)  # no wire takes it for a token
            found = await signins.find(token)
            assert (str(found.principal), found.principal.groups) == ("local:alice", frozenset({"dba"}))
            with pytest.raises(Unauthenticated):
                await signins.use_link(token)
            with pytest.raises(Unauthenticated):
                await signins.find(link)
            clock.now += 301
            with pytest.raises(Expired):
                await signins.use_link(link)
            clock.now += 3600
            with pytest.raises(Expired):
                await signins.find(token)
            clock.now -= 86400 * 2  # a clock that went back makes nothing last longer
            with pytest.raises(Expired):
                await signins.find(token)

    asyncio.run(run())


def test_signing_out_ends_it_for_copies_of_the_cookie_too(tmp_path: Path) -> None:
    async def work(it: Console) -> tuple[int, int, int]:
        alice = await it.sign_in("alice", "dba")
        copy = alice.cookies["hopgate"]
        before = (await alice.get("/approvals")).status_code
        out = (await alice.post("/logout")).status_code
        it.client.cookies.set("hopgate", copy)
        return before, out, (await it.client.get("/approvals")).status_code

    assert asked(tmp_path, work) == (200, 303, 303)


def test_a_form_of_another_site_does_nothing(tmp_path: Path) -> None:
    async def work(it: Console) -> list[int]:
        alice = await it.sign_in("alice", "dba", "ops")
        csrf = alice.headers.pop("x-csrf-token")
        form = {"kind": "all", "value": ""}
        mallory = await it.sign_in("mallory", "ops")
        return [
            (await alice.post("/stop/kill", data=form)).status_code,
            (await alice.post("/stop/kill", data={**form, "csrf": mallory.headers["x-csrf-token"]})).status_code,
            (await alice.post("/stop/kill", data={**form, "csrf": csrf}, headers={"Sec-Fetch-Site": "cross-site"})).status_code,
            (await alice.post("/stop/kill", data={**form, "csrf": csrf}, headers={"Origin": "https://evil.example"})).status_code,
            (await alice.post("/stop/kill", data={**form, "csrf": csrf}, headers={"Origin": "http://["})).status_code,
            (await alice.post("/api/v1/kill", json=form)).status_code,
            (
                await alice.post("/stop/kill", data={**form, "csrf": csrf}, headers={"Origin": URL, "Sec-Fetch-Site": "same-origin"})
            ).status_code,
        ]

    assert asked(tmp_path, work) == [403, 403, 403, 403, 403, 403, 303]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:18443", "127.0.0.1", ""])
def test_a_name_that_leads_here_is_not_ours(tmp_path: Path, host: str) -> None:
    async def work(it: Console) -> int:
        return (await it.client.get("/login", headers={"Host": host})).status_code

    assert asked(tmp_path, work) == 421


def test_every_answer_is_hardened(tmp_path: Path) -> None:
    async def work(it: Console) -> list[httpx.Response]:
        alice = await it.sign_in("alice", "dba")
        paths = ("/approvals", "/login", "/nowhere", "/api/v1/me", "/api/v1/nowhere", "/static/nowhere.css", "/sessions/s0")
        return [await alice.get(path) for path in paths]

    for answer in asked(tmp_path, work):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers


def test_no_page_has_inline_script_or_style(tmp_path: Path) -> None:
    templates = Path(__file__).parents[3] / "hopgate" / "console" / "templates"
    for path in templates.glob("*.html"):
        text = path.read_text().lower()
        assert "<style" not in text, path
        assert " style=" not in text, path
        assert " onclick=" not in text, path
        assert "javascript:" not in text, path
        assert all("src=" in tag for tag in text.split("<script")[1:]), path
        assert "| safe" not in text, path


def test_large_and_endless_bodies_are_refused(tmp_path: Path) -> None:
    async def work(it: Console) -> list[int]:
        alice = await it.sign_in("alice", "dba")

        async def endless():  # type: ignore[no-untyped-def]
            yield b"x" * 1000

        return [
            (await alice.post("/rules/explain", data={"text": "x" * 70_000})).status_code,
            (await alice.post("/rules/explain", content=endless())).status_code,
        ]

    assert asked(tmp_path, work) == [413, 411]


def test_behind_tls_the_cookie_is_of_this_host_alone(tmp_path: Path) -> None:
    config = configure(tmp_path, more="").model_copy(
        update={"console": configure(tmp_path).console.model_copy(update={"url": "https://hopgate.corp.example"})}
    )
    place = place_of(config)
    assert (place.secure, place.cookie, place.tls) == (True, "__Host-hopgate", False)
    assert "hopgate.corp.example" in place.hosts


@pytest.mark.parametrize(
    "then", ["//evil.example", "//[", "http://[", "https://evil.example", "/\\evil.example", "/login", "javascript:alert(1)", "/a\nb"]
)
def test_nobody_is_sent_elsewhere_after_signing_in(then: str) -> None:
    from hopgate.console.pages.signin import local_target

    assert local_target(then) == "/approvals"
    assert local_target("/sessions?text=a%20b") == "/sessions?text=a%20b"
