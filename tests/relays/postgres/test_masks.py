"""Texts under a session's masks, without a server: prepared statements, several statements, no catalogue, bounds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from relays.postgres.catalog import BadCatalog, Catalog
from relays.postgres.codec import Column, Report
from relays.postgres.masks import Judged, SessionMasks
from relays.postgres.statements import CACHED_TEXT, Readings, read
from rules.model import Mask
from rules.sql.session import Prepared, SessionState

MASKS = (Mask("hide", columns=("people.secret",)),)
LAX = (Mask("hide", columns=("people.secret",), predicates="allow"),)
CATALOG: dict[str, Any] = {
    "path": ["public"],
    "relations": [
        [20000, "public", "people", "r", [[1, "id", 23], [2, "secret", 25]], None],
        [20001, "public", "tags", "r", [[1, "tag", 25]], None],
    ],
    "inherits": None,
    "generated": None,
    "functions": None,
    "operators": None,
    "texts": None,
}
SECRET, TAG, MADE = Column(b"secret", 20000, 2), Column(b"tag", 20001, 1), Column(b"made")
FACTS: Any = None


def row(answer: object) -> bytes:
    value = json.dumps(answer).encode()
    return b"\0\x01" + len(value).to_bytes(4, "big") + value


@pytest.fixture
def masks() -> SessionMasks:
    found = SessionMasks()
    found.learn(row(CATALOG))
    return found


def judge(masks: SessionMasks, text: str, given: tuple[Mask, ...] = MASKS, **prepared: str) -> Judged:
    known = {name: Prepared(sql.encode(), FACTS) for name, sql in prepared.items()}
    return masks.judge(text.encode(), given, SessionState(prepared=known))


def hides(judged: Judged, column: Column, index: int = 0) -> bool:
    assert judged.refusal is None
    return judged.rows(index, (column,)) is not None


def test_each_statement_of_a_text_has_its_own_lineage(masks: SessionMasks) -> None:
    judged = judge(masks, "SELECT upper(secret) FROM people; SELECT upper(tag) FROM tags")
    assert [hides(judged, MADE, index) for index in (0, 1, 2)] == [True, False, True]
    assert hides(judged, SECRET, 1)  # the wire knows better
    assert not hides(judged, TAG, 0)


def test_one_statement_that_must_not_run_is_enough(masks: SessionMasks) -> None:
    assert judge(masks, "SELECT 1; SELECT id FROM people ORDER BY secret").refusal == "`people.secret` is masked and must not be sorted by"
    assert judge(masks, "SELECT 1; SELECT id FROM people ORDER BY secret", LAX).refusal is None
    assert judge(masks, "SELECT 1; SELECT id FROM people ORDER BY secret", ()).refusal is None


EXECUTED = [
    ("EXECUTE p", {"p": "SELECT upper(tag) FROM tags"}, False),
    ("EXECUTE p", {"p": "SELECT upper(secret) FROM people"}, True),
    ("EXECUTE p", {"p": "PREPARE p AS SELECT upper(tag) FROM tags"}, False),
    ("EXECUTE p", {"p": "PREPARE q AS SELECT upper(tag) FROM tags; PREPARE p AS SELECT upper(secret) FROM people"}, True),
    ("EXECUTE p", {"p": "PREPARE p AS SELECT tag FROM tags; DEALLOCATE p; PREPARE p AS SELECT upper(secret) FROM people"}, None),
    ("EXECUTE p", {"p": "SELECT 1; SELECT 2"}, None),
    ("EXECUTE p", {}, None),
    ("DEALLOCATE p; PREPARE p AS SELECT upper(secret) FROM people; EXECUTE p", {"p": "SELECT tag FROM tags"}, None),
    ("EXPLAIN EXECUTE p", {"p": "SELECT id FROM people ORDER BY secret"}, None),
    ("CREATE TABLE stolen AS EXECUTE p", {"p": "SELECT secret FROM people"}, None),
]


@pytest.mark.parametrize(("text", "prepared", "hidden"), EXECUTED)
def test_execute_is_what_was_prepared(masks: SessionMasks, text: str, prepared: dict[str, str], hidden: bool | None) -> None:
    judged = judge(masks, text, **prepared)
    assert (judged.refusal is not None) is (hidden is None)
    if hidden is not None:
        assert hides(judged, MADE) is hidden
        assert judge(masks, text, p="SELECT 1").refusal is None  # not remembered from the last time


def test_what_cannot_be_read_is_refused(masks: SessionMasks) -> None:
    for text in ("SELEC 1", "SELECT " + "(" * 300 + "1" + ")" * 300, "SELECT 1\0"):
        assert judge(masks, text).refusal, text[:20]
    deep = judge(masks, "SELECT " + "||".join(["secret"] * 1500) + " FROM people")
    assert deep.refusal is not None or hides(deep, MADE)


def test_without_a_catalogue(masks: SessionMasks) -> None:
    assert not masks.needs_catalog(MASKS)
    masks.forget()
    assert masks.needs_catalog(MASKS)
    assert not masks.needs_catalog((Mask("d", detect=("email",)),))
    assert judge(masks, "SELECT tag FROM tags").refusal
    judged = judge(masks, "SELECT tag FROM tags", (Mask("d", detect=("email",)),))
    assert judged.refusal is None
    assert hides(judged, TAG)  # looked through


def test_a_catalogue_that_is_none() -> None:
    masks = SessionMasks()
    for answer in (b"", b"\0\x02", b"\0\x01\xff\xff\xff\xff", row([]), row({}), row({**CATALOG, "relations": [[1]]}), row(CATALOG) + b"x"):
        with pytest.raises(BadCatalog):
            masks.learn(answer)
        assert masks.catalog is None


def test_a_view_whose_definition_is_not_told_is_masked() -> None:
    view = [20002, "public", "seen", "v", [[1, "tag", 25]]]
    for definition, path, hidden in (
        ("SELECT tag FROM public.tags", ["public"], False),
        ("SELECT secret FROM public.people", ["public"], True),
        (None, ["public"], True),
        ("SELECT tag FROM public.tags", ["public", "pg_catalog"], True),
        ("nonsense", ["public"], True),
    ):
        masks = SessionMasks()
        masks.learn(row({**CATALOG, "path": path, "relations": [*CATALOG["relations"], [*view, definition]]}))
        assert hides(judge(masks, "SELECT tag FROM seen"), Column(b"tag", 20002, 1)) is hidden, (definition, path)


def test_messages_are_those_of_their_statement(masks: SessionMasks) -> None:
    report = Report(((b"S", b"ERROR"), (b"C", b"22P02"), (b"M", b"invalid input: x")))
    judged = judge(masks, "SELECT tag::int FROM tags; SELECT id FROM people")
    assert judged.report(report, 0) is report
    assert judged.report(report, 1) is not report
    assert judged.report(report) is not report
    assert judge(masks, "SELECT tag::int FROM tags").report(report) is report


def test_nothing_masked_costs_nothing(masks: SessionMasks) -> None:
    judged = judge(masks, "SELECT tag FROM tags", (Mask("other", columns=("nowhere.nothing",)),))
    assert judged.rows(0, (TAG,)) is None
    assert Catalog.of_row(row(CATALOG)).types[20000, 2] == 25


def test_what_a_session_remembers_is_bounded_by_bytes(masks: SessionMasks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by their number alone: a thousand long texts were some hundred megabytes of everybody's."""
    state = SessionState(database="shop")
    one = read(b"SELECT 1", state)
    readings = Readings()
    texts = [b"%d" % number + b"x" * 10_000 for number in range(2 * CACHED_TEXT // 10_000)]
    for text in texts:
        readings.keep(replace(one, text=text))
    assert CACHED_TEXT // 10_000 - 2 < len(readings) < CACHED_TEXT // 10_000 + 1
    assert readings.get(texts[0], state) is None
    assert readings.get(texts[-1], state) is not None
    monkeypatch.setattr("relays.postgres.masks._CACHED_SIZE", 2_000)
    for number in range(40):
        judge(masks, f"SELECT {number}, 1, 2, 3, 4, 5")
        assert 0 < len(masks._read) < 20
    masks.forget()
    assert not masks._read_size
