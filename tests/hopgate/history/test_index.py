"""What the ledgers tell is found again: by every condition, in pages, once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hopgate.errors import HopgateError, Misconfigured
from hopgate.history import SessionQuery
from hopgate.store.index import Index, schema
from tests.hopgate.history.telling import Told, telling
from tests.hopgate.places import Place

DENIED = {"title": "DROP TABLE customers", "effect": "deny", "rules": ("no-drop",), "message": "ask a DBA", "version": "v1"}


async def two_sessions(at: Told) -> None:
    at.session("s1", operations=[{"title": "SELECT name FROM customers"}, dict(DENIED)], who={"run": "nightly"})
    at.session(
        "s2", process="relay-0", operations=[{"title": "SELECT total FROM orders_2026"}], who={"subject": "bot", "connection": "crm"}
    )
    with at.ledger("http-0") as ledger:
        who = {"issuer": "corp", "subject": "eve", "connection": "crm", "peer": "10.0.0.7"}
        refused = {
            "operation": "s3.1",
            "kind": "session",
            "title": "open crm",
            "effect": "deny",
            "rules": [],
            "message": "no rule allows this",
        }
        ledger.append("decided", session="s3", **who, **refused)
    assert await at.projector.catch_up() > 0


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (SessionQuery(), ["s3", "s2", "s1"]),
        (SessionQuery(principal="corp:svc"), ["s1"]),
        (SessionQuery(principal="corp:nobody"), []),
        (SessionQuery(connection="crm"), ["s3", "s2"]),
        (SessionQuery(connection="crm", principal="corp:bot"), ["s2"]),
        (SessionQuery(run="nightly"), ["s1"]),
        (SessionQuery(rule="read"), ["s2", "s1"]),
        (SessionQuery(rule="no-drop"), ["s1"]),
        (SessionQuery(rule="no-such-rule"), []),
        (SessionQuery(effect="deny"), ["s3", "s1"]),
        (SessionQuery(effect="deny", connection="orders"), ["s1"]),
        (SessionQuery(effect="deny", rule="read"), []),
        (SessionQuery(effect="deny or allow"), []),
        (SessionQuery(kind="sql"), ["s2", "s1"]),
        (SessionQuery(text="customers"), ["s1"]),
        (SessionQuery(text="CUSTOMERS select"), ["s1"]),
        (SessionQuery(text="custom"), []),
        (SessionQuery(text="custom*"), ["s1"]),
        (SessionQuery(text="sel* from"), ["s2", "s1"]),
        (SessionQuery(text="orders_2026"), ["s2"]),
        (SessionQuery(text="dba"), ["s1"]),
        (SessionQuery(text="customers total"), []),
        (SessionQuery(text="!! --"), ["s3", "s2", "s1"]),
        (SessionQuery(live=True), []),
        (SessionQuery(live=False, text="select"), ["s2", "s1"]),
        (SessionQuery(until=1_000_000_000.0), []),
        (SessionQuery(since=1_000_000_000.0, effect="deny"), ["s3", "s1"]),
    ],
    ids=str,
)
async def test_sessions_are_found_by(query: SessionQuery, found: list[str], tmp_path: Path, place: Place) -> None:
    async with telling(tmp_path, place) as at:
        await two_sessions(at)
        assert [each.id for each in (await at.index.search_sessions(query)).items] == found


async def test_a_session_is_told_whole(tmp_path: Path, place: Place) -> None:
    async with telling(tmp_path, place) as at:
        await two_sessions(at)
        one, refused = await at.index.find_session("s1"), await at.index.find_session("s3")
        assert one is not None
        assert (one.principal, one.connection, one.kind, one.run, one.peer) == ("corp:svc", "orders", "sql", "nightly", "10.0.0.9")
        assert (one.operations, one.denied, one.reason, one.recording, one.live) == (3, 1, "done", "recordings/s1.mitm", False)
        assert refused is not None
        assert (refused.refused, refused.live, refused.principal) == (True, False, "corp:eve")
        assert await at.index.find_session("s9") is None


@pytest.mark.parametrize(
    "query", [SessionQuery(), SessionQuery(text="sele*"), SessionQuery(rule="read"), SessionQuery(text="select", live=False)]
)
async def test_pages_show_every_session_once(query: SessionQuery, tmp_path: Path, place: Place) -> None:
    async with telling(tmp_path, place) as at:
        for number in range(9):
            at.session(f"s{number}", operations=[{}] * (number % 3 + 1))
        await at.projector.catch_up()
        for limit in (1, 2, 9, 10):
            seen, after = [], ""
            while True:
                page = await at.index.search_sessions(query, after, limit)
                seen += [each.id for each in page.items]
                assert len(page.items) <= limit
                if not (after := page.after):
                    break
            assert seen == [f"s{number}" for number in reversed(range(9))]


async def test_open_sessions_are_found_by_what_they_do(tmp_path: Path, place: Place) -> None:
    async with telling(tmp_path, place) as at:
        at.session("s1", operations=[{"title": "SELECT 1"}])
        with at.ledger() as ledger:
            for session, title in (("s2", "SELECT 2"), ("s3", "DELETE"), ("s4", "SELECT 4")):
                ledger.append("session_opened", session=session, issuer="corp", subject="svc", connection="orders", peer="", rules=[])
                ledger.append("decided", session=session, operation=f"{session}.1", kind="sql", title=title, effect="allow", rules=["read"])
        await at.projector.catch_up()
        for query in (SessionQuery(live=True, text="select"), SessionQuery(live=True, text="sele*", rule="read")):
            first = await at.index.search_sessions(query, limit=1)
            second = await at.index.search_sessions(query, first.after)
            assert [each.id for each in (*first.items, *second.items)] == ["s4", "s2"]
        assert [each.id for each in (await at.index.search_sessions(SessionQuery(live=True))).items] == ["s4", "s3", "s2"]


async def test_what_no_database_takes_is_shown_as_a_sign(tmp_path: Path, place: Place) -> None:
    async with telling(tmp_path, place) as at:
        at.session("s1", operations=[{"title": "a\0b", "rules": ("r\0",), "note": {"x\0": ["\0"]}}], who={"run": "n\0"})
        await at.projector.catch_up()
        (session,) = (await at.index.search_sessions(SessionQuery(run="n\0", rule="r\0"))).items
        assert session.run == "n\u2400"
        (event,) = (await at.index.search_events(SessionQuery(kind="sql"))).items
        assert (event.title, event.rules, event.detail) == ("a\u2400b", ("r\u2400",), {"note": {"x\u2400": ["\u2400"]}})
        assert await at.index.find_session("s\0") is None


async def test_a_timeline_goes_on_where_it_ended(tmp_path: Path, place: Place) -> None:
    async with telling(tmp_path, place) as at:
        at.session("s1", operations=[{"title": f"SELECT {number}"} for number in range(5)])
        at.session("s2", operations=[{}])
        await at.projector.catch_up()
        first = await at.index.timeline("s1", limit=3)
        second = await at.index.timeline("s1", after=first.after)
        assert [each.event for each in (*first.items, *second.items)] == ["decided", "session_opened", *["decided"] * 5, "session_closed"]
        assert (await at.index.timeline("s1", after=second.after)).items == ()
        with at.ledger() as ledger:
            ledger.append("viewed", by="corp:alice", what="recording", session="s1")
        await at.projector.catch_up()
        later = await at.index.timeline("s1", after=second.after)
        assert [(each.event, each.by, each.detail) for each in later.items] == [("viewed", "corp:alice", {"what": "recording"})]
        backwards = await at.index.timeline("s1", backwards=True, limit=2)
        assert [each.event for each in backwards.items] == ["viewed", "session_closed"]
        assert [each.title for each in (await at.index.timeline("s1", backwards=True, after=backwards.after, limit=1)).items] == [
            "SELECT 4"
        ]


async def test_events_are_found_with_their_session(tmp_path: Path, place: Place) -> None:
    async with telling(tmp_path, place) as at:
        await two_sessions(at)
        page = await at.index.search_events(SessionQuery(effect="deny"), limit=1)
        assert [(each.session, each.message) for each in page.items] == [("s3", "no rule allows this")]
        (event,) = (await at.index.search_events(SessionQuery(effect="deny"), page.after)).items
        assert (event.session, event.operation, event.rules, event.process) == ("s1", "s1.3", ("no-drop",), "http-0")
        assert event.detail == {"version": "v1"}
        assert len((await at.index.search_events(SessionQuery())).items) == 10


async def test_what_belongs_to_no_session_is_kept_apart(tmp_path: Path, place: Place) -> None:
    async with telling(tmp_path, place) as at:
        with at.ledger() as ledger:
            ledger.append("rules_loaded", version="v1", rules=3)
            ledger.append("kill_ordered", kind="all", value="", sessions=["s1"], by="corp:ops")
        await at.projector.catch_up()
        page = await at.index.gateway_events(limit=1)
        assert [(each.event, each.by, each.session) for each in page.items] == [("kill_ordered", "corp:ops", "")]
        assert [each.event for each in (await at.index.gateway_events(page.after)).items] == ["rules_loaded"]
        assert (await at.index.search_sessions(SessionQuery())).items == ()
        assert (await at.index.search_events(SessionQuery(kind="all"))).items == ()


async def test_sessions_of_the_same_moment_get_numbers_of_their_own(tmp_path: Path, place: Place) -> None:
    async with telling(tmp_path, place) as at:
        ids = [f"s{0x19E3A1C2B00:011x}{number:012x}" for number in range(3)]
        for each in ids:
            at.session(each, operations=[])
        await at.projector.catch_up()
        assert sorted(each.id for each in (await at.index.search_sessions(SessionQuery())).items) == ids


@pytest.mark.parametrize("cursor", ["x", "-1", "1" * 20, "١"])
async def test_a_page_that_nobody_gave_out_is_refused(cursor: str, tmp_path: Path, place: Place) -> None:
    async with telling(tmp_path, place) as at:
        with pytest.raises(ValueError, match="not a page"):
            await at.index.search_sessions(SessionQuery(), cursor)


async def test_an_index_of_another_version_is_made_anew(tmp_path: Path, place: Place) -> None:
    async with telling(tmp_path, place) as at:
        await two_sessions(at)
        async with at.index.transaction(write=True) as connection:
            await connection.execute(schema.about.update().values(value="0"))
    async with telling(tmp_path, place) as at:
        assert (await at.index.search_sessions(SessionQuery())).items == ()
        await at.projector.catch_up()
        assert len((await at.index.search_sessions(SessionQuery())).items) == 3


async def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "index.db").write_bytes(b"no database " * 100)
    with pytest.raises(Misconfigured, match=r"index\.db: is not a SQLite database: remove it"):
        await Index.open(tmp_path)


async def test_whatever_is_searched_for_finds_or_finds_nothing(tmp_path: Path, place: Place) -> None:
    """No text of a search is an expression of the text index: quotes, operators and columns are words, or nothing."""
    asked = [
        '"',
        "a OR b",
        "NOT",
        "title:x",
        "(",
        "a*b*",
        "^a",
        "NEAR(a b)",
        "{tags}:xdeny",
        "\0",
        "ab*",
        "-",
        "%",
        "'; DROP TABLE index_events; --",
    ]
    async with telling(tmp_path, place) as at:
        await two_sessions(at)
        for text in asked:
            await at.index.search_sessions(SessionQuery(text=text))
            await at.index.search_events(SessionQuery(text=text, rule=text, principal=text, effect=text, kind=text))
        assert (await at.index.search_sessions(SessionQuery(text="xdeny"))).items == ()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=30))
def test_any_text_can_be_searched_for(tmp_path: Path, text: str) -> None:
    import asyncio

    async def work() -> None:
        async with telling(tmp_path / "state") as at:
            await at.index.search_sessions(SessionQuery(text=text))

    try:
        asyncio.run(work())
    except HopgateError as error:
        raise AssertionError(text) from error
