"""Find secrets and personal data by their form: RE2 finds candidates, a validator decides, and names exactly the bytes to hide.

Every detector works on bytes (UTF-8 or any superset of ASCII); `find` also takes str. None needs more of a line than the value itself,
so the same detectors serve bodies, headers, SQL values and terminal output.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import re2

from rules.masking import validators
from rules.masking.validators import Span

LATIN1: Final = re2.Options()
LATIN1.encoding = re2.Options.Encoding.LATIN1  # bytes in, offsets in bytes
LATIN1.log_errors = False

_WORD: Final = re.compile(rb"[0-9A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Detector:
    """A named form. `validate(data, start, end)` gives the span to hide, or None; `pattern` is RE2 over Latin-1.

    One of `marks` is in all that it hides, or just before it; none: nothing like that is known. A search for these is several times as
    fast as RE2, and tells that most text holds none of it.
    """

    name: str
    pattern: bytes
    validate: Callable[[bytes, int, int], Span | None]
    regex: Any
    marks: tuple[bytes, ...] = ()

    def find(self, data: bytes) -> Iterator[Span]:
        """All spans, in order, without overlaps.

        After a refused candidate the search goes on behind its first word, or where an empty span points: candidates without a bound
        in length need the latter, or a hostile text is read again and again.
        """
        position = 0
        search = self.regex.search
        while (match := search(data, position)) is not None:
            start, end = match.span()
            span = self.validate(data, start, end)
            if span is None:
                word = _WORD.match(data, start)
                position = max(start + 1, word.end() if word else 0)
                continue
            if span[0] < span[1]:
                yield span
            position = max(span[1], start + 1)


def _detector(
    name: str, pattern: bytes, validate: Callable[[bytes, int, int], Span | None] = validators.whole, marks: tuple[bytes, ...] = ()
) -> Detector:
    return Detector(name, pattern, validate, re2.compile(pattern, LATIN1), marks)


_TOKEN: Final = rb"[0-9A-Za-z_-]"
_IBAN_COUNTRIES: Final = (
    rb"(?:A[DELTZ]|B[AEGHIRY]|C[HRYZ]|D[EJKO]|E[EGS]|F[IKOR]|G[BEILRT]|H[NRU]|I[ELQST]|JO|K[WZ]|L[BCITUVY]|M[CDEKNRTU]|N[ILO]|OM|P[KLST]"
    rb"|QA|R[OSU]|S[ACDEIKMOTV]|T[LNR]|UA|V[AG]|XK|YE)"
)

_ALL: Final = (
    # header.payload.signature, or the five parts of a JWE; the first letters are `{"`, `{ ` or `{` and a line end in base64
    _detector(
        "jwt",
        rb"e[wy]" + _TOKEN + rb"{8,}\." + _TOKEN + rb"*\." + _TOKEN + rb"*(?:\." + _TOKEN + rb"*\." + _TOKEN + rb"+)?",
        validators.jwt,
        # the header names `"alg"` or `"enc"`: these in base64, behind 0, 1 and 2 bytes, as far as they are the same whatever is around
        (b"ImFsZy", b"JhbGci", b"iYWxnI", b"ImVuYy", b"JlbmMi", b"iZW5jI"),
    ),
    _detector("aws_access_key", rb"(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}", validators.aws_access_key, (b"AKIA", b"ASIA", b"ABIA", b"ACCA")),
    _detector("aws_secret_key", rb"[0-9A-Za-z/+]{40,}", validators.aws_secret_key),
    _detector(
        "github_token",
        rb"gh[oprsu]_[0-9A-Za-z_]{36,}|github_pat_[0-9A-Za-z_]{22,}",
        marks=(b"gho_", b"ghp_", b"ghr_", b"ghs_", b"ghu_", b"github_pat_"),
    ),
    _detector(
        "slack_token",
        rb"xox[a-z](?:\.xox[a-z])?-[0-9A-Za-z-]{10,}|xapp-[0-9]-[0-9A-Za-z-]{10,}|hooks\.slack\.com/(?:services|workflows)/[0-9A-Za-z/_-]{20,}",
        validators.slack_token,
        (b"xox", b"xapp-", b"hooks.slack.com/"),
    ),
    _detector(
        "gcp_key",
        rb"AIza" + _TOKEN + rb"{35}|GOCSPX-" + _TOKEN + rb"{20,}|ya29\." + _TOKEN + rb"{20,}",
        validators.gcp_key,
        (b"AIza", b"GOCSPX-", b"ya29."),
    ),
    _detector(
        "private_key",
        rb"-----BEGIN [0-9A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----|---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----"
        rb"|AGE-SECRET-KEY-1[0-9A-Z]{50,}|Private-Lines: [0-9]{1,6}",
        validators.private_key,
        (b"PRIVATE KEY", b"AGE-SECRET-KEY-1", b"Private-Lines: "),
    ),
    _detector(
        "bearer",
        rb"(?i:bearer)(?:[ \t]|%20|\+){1,4}[0-9A-Za-z._~+/%-]{8,}=*",
        validators.bearer,
        tuple(bytes(letters) for letters in itertools.product(*zip(b"bear", b"BEAR", strict=True))),
    ),
    _detector(
        "email",
        rb"[0-9A-Za-z._%+'\x80-\xff-]+(?:@|%40)[0-9A-Za-z\x80-\xff](?:[0-9A-Za-z\x80-\xff.-]*[0-9A-Za-z\x80-\xff])?\.[A-Za-z\x80-\xff][0-9A-Za-z\x80-\xff-]+",
        validators.email,
    ),
    _detector(
        "card",
        rb"[2-6][0-9]{12,18}|[2-6][0-9]{3}[ .-][0-9]{4}[ .-][0-9]{4}[ .-][0-9]{1,4}(?:[ .-][0-9]{1,3})?"
        rb"|3[0-9]{3}[ .-][0-9]{6}[ .-][0-9]{4,5}",
        validators.card,
    ),
    _detector(
        "iban",
        _IBAN_COUNTRIES + rb"[0-9]{2}(?:[ -]?[0-9A-Za-z]){11,30}|(?i:" + _IBAN_COUNTRIES + rb")[0-9]{2}[0-9A-Za-z]{11,30}",
        validators.iban,
    ),
    _detector("us_ssn", rb"[0-8][0-9]{2}-[0-9]{2}-[0-9]{4}|[0-8][0-9]{2} [0-9]{2} [0-9]{4}", validators.us_ssn),
    _detector(
        "phone",
        rb"\+[1-9](?:[ .()/-]{0,2}[0-9]){7,14}|(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}",
        validators.phone,
    ),
)

DETECTORS: Final[tuple[str, ...]] = tuple(detector.name for detector in _ALL)
NAMES: Final[frozenset[str]] = frozenset(DETECTORS)
_BY_NAME: Final = {detector.name: detector for detector in _ALL}


def detector(name: str) -> Detector:
    """Raises KeyError for a name that is not in `NAMES`."""
    return _BY_NAME[name]


@lru_cache(maxsize=128)
def set_of(names: tuple[str, ...]) -> Any:
    """A compiled RE2 set: `.Match(data)` gives the indices of the detectors that have a candidate, in one pass."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = 64 << 20
    patterns = re2.Set.SearchSet(options)
    for name in names:
        patterns.Add(_BY_NAME[name].pattern)
    patterns.Compile()
    return patterns


