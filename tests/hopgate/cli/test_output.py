"""Text from outside cannot act on a terminal."""

from __future__ import annotations

import pytest

from hopgate.cli.output import span, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ünïcödé, 漢字", "plain text, ünïcödé, 漢字"),
        ("\x1b[31mred", r"\u{1b}[31mred"),
        ("a\nb\tc", r"a\u{a}b\u{9}c"),
        ("right\u202eleft", r"right\u{202e}left"),
        ("zero\u200bwidth\ufeff", r"zero\u{200b}width\u{feff}"),
        ("iso\u2066late\u2069", r"iso\u{2066}late\u{2069}"),
        ("c1\x9b2J", r"c1\u{9b}2J"),
        ("line\u2028sep", r"line\u{2028}sep"),
        ("lone\ud800", r"lone\u{d800}"),
        ("\x00\x7f", r"\u{0}\u{7f}"),
    ],
)
def test_what_a_terminal_obeys_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_line_feeds_stay_where_lines_are_meant() -> None:
    assert visible("a\n\tb\r\x1b", lines=True) == "a\n\tb" + r"\u{d}\u{1b}"


@pytest.mark.parametrize(("seconds", "said"), [(-3, "0 s"), (45, "45 s"), (540, "9 min"), (3 * 3600, "3 h"), (5 * 86400, "5 d")])
def test_spans(seconds: float, said: str) -> None:
    assert span(seconds) == said
