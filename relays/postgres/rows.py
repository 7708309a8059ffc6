"""Walk DataRow messages that stand back to back in a buffer, and put other values into some of their columns.

    DataRow (B): Byte1('D') Int32 length Int16 columns, then for each Int32 length (-1 is NULL) and the bytes
    (PostgreSQL 18, 54.7 Message Formats)

The functions of `relays.postgres._frames` do the same, compiled; both run under the same tests.
"""

from __future__ import annotations

from collections.abc import Callable, MutableSequence, Sequence
from struct import Struct
from typing import Final

from relays.wire import RemoteProtocolError

type Action = (
    bytes | Callable[[bytes], bytes | None] | None
)  # wire form of a constant (length included), a function of the value, leave as it is

DATA_ROW: Final = 0x44
NULL: Final = b"\xff\xff\xff\xff"

_INT16: Final = Struct("!h").unpack_from
_INT32: Final = Struct("!i").unpack_from
_LENGTH: Final = Struct("!i").pack
_HEADER: Final = Struct("!BI").pack


class Ending:
    """What hides a value but for its last `keep` characters, behind `hidden`; a short one is hidden whole.

    `otherwise` does the same for text that is not ASCII, whose characters are not bytes. (Compiled code does the rest by itself.)
    """

    __slots__ = ("hidden", "keep", "otherwise")

    def __init__(self, hidden: bytes, keep: int, otherwise: Callable[[bytes], bytes]) -> None:
        self.hidden, self.keep, self.otherwise = hidden, keep, otherwise

    def __call__(self, value: bytes) -> bytes:
        if not value.isascii():
            return self.otherwise(value)
        return self.hidden + value[-self.keep :] if self.keep and len(value) >= 2 * self.keep else self.hidden


def wire_form(value: bytes | None) -> bytes:
    """A column's value as it stands in a DataRow: its length and its bytes."""
    return NULL if value is None else _LENGTH(len(value)) + value


def skip_rows(data: bytes, start: int = 0, kind: int = DATA_ROW) -> tuple[int, int]:
    """Where the complete messages of this kind that begin at `start` end, and how many they are. Raises RemoteProtocolError."""
    at, end, rows = start, len(data), 0
    while at + 5 <= end and data[at] == kind:
        length = _INT32(data, at + 1)[0]
        if length < 4:
            raise RemoteProtocolError("a message whose length is less than that of its own length field")
        following = at + 1 + length
        if following > end:
            break
        at = following
        rows += 1
    return at, rows


def collect_values(data: bytes, start: int, columns: int, wanted: Sequence[int]) -> tuple[int, list[tuple[int, bytes]]]:
    """The values of the `wanted` columns (ascending) that are not NULL, each with its column, and where the complete rows end."""
    found: list[tuple[int, bytes]] = []
    chosen = frozenset(wanted)
    last = max(wanted, default=-1)
    stop, _ = skip_rows(data, start)
    at = start
    while at < stop:
        position, following = _open(data, at, columns)
        for index in range(last + 1):
            position, length = _value(data, position, following)
            if length >= 0:
                if index in chosen:
                    found.append((index, data[position : position + length]))
                position += length
        at = following
    return stop, found


def mask_rows(data: bytes, start: int, columns: int, actions: Sequence[Action], tallies: MutableSequence[int]) -> tuple[bytes, int]:
    """The complete rows from `start` on with `actions` applied to their first columns, and where they ended in `data`.

    NULL stays NULL. `tallies[n]` is counted up for each value of column n that was replaced. Raises RemoteProtocolError for a
    row that is not one, or has another number of columns.
    """
    stop, _ = skip_rows(data, start)
    pieces: list[bytes] = []
    add = pieces.append
    at = start
    last = max((index for index, action in enumerate(actions) if action is not None), default=-1)
    acting = list(enumerate(actions[: last + 1]))
    counts = [0] * (last + 1)
    int32 = _INT32
    while at < stop:
        position, following = _open(data, at, columns)
        begin = len(pieces)
        add(b"")  # the header, when the length is known
        kept = at + 5  # what is not yet copied begins here
        grown = 0
        for index, action in acting:
            if position + 4 > following:
                raise RemoteProtocolError(_CUT)
            length = int32(data, position)[0]
            if length < 0:
                if length < -1:
                    raise RemoteProtocolError(_LONG)
                position += 4
                continue
            end = position + 4 + length
            if end > following:
                raise RemoteProtocolError(_LONG)
            if action is not None:
                form = action if type(action) is bytes else wire_form(action(data[position + 4 : end]))  # type: ignore[operator]
                add(data[kept:position])
                add(form)
                grown += len(form) - length - 4
                counts[index] += 1
                kept = end
            position = end
        add(data[kept:following])
        pieces[begin] = _HEADER(DATA_ROW, following - at - 1 + grown)
        at = following
    for index, count in enumerate(counts):
        if count:
            tallies[index] += count
    return b"".join(pieces), stop


_CUT: Final = "a row that ends inside of a column"
_LONG: Final = "a column that is longer than its row"


def _open(data: bytes, at: int, columns: int) -> tuple[int, int]:
    """Where the columns of the row at `at` begin, and where it ends."""
    following = at + 1 + _INT32(data, at + 1)[0]
    if following - at < 7 or _INT16(data, at + 5)[0] != columns:
        raise RemoteProtocolError("a row with another number of columns than its description")
    return at + 7, following


def _value(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Where the value behind the length at `position` begins, and its length; -1 is NULL."""
    if position + 4 > end:
        raise RemoteProtocolError(_CUT)
    length = _INT32(data, position)[0]
    if length < -1 or position + 4 + length > end:
        raise RemoteProtocolError(_LONG)
    return position + 4, length