@lru_cache(maxsize=128)
def any_of(names: tuple[str, ...]) -> Any:
    """One RE2 program that matches wherever one of these detectors has a candidate; for a first look."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = True
    options.max_mem = 32 << 20
    return re2.compile(b"|".join(b"(?:" + _BY_NAME[name].pattern + b")" for name in names), options)


@lru_cache(maxsize=128)
def first_look(names: tuple[str, ...], more: bytes) -> Any:
    """Like `any_of`, and `more` as well."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = True
    options.max_mem = 64 << 20
    return re2.compile(b"|".join([*(b"(?:" + _BY_NAME[name].pattern + b")" for name in names), b"(?:" + more + b")"]), options)


def marks_of(names: tuple[str, ...]) -> tuple[bytes, ...]:
    """One of these is in whatever these detectors hide, or just before it; empty when that is not known of each of them."""
    found = [_BY_NAME[name].marks for name in names]
    return tuple(mark for marks in found for mark in marks) if all(found) else ()


def find(text: str | bytes, names: Iterable[str] = DETECTORS) -> list[tuple[int, int, str]]:
    """(start, end, detector) of everything found, ordered; offsets are in the units of `text`. Spans of different detectors may overlap."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    found = sorted((start, end, name) for name in names for start, end in _BY_NAME[name].find(data))
    if isinstance(text, bytes) or data.isascii():
        return found
    return [
        (len(data[:start].decode("utf-8", "surrogatepass")), len(data[:end].decode("utf-8", "surrogatepass")), name)
        for start, end, name in found
    ]
