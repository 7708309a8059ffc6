"""`$..name` masks applied to JSON text as it stands: values are cut out and replaced, and every other byte stays.

Sound only for text that is known to be JSON and holds no backslash. Then quotes come in pairs, a string token `"name"` cannot be anything
else, before a colon it is a member's name, and a string ends at the next quote. So nothing has to be built, walked and written again:
a third of the time of the walk, and numbers cannot change.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

import orjson

from rules.masking.result import Counts
from rules.masking.strategies import Treatment

_BLANK = rb"[ \t\r\n]*"
_SCALAR = rb'("[^"]*"|[^"\[{,}\] \t\r\n]+)'


def splice(data: bytes, wanted: Mapping[str, Treatment], counts: Counts) -> bytes | None:
    """`data` with the value of every member named in `wanted` hidden. None where a value is no string, or the mask brings a backslash:
    then the caller walks the document.
    """
    tried = Counts()
    for name, treatment in wanted.items():
        token = b'"' + name.encode() + b'"'
        if token not in data:
            continue
        scalar, container = _patterns(token)
        if container.search(data) is not None:
            return None
        if treatment.constant:
            hidden = orjson.dumps(treatment.of_value(""))
            if b"\\" in hidden:
                return None
            data, number = scalar.subn(rb"\1" + hidden, data)
        else:
            try:
                data, number = scalar.subn(functools.partial(_hide, treatment), data)
            except _NotText:
                return None
        if number:
            tried.add(treatment.rule, number)
    counts.add_all(tried)
    return data


class _NotText(Exception):
    """The value is a number, a boolean or null: what is shown of it depends on how it reads, not on how it is written."""


def _hide(treatment: Treatment, match: re.Match[bytes]) -> bytes:
    value = match[2]
    if value[:1] != b'"':
        raise _NotText
    hidden = orjson.dumps(treatment.of_value(value[1:-1].decode()))
    if b"\\" in hidden:
        raise _NotText
    return match[1] + hidden


@functools.lru_cache(256)
def _patterns(token: bytes) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    member = re.escape(token) + _BLANK + b":" + _BLANK
    return re.compile(b"(" + member + b")" + _SCALAR), re.compile(member + rb"[\[{]")
