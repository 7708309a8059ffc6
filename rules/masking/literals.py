"""Find known secrets — the credentials that the gateway injected — however a response may spell them.

Plain, base64 and base64url at each of the three alignments, hex, UTF-16; and with any of their characters URL-encoded (either case, also
doubly), escaped as in JSON or as in HTML.
"""

from __future__ import annotations

import binascii
import re
from functools import cached_property, lru_cache
from typing import Any, Final
from urllib.parse import quote, quote_plus

import orjson
import re2

from rules.masking.validators import Span

try:
    from rules.masking._needles import Needles, holds_byte
except ImportError:  # not compiled
    from rules.masking.needles import Needles, holds_byte  # type: ignore[assignment]

__all__ = ["SHORTEST", "Literals", "Needles", "literals_of"]

SHORTEST: Final = 4  # bytes; what is shorter is no secret, and hiding it would hide half of every body
_LONGEST_SPELLED: Final = 512  # characters of a secret whose every mixture of spellings is looked for
_FIRST_LOOK: Final = 8  # bytes
_HEAD: Final = 4  # bytes by which forms are told apart at the end of a piece
_BASE64: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")
_SPELLING_MARKS: Final = b"%\\&+"  # one of them is in whatever spells characters one by one

_SHORT_ESCAPES: Final = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}
_HTML_NAMES: Final = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}


@lru_cache(maxsize=64)  # what is searched with is 64 KiB, and sessions on one connection have the same secrets
def literals_of(secrets: tuple[bytes, ...]) -> Literals:
    """The spellings of these secrets."""
    return Literals(secrets)


class Literals:
    """The spellings of a set of secrets. Its repr tells only how many there are."""

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        kept = sorted({form for secret in secrets for form in (secret, secret.strip()) if len(form) >= SHORTEST})
        self._secrets = tuple(kept)
        wide = {form for secret in kept for form in _wide_forms(secret)}
        self._wide = tuple(sorted(form for form in wide if b"\0" in form))
        self._plain = tuple(sorted({form for secret in kept for form in _plain_forms(secret)} | wide.difference(self._wide)))
        # (needle, whether the character before it, and that after it, hold bits of the secret as well)
        self._base64 = tuple(sorted({form for secret in kept for form in _base64_forms(secret)}))
        self.needles = (*self._plain, *self._wide, *dict.fromkeys(needle for needle, _, _ in self._base64))
        self._search = Needles(self.needles)
        self.longest = max((len(form) for form in self._plain + self._wide), default=0)

    def __repr__(self) -> str:
        return f"<Literals: {len(self._secrets)}>"

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def found_in(self, data: bytes) -> bool:
        """Whether any spelling occurs."""
        if self._search.found_in(data):
            return True
        return self.may_be_spelled(data) and any(regex.search(data) is not None for regex in self._spelled)

    def may_be_spelled(self, data: bytes) -> bool:
        """Whether a secret may stand in it that is spelled character by character, in which `needles` are not."""
        return bool(self._secrets) and holds_byte(data, _SPELLING_MARKS)

    def find(self, data: bytes) -> list[Span]:
        """Spans of all spellings; they may overlap."""
        spans = [span for form in self._plain for span in _occurrences(data, form)]
        for needle, before, after in self._base64:
            for start, end in _occurrences(data, needle):
                start -= before and start > 0 and data[start - 1] in _BASE64
                end += after and end < len(data) and data[end] in _BASE64
                spans.append((start, end))
        if b"\0" in data:
            spans += [span for form in self._wide for span in _occurrences(data, form)]
        if self.may_be_spelled(data):
            spans += [match.span() for regex in self._spelled for match in regex.finditer(data)]
        return spans

    def open_tail(self, data: bytes) -> int:
        """Where the earliest beginning of a spelling starts that the end of `data` may have cut; `len(data)` if none."""
        end = first = len(data)
        tail = data[max(0, end - self._longest_held + 1) :]
        before = end - len(tail)
        for head, forms in self._tails.items():
            position = tail.find(head)
            while 0 <= position < first - before:
                if any(form.startswith(tail[position:]) for form in forms):
                    first = before + position
                    break
                position = tail.find(head, position + 1)
        for size in range(_HEAD - 1, 0, -1):  # what is shorter than the heads
            if data[end - size :] in self._starts and end - size < first and size <= end:
                return end - size
        return first

    @cached_property
    def _held_forms(self) -> tuple[bytes, ...]:
        return self._plain + self._wide + tuple(needle for needle, _, _ in self._base64)

    @cached_property
    def _longest_held(self) -> int:
        return max(map(len, self._held_forms), default=0)

    @cached_property
    def _tails(self) -> dict[bytes, tuple[bytes, ...]]:
        """Forms by how they begin."""
        found: dict[bytes, list[bytes]] = {}
        for form in self._held_forms:
            found.setdefault(form[:_HEAD], []).append(form)
        return {head: tuple(forms) for head, forms in found.items()}

    @cached_property
    def _starts(self) -> frozenset[bytes]:
        return frozenset(form[:size] for form in self._held_forms for size in range(1, _HEAD))

    @cached_property
    def first_look(self) -> bytes:
        """RE2 that matches the first characters of every spelling: one pass tells where nothing can be. Empty without secrets."""
        beginnings = {form[:_FIRST_LOOK] for form in self._held_forms}
        patterns = [b"".join(b"\\x%02x" % byte for byte in beginning) for beginning in sorted(beginnings)]
        patterns += [_spellings(_beginning(secret)) for secret in self._secrets if len(secret) <= _LONGEST_SPELLED]
        return b"|".join(patterns)

    @cached_property
    def _spelled(self) -> tuple[Any, ...]:
        options = _options()
        options.longest_match = True  # `abc%` may stand there as `abc%25`
        return tuple(re2.compile(_spellings(secret), options) for secret in self._secrets if len(secret) <= _LONGEST_SPELLED)


