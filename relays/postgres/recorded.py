"""What the recording has of a client's statements: their text and values, without what must not be kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from relays.postgres import params
from relays.postgres.codec import Bind, Report
from rules.model import UNKNOWN

if TYPE_CHECKING:
    from rules.masking import Plan

MAX_VALUE: Final = 1024  # bytes of a bound value
MAX_REFUSED: Final = 64 << 10  # bytes of a statement that did not run: refusals cost a client nothing, a disk they do
_MARGIN: Final = 16 << 10  # what is to be hidden may begin before the cut and end behind it


def statement(sql: bytes, bind: Bind, types: Sequence[int]) -> bytes:
    """A statement with its values, as comments behind it. `types` are OIDs of the parameters, as far as they are known."""
    if not bind.values:
        return sql
    lines = [sql]
    for index, value in enumerate(bind.values):
        shown = value if value is None or bind.format_of(index) == 0 else params.shown(value, _type(types, index), 1).encode()
        # no value may look like another line
        lines.append(b"-- $%d = %b" % (index + 1, b"NULL" if shown is None else shown[:MAX_VALUE].replace(b"\n", b"\\n")))
    return b"\n".join(lines)


def values(bind: Bind, types: Sequence[int]) -> list[str]:
    """The values alone, for the card of an approval: quoted, so that none can look like another line of it."""
    found = []
    for index, each in enumerate(bind.values):
        format, kind = bind.format_of(index), _type(types, index)
        known = None if each is None else params.value(each, kind, format)
        found.append("NULL" if each is None else repr(params.shown(each, kind, format)) if known is UNKNOWN else repr(known))
    return found


def _type(types: Sequence[int], index: int) -> int:
    return types[index] if index < len(types) else 0


def refusal(report: Report) -> bytes:
    """What the gateway answered in place of the server."""
    detail = report.get(b"D")
    return b"REFUSED %b: %b" % (report.get(b"C"), report.get(b"M")) + (b" (%b)" % detail if detail else b"")


class Refusals:
    """The texts of statements that are not run, or not yet. Each is told once, before what became of it."""

    def __init__(self) -> None:
        self._text = b""

    def judging(self, text: bytes) -> None:
        """What is being judged."""
        self._text = text

    def tell(self, record: Callable[[bytes], None], plan: Plan) -> None:
        """Record the text, unless that has been done; `plan` hides in it what it hides in results."""
        text, self._text = self._text, b""
        if text:
            kept = plan.text(text[: MAX_REFUSED + _MARGIN]).data
            record(kept if len(kept) <= MAX_REFUSED else kept[:MAX_REFUSED] + b"\n[cut: %d bytes in all]" % len(text))


__all__ = ["MAX_REFUSED", "Refusals", "refusal", "statement", "values"]
