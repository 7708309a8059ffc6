"""What a command line may be before any parser sees it: bytes, nesting, pipes; text without characters that hide others.

The grammar is a GLR parser: it takes time that grows with the square of a pipeline's length, and its trees get as deep as
the text nests. Counting is by bytes wherever they stand, quoted ones included: it can only be too strict.
"""

from __future__ import annotations

import re
from typing import Final

MAX_BYTES: Final = 64 << 10
MAX_NESTING: Final = 400  # bytes that may open something
MAX_PIPES: Final = 200
MAX_CLAUSES: Final = 400  # words that open or continue a compound command
MAX_HEREDOCS: Final = 50
MAX_NODES: Final = 20_000
MAX_DEPTH: Final = 16  # texts in texts: sh -c "sh -c …"
MAX_PARTS: Final = 2_000
MAX_READ: Final = 256 << 10  # bytes of all texts in the command together

_OPENING: Final = re.compile(rb"[({`\[]")
_CLAUSE: Final = re.compile(
    rb"(?<![A-Za-z0-9_])(?:if|then|elif|else|while|until|for|select|case|do|function|time|coproc|!)(?![A-Za-z0-9_])|\[\["
)
# C0 but tab and newline, DEL; C1, no-break and zero-width spaces, line separators, directional marks, tags
_HIDING: Final = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)


class Exceeded(ValueError):
    """A command line beyond a bound, or one that is no plain text. The message is what `reason` says."""


def check(text: bytes) -> None:
    """Raises Exceeded with the first bound that `text` is beyond."""
    if len(text) > MAX_BYTES:
        raise Exceeded(f"the command is longer than {MAX_BYTES} bytes")
    if b"\0" in text:
        raise Exceeded("the command contains a NUL byte")
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        raise Exceeded(f"the command is not UTF-8 at byte {error.start}") from None
    hiding = _HIDING.search(decoded)
    if hiding:
        raise Exceeded(f"the command contains the character U+{ord(hiding.group()):04X}, which does not show")
    if len(text) <= MAX_PIPES:
        return
    if len(_OPENING.findall(text)) > MAX_NESTING or len(_CLAUSE.findall(text)) > MAX_CLAUSES:
        raise Exceeded("the command nests too much")
    if text.count(b"|") > MAX_PIPES:
        raise Exceeded(f"the command has more than {MAX_PIPES} pipes")
    if text.count(b"<<") > MAX_HEREDOCS:
        raise Exceeded(f"the command has more than {MAX_HEREDOCS} here-documents")
