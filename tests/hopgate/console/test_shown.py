"""Text from outside on pages: escaped, visible, unshortened, and nowhere as markup."""

from __future__ import annotations

import asyncio
import html
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopgate.console.shown import body, code, plain, set_out, shown
from hopgate.history import SessionQuery
from rules.model import Hold, Principal
from tests.hopgate.console.conftest import console
from tests.hopgate.console.seed import Past

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'><svg/onload=alert(1)>{{7*7}}\u202e<hx-partial hx-get=/logout>"


def text_of(markup: str) -> str:
    """What stands on the page, marks read as what they stand for."""
    back = re.sub(r'<span class="ctl" title="U\+([0-9A-F]+)[^"]*">[^<]*</span>', lambda found: f"&#x{found[1]};", str(markup))
    points = re.split(r"&#x([0-9A-F]+);", re.sub(r"<[^>]+>", "", back))
    return "".join(chr(int(part, 16)) if index % 2 else html.unescape(part) for index, part in enumerate(points))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("plain", "plain"),
        ("<b>", "&lt;b&gt;"),
        ("a\x1b[31m", 'title="U+001B control character">ESC</span>[31m'),
        ("a\u202eb", 'title="U+202E RIGHT-TO-LEFT OVERRIDE">U+202E</span>'),
        ("a\u200bb", ">U+200B</span>"),
        ("p\u0430ypal", 'class="odd" title="U+0430 CYRILLIC SMALL LETTER A"'),
        ("привет", "привет"),  # a word of one script imitates nothing
        ("a\nb", ">U+000A</span>"),
        ("\ud800", "U+D800"),
    ],
)
def test_what_is_unseen_is_written_out(given: str, expected: str) -> None:
    assert expected in shown(given)


@given(st.text())
def test_nothing_is_lost_and_nothing_is_markup(text: str) -> None:
    for markup in (shown(text), shown(text, lines=True)):
        assert text_of(markup) == text
        assert not re.search(r"<(?!/?span\b)", str(markup))
    assert "<" not in plain(text) or "<" in text


@given(st.text(), st.sampled_from(["sql", "ssh", "http", "json", "session", ""]))
def test_colours_change_no_character(text: str, kind: str) -> None:
    assert text_of(code(text, kind)) == text


@pytest.mark.parametrize("kind", ["sql", "ssh", "http", "json"])
def test_line_ends_and_trailing_spaces_stay(kind: str) -> None:
    for text in ("SELECT 1;\r\n\r\n  ", "\n\nls -l\n", "a\tb\x0bc", "\ufeffSELECT"):
        assert text_of(code(text, kind)) == text


def test_a_megabyte_is_shown_plain_and_whole() -> None:
    text = "SELECT '" + "x" * (1 << 20) + "'"
    assert text_of(code(text, "sql")) == text


def test_json_is_set_out_without_reading_it_again() -> None:
    assert set_out('{"a":1.0,"a":12345678901234567890,"b":["x,y",{}]}') == (
        '{\n  "a": 1.0,\n  "a": 12345678901234567890,\n  "b": [\n    "x,y",\n    {\n      \n    }\n  ]\n}'
    )
    assert "not recorded" in body(None)
    assert "3 bytes that are no text" in body(b"\xff\xfe\xfd")


def test_no_recorded_field_becomes_markup(tmp_path: Path) -> None:
    """Every name, text, header and message that an agent or target chose, on every page that shows it."""

    async def fill(past: Past) -> None:
        who = Principal("local", EVIL, frozenset({EVIL}), run=EVIL, token_id="t")
        session = await past.session(who, EVIL, "postgres")
        past.operation(session, 1, "sql", EVIL, "deny", EVIL, message=EVIL)
        past.operation(session, 2, "http", EVIL, "allow", EVIL, incomplete=EVIL)
        hold = Hold("writes-need-a-dba", ("dba",))
        name = await past.hold(who, session, EVIL, hold, EVIL, verbs=[EVIL], writes=EVIL, other={EVIL: EVIL})
        await past.hold(who, session, EVIL, hold, EVIL + "http", kind="http")
        past.ledger.append("masked", session=session, operation=f"{session}.1", counts={EVIL: 1})
        past.ledger.append("viewed", by=EVIL, what=EVIL, file=EVIL)
        await past.store.lock("run", EVIL, EVIL, EVIL)
        assert name

    async def run() -> dict[str, str]:
        async with console(tmp_path, fill=fill) as it:
            alice = await it.sign_in(EVIL[:60], "dba", "ops")
            (session,) = (await it.desk.history.search_sessions(SessionQuery())).items
            (one, *_) = await it.past.store.list_approvals()
            paths = ["/approvals", f"/approvals/{one.id}", "/approvals/past", "/sessions", f"/sessions/{session.id}", "/hops?window=all"]
            paths += ["/hops", "/rules", "/health", "/audit", "/stop?kind=connection&value=x", "/grants", "/login?next=" + EVIL]
            pages = {path: await alice.get(path) for path in paths}
            for path in ("/sessions", "/stop", "/hops"):
                query = {"text": EVIL, "principal": EVIL, "kind": "run", "value": EVIL, "focus": EVIL, "window": EVIL, "done": EVIL}
                pages[f"{path}?evil"] = await alice.get(path, params=query)
            pages["explain"] = await alice.post("/rules/explain", data={"subject": EVIL, "connection": EVIL, "text": EVIL})
            pages["missing"] = await alice.get("/sessions/" + "%3Cscript%3Ealert(1)")
            return {path: page.text for path, page in pages.items() if page.status_code < 500} | {
                path: f"<script>{page.status_code}" for path, page in pages.items() if page.status_code >= 500
            }

    for path, page in asyncio.run(run()).items():
        assert "<script>" not in page, path
        assert "<img src=x" not in page, path
        assert "<svg/onload" not in page, path
        # a field that is sent back must hold the very text
        assert "\u202e" not in re.sub(r' value="[^"]*"|<textarea[^>]*>[^<]*<', "", page), path
        assert "<hx-partial hx-get" not in page, path
        assert not re.search(r"\son\w+=", re.sub(r'"[^"]*"|>[^<]*<', "", page)), path
