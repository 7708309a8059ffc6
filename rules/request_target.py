"""The request target and method in one unambiguous form, or a refusal: what the gateway judges must be what every server reads.

RFC 3986 leaves much to the server (dot segments, empty segments, encoded delimiters), and servers differ; see RFC 9110 section 4.2.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

from rules.members import Members

MAX_PATH: Final = 8192  # characters, what common servers accept at most
MAX_PARAMETERS: Final = 1000
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PLAIN: Final = re.compile(r"(?:/(?!\.\.?(?:/|\Z))[A-Za-z0-9_.~!$&'()*+,=:@-]+)+/?|/")
_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_ALLOWED: Final = re.compile(r"[A-Za-z0-9_.~!$&'()*+,=:@/%\[\]|^`{}\"-]*")
_QUERY: Final = re.compile(r"[!-~]*")
_DELIMITERS: Final = "/\\.%?#;"


class AmbiguousRequest(ValueError):
    """Servers would read this request differently. `reason` says what is wrong."""

    @property
    def reason(self) -> str:
        return str(self.args[0])


class AmbiguousPath(AmbiguousRequest):
    """A path that has more than one reading."""


def canonical_method(method: str) -> str:
    """`method` itself: an RFC 9110 token in upper case. Raises AmbiguousRequest."""
    if _TOKEN.fullmatch(method) is None:
        raise AmbiguousRequest("the method is not an RFC 9110 token")
    if method != method.upper():
        # methods are case-sensitive (section 9.1), but some servers fold them
        raise AmbiguousRequest("the method is not in upper case")
    return method


def canonical_path(raw: str) -> str:
    """The path of a raw request target (its query is cut off), percent-decoded once. Raises AmbiguousPath.

    Refused: dot segments and empty segments, encoded slash or backslash, control characters, what decodes twice, path
    parameters (`;`), fragments, characters that RFC 3986 does not allow raw, and anything but valid UTF-8.
    """
    path = raw.partition("?")[0]
    if len(path) > MAX_PATH:
        raise AmbiguousPath(f"the path is longer than {MAX_PATH} characters")
    if _PLAIN.fullmatch(path) is not None or path == "*":
        return path
    if not path.startswith("/"):
        raise AmbiguousPath("the path does not start with a slash")
    _check_raw(path)
    decoded = _decoded(path)
    _check_segments(decoded)
    return decoded


def _check_raw(path: str) -> None:
    if "#" in path:
        raise AmbiguousPath("the path has a fragment")
    if "\\" in path:
        raise AmbiguousPath("the path has a backslash")
    if ";" in path:
        # `/admin;x` is `/admin` to servlet containers, `/a/..;/b` climbs
        raise AmbiguousPath("the path has a parameter (`;`)")
    if _ALLOWED.fullmatch(path) is None:
        raise AmbiguousPath("the path has a character that must be percent-encoded")
    if path.count("%") != len(_ESCAPE.findall(path)):
        raise AmbiguousPath("the path has a percent sign that encodes nothing")


def _decoded(path: str) -> str:
    try:
        decoded = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise AmbiguousPath("the path is not UTF-8") from None
    if decoded.count("/") != path.count("/"):
        raise AmbiguousPath("the path has an encoded slash")
    if "\\" in decoded:
        raise AmbiguousPath("the path has an encoded backslash")
    if ";" in decoded:
        # a server behind another one that decodes sees a raw one
        raise AmbiguousPath("the path has an encoded parameter (`%3b`)")
    if _ESCAPE.search(decoded) is not None:
        raise AmbiguousPath("the path is encoded twice")
    for character in decoded:
        if character < " " or (character >= "\x7f" and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Cn")):
            raise AmbiguousPath("the path has a control character")
    if not decoded.isascii():
        # some servers fold compatibility forms, which turns U+FF0F into a slash
        folded = unicodedata.normalize("NFKC", decoded)
        if any(folded.count(delimiter) != decoded.count(delimiter) for delimiter in _DELIMITERS):
            raise AmbiguousPath("the path has a character that folds to a delimiter")
    return decoded


def _check_segments(decoded: str) -> None:
    segments = decoded.split("/")[1:]
    if "" in segments[:-1]:
        raise AmbiguousPath("the path has an empty segment")
    if any(segment.strip() in (".", "..") for segment in segments):
        raise AmbiguousPath("the path has a dot segment")


def query_parameters(raw: str) -> Mapping[str, tuple[str, ...]] | None:
    """Name -> values of a raw query, decoded once, `+` as a space; None where servers would read it differently."""
    if not raw:
        return {}
    if _QUERY.fullmatch(raw) is None or "#" in raw or ";" in raw:
        return None  # `;` separates parameters for some servers
    return form_parameters(raw)


def form_parameters(text: str) -> Mapping[str, tuple[str, ...]] | None:
    """Name -> values of `application/x-www-form-urlencoded` text; None when it is not valid, or has too many parameters."""
    pairs = text.split("&")
    if len(pairs) > MAX_PARAMETERS:
        return None
    found = Members()
    for pair in pairs:
        if not pair:
            continue
        name, _, value = pair.partition("=")
        try:
            key, decoded = _form_text(name), _form_text(value)
        except UnicodeDecodeError:
            return None
        found[key] = (*found.get(key, ()), decoded)
    return found


def _form_text(text: str) -> str:
    if "%" not in text and "+" not in text:
        return text
    return unquote_to_bytes(text.replace("+", " ")).decode("utf-8")