def _options() -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = 64 << 20
    options.never_capture = True
    return options


def _beginning(secret: bytes) -> bytes:
    """The first characters of a secret; bytes where it is no text."""
    try:
        return secret.decode()[:_HEAD].encode()
    except UnicodeDecodeError:
        # as `_spellings` reads the whole: as bytes, which a beginning that is text would not be
        return secret[:_HEAD]


def _occurrences(data: bytes, form: bytes) -> list[Span]:
    spans = []
    position = data.find(form)
    while position >= 0:
        spans.append((position, position + len(form)))
        position = data.find(form, position + 1)
    return spans


def _plain_forms(secret: bytes) -> set[bytes]:
    forms = _encoded_forms(secret) if len(secret) > _LONGEST_SPELLED else set()
    forms |= {secret, secret.hex().encode(), secret.hex().upper().encode(), secret.replace(b"\n", b"\r\n"), secret.replace(b"\n", b"\\n")}
    try:
        forms.add(orjson.dumps(secret.decode())[1:-1])
    except UnicodeDecodeError:
        pass
    return forms


def _encoded_forms(secret: bytes) -> set[bytes]:
    """URL-encoded forms of a secret that is too long for every mixture of spellings."""
    upper = {
        quote(secret, safe="").encode(),
        quote(secret).encode(),
        quote_plus(secret).encode(),
        quote(secret, safe=_UNRESERVED_MARKS).encode(),
    }
    return upper | {_HEX.sub(lambda match: match.group().lower(), form) for form in upper}


_HEX: Final = re.compile(rb"%[0-9A-F]{2}")
_UNRESERVED_MARKS: Final = "!~*'()"  # what JavaScript's encodeURIComponent leaves alone


def _wide_forms(secret: bytes) -> set[bytes]:
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        return set()
    return {text.encode("utf-16-le"), text.encode("utf-16-be")}


def _base64_forms(secret: bytes) -> set[tuple[bytes, bool, bool]]:
    """For 0, 1 and 2 bytes before it: the characters that depend on the secret alone; whether it shares those beside them (RFC 4648)."""
    forms = set()
    for shift in range(3):
        encoded = binascii.b2a_base64(b"\0" * shift + secret, newline=False).rstrip(b"=")
        first = -(-shift * 8 // 6)
        stop = (shift + len(secret)) * 8 // 6
        shared_before, shared_after = shift > 0, (shift + len(secret)) % 3 != 0
        needle = encoded[first:stop]
        forms.add((needle, shared_before, shared_after))
        forms.add((needle.translate(_URL_SAFE), shared_before, shared_after))
    return forms


_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


def _spellings(secret: bytes) -> bytes:
    """RE2 for a secret in which each character may be written plainly, as %41 or %2541, as \\u0041 or \\/, as &#65; or &amp;"""
    try:
        characters = list(secret.decode())
    except UnicodeDecodeError:
        return b"".join(_byte_spelling(byte) for byte in secret)
    return b"".join(_character_spelling(character) for character in characters)


def _byte_spelling(byte: int) -> bytes:
    return b"(?:\\x%02x|%%(?:25){0,3}(?i:%02x))" % (byte, byte)


def _character_spelling(character: str) -> bytes:
    code = ord(character)
    units = character.encode("utf-16-be")
    escaped = b"".join(b"\\\\+u(?i:%s)" % units[at : at + 2].hex().encode() for at in range(0, len(units), 2))
    short = b"".join(b"\\\\+x(?i:%02x)" % byte for byte in character.encode())  # as scripts write it
    forms = [b"".join(_byte_spelling(byte) for byte in character.encode()), escaped, short, b"&#0*%d;" % code, b"&#(?i:x)0*(?i:%x);" % code]
    if character == " ":
        forms.append(rb"\+")
    if character in "\"'\\/":
        forms.append(rb"\\+\x%02x" % code)
    if character in _SHORT_ESCAPES:
        forms.append(rb"\\+" + _SHORT_ESCAPES[character].encode())
    if character in _HTML_NAMES:
        forms.append(b"&" + _HTML_NAMES[character].encode() + b";")
    return b"(?:" + b"|".join(forms) + b")"
