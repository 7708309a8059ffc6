"""What tells a secret from a string that looks like one: checksums, ranges, decodable headers, neighbours.

Each validator takes (data, start, end) of a candidate and gives the span to hide, or None; an empty one says that nothing is before it.
"""

from __future__ import annotations

import binascii
import math
import re
from collections import Counter
from typing import Final

type Span = tuple[int, int]

_DIGITS: Final = frozenset(b"0123456789")
_ALNUM: Final = _DIGITS | frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_UPPER_ALNUM: Final = _DIGITS | frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")


# The neighbours of a candidate; NUL where there is none, which is in no class below.
def _before(data: bytes, start: int) -> int:
    return data[start - 1] if start > 0 else 0


def _after(data: bytes, end: int) -> int:
    return data[end] if end < len(data) else 0


def _decimals(data: bytes, start: int) -> bool:
    """Whether the digits at start stand behind a decimal point."""
    return start > 1 and data[start - 1] == 0x2E and data[start - 2] in _DIGITS


_ESCAPE: Final = re.compile(rb"(?:\\[abfnrtv]|\\u[0-9A-Fa-f]{4}|%[0-9A-Fa-f]{2}|\x1b\[[0-9;?]*[A-Za-z])\Z")


def _glued(data: bytes, start: int) -> bool:
    """Whether a word goes on into start; the letters of an escape (\\n, %3D, a terminal's colour) belong to no word."""
    return _before(data, start) in _ALNUM and _ESCAPE.search(data, max(0, start - 16), start) is None


def _part_of_number(data: bytes, start: int, end: int) -> bool:
    """Whether the digits at start:end go on in a longer word or number: 0.411…, 123-45-6789-0, a4111…"""
    before, after = _before(data, start), _after(data, end)
    if _glued(data, start) or after in _ALNUM:
        return True
    if before == 0x2D and start > 1 and data[start - 2] in _DIGITS:
        return True
    return _decimals(data, start) or (after in b".-" and _after(data, end + 1) in _DIGITS)


def whole(data: bytes, start: int, end: int) -> Span | None:
    return (start, end)


_HEADER_STARTS: Final = re.compile(rb"ey[AIJ]|ew[0ko]")
_HEADER_TRIES: Final = 32


def jwt(data: bytes, start: int, end: int) -> Span | None:
    """A JWS or JWE in compact form (RFC 7515 3.1): its first part must decode to an object that names `alg` or `enc`."""
    header_end = data.index(b".", start, end)
    tries = 0
    for match in _HEADER_STARTS.finditer(data, start, header_end):
        tries += 1
        if tries > _HEADER_TRIES:
            return (start, end)  # somebody hides the start among false ones
        segment = data[match.start() : header_end].translate(_FROM_URL_SAFE)
        try:
            header = binascii.a2b_base64(segment + b"=" * (-len(segment) % 4))
        except binascii.Error:
            continue
        if b'"alg"' in header or b'"enc"' in header:
            return (match.start(), end)
    return (header_end, header_end)


_FROM_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")


def aws_access_key(data: bytes, start: int, end: int) -> Span | None:
    """AKIA is a word of no language; the other prefixes must stand alone."""
    if data.startswith(b"AKIA", start):
        return (start, end)
    return None if _before(data, start) in _UPPER_ALNUM or _after(data, end) in _UPPER_ALNUM else (start, end)


def aws_secret_key(data: bytes, start: int, end: int) -> Span | None:
    """40 characters of base64 that stand alone, mix cases and digits, and are as random as base64 of 30 random bytes."""
    if end - start != 40 or _before(data, start) in b"_-." or _after(data, end) in b"=_-":
        return (end, end)
    key = data[start:end]
    if key.upper() == key or key.lower() == key or not any(byte in _DIGITS for byte in key):
        return (end, end)
    entropy = -sum(n / 40 * math.log2(n / 40) for n in Counter(key).values())
    return (start, end) if entropy >= 4.25 else (end, end)


def slack_token(data: bytes, start: int, end: int) -> Span | None:
    """Of a webhook's address, the part that is the secret."""
    if data.startswith(b"hooks.", start):
        return (data.index(b"/", data.index(b"/", start) + 1) + 1, end)
    return (start, end)


def gcp_key(data: bytes, start: int, end: int) -> Span | None:
    return None if data.startswith(b"ya29", start) and _before(data, start) in _ALNUM else (start, end)


_KEY_END: Final = re.compile(rb"-{4,5} ?END |Private-MAC:")


def private_key(data: bytes, start: int, end: int) -> Span | None:
    """What stands between the BEGIN line and the END line (RFC 7468); to the end of the text where END is missing."""
    if data.startswith(b"AGE-", start):
        return (start, end)
    close = _KEY_END.search(data, end)
    stop = close.start() if close else len(data)
    # a PEM inside of a string literal has the two characters \n for its line ends
    while stop - end > 0 and data[end : end + 1] in (b"\r", b"\n"):
        end += 1
    while stop - end > 0 and data[stop - 1 : stop] in (b"\r", b"\n"):
        stop -= 1
    return (end, stop) if stop > end else None


_BEARER_WORD: Final = re.compile(rb"(?i:bearer)(?:[ \t]|%20|\+){1,4}")


def bearer(data: bytes, start: int, end: int) -> Span | None:
    """The token after the word (RFC 6750 2.1). Prose such as `bearer authentication` is left alone."""
    word = _BEARER_WORD.match(data, start, end)
    if word is None:
        return None
    token = data[word.end() : end]
    if token.isalpha() and token.lower() == token and len(token) < 24:
        return None
    if len(token) < 16 and not any(byte in _DIGITS for byte in token):
        return None
    return (word.end(), end)


# `icon@2x.png` and `module@1.2.js` have the form of an address
_FILE_ENDINGS: Final = frozenset(
    b"png jpg jpeg gif svg webp avif ico bmp js mjs cjs ts tsx jsx css scss map json html htm xml txt yaml yml woff woff2 ttf".split()
)


def email(data: bytes, start: int, end: int) -> Span | None:
    """An address (RFC 5321 4.1.2 without quoted and literal forms)."""
    while data[start] == 0x27:  # a quote around the address; within it, as in O'Neil's, it belongs to it
        start += 1
    last = data.rindex(b".", start, end)
    if data[last + 1 : end].lower() not in _FILE_ENDINGS:
        return (start, end)
    at = max(data.rfind(b"@", start, end) + 1, data.rfind(b"%40", start, end) + 3)
    version = data[at:last]  # `2x`, `1.2.0`; but `bob@example.com.txt` is a file that names an address
    return (end, end) if b"." not in version or version.replace(b".", b"").isdigit() else (start, end)


def _luhn(digits: bytes) -> bool:
    total = 0
    for index, byte in enumerate(reversed(digits)):
        digit = byte - 48
        if index & 1:
            digit = digit * 2 - 9 if digit > 4 else digit * 2
        total += digit
    return total % 10 == 0


def _is_card(digits: bytes) -> bool:
    """Length and issuer range (ISO/IEC 7812) and the check digit."""
    length, two, four = len(digits), int(digits[:2]), int(digits[:4])
    match digits[:1]:
        case b"4":
            known = length in (13, 16, 19)
        case b"5":
            known = length == 16 and (51 <= two <= 55 or four in (5018, 5020, 5038, 5893))
        case b"2":
            known = length == 16 and 2221 <= four <= 2720
        case b"3":
            known = (two in (34, 37) and length == 15) or ((300 <= four // 10 <= 305 or two in (36, 38, 39)) and 14 <= length <= 19)
            known = known or (3528 <= four <= 3589 and 16 <= length <= 19)
        case _:
            known = 16 <= length <= 19 and (two in (62, 65) or four in (6011, 6304, 6759, 6761, 6762, 6763) or 644 <= four // 10 <= 649)
    return known and _luhn(digits) and len(set(digits)) > 1


_GROUPS: Final = re.compile(rb"[ .-]")


def card(data: bytes, start: int, end: int) -> Span | None:
    """A payment card's number, in one piece or in groups with one kind of separator; a group that does not belong is left off."""
    separators = set(_GROUPS.findall(data, start, end))
    if len(separators) > 1 and data[end - 4 : end].isdigit():
        return None
    if _glued(data, start) or _decimals(data, start):
        return None
    while True:
        # `-123`, a check value, may follow: only what touches the number makes it another number
        if _after(data, end) not in _ALNUM and _is_card(b"".join(_GROUPS.split(data[start:end]))):
            return (start, end)
        shorter = max(data.rfind(separator, start, end) for separator in separators) if separators else -1
        if shorter - start < 13:
            return None
        end = shorter


# ISO 13616 registry: length -> countries.
_IBAN_COUNTRIES: Final = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_IBAN_LENGTHS: Final = {code.encode(): length for length, codes in _IBAN_COUNTRIES.items() for code in codes.split()}


def iban(data: bytes, start: int, end: int) -> Span | None:
    """Country, its length and the check by 97 (ISO 13616); text that follows after a blank is left off."""
    length = _IBAN_LENGTHS.get(data[start : start + 2].upper())
    if length is None or _glued(data, start):
        return None
    number = bytearray()
    position = start
    while position < end and len(number) < length:
        if data[position] in _ALNUM:
            number.append(data[position])
        position += 1
    if len(number) < length or _after(data, position) in _ALNUM:
        return None
    moved = (bytes(number[4:]) + bytes(number[:4])).decode()
    return (start, position) if int("".join(str(int(letter, 36)) for letter in moved)) % 97 == 1 else None


def us_ssn(data: bytes, start: int, end: int) -> Span | None:
    """Numbers that the Social Security Administration may have given out."""
    area, group, serial = data[start : start + 3], data[start + 4 : start + 6], data[start + 7 : end]
    if area in (b"000", b"666") or group == b"00" or serial == b"0000" or _part_of_number(data, start, end):
        return None
    return (start, end)


def phone(data: bytes, start: int, end: int) -> Span | None:
    """E.164 with a plus, or a North American number with separators; groups of digits that do not belong are left off."""
    if _before(data, start) == 0x2B:
        return None
    if data[start] != 0x2B:
        return None if _part_of_number(data, start, end) else (start, end)
    while (digits := sum(byte in _DIGITS for byte in data[start:end])) >= 8:
        national = data[start + 1] == 0x31
        if (digits == 11 if national else digits <= 15) and not _part_of_number(data, start, end):
            return (start, end)
        end = start + len(data[start:end].rstrip(b"0123456789").rstrip(b" .()/-"))
    return None
