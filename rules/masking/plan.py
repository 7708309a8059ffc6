"""All masks of a decision, and the secrets of a session, compiled to one plan for bodies, headers, URLs and streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from rules.masking.bodies import mask_body
from rules.masking.charsets import MediaType
from rules.masking.document import DocumentMasks
from rules.masking.forms import mask_url
from rules.masking.jsonpath import compile_jsonpath
from rules.masking.names import NameMasks
from rules.masking.result import Counts, Masked
from rules.masking.scanner import Scanner
from rules.masking.strategies import Treatment
from rules.masking.streams import EventStream, LineStream, Stream
from rules.masking.terminal import TextStream
from rules.masking.texts import NDJSON
from rules.model import Mask

_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})
_URL_HEADERS: Final = frozenset({b"location", b"content-location", b"referer", b"refresh", b"link"})

type Fields = Sequence[tuple[bytes, bytes]]


class Plan:
    """What to hide in one session's responses. Immutable, shared; its repr shows no pattern and no secret."""

    __slots__ = ("_headers", "_query", "_scanner", "documents", "empty")

    def __init__(self, documents: DocumentMasks, scanner: Scanner, headers: NameMasks, query: NameMasks) -> None:
        self.documents = documents
        self._scanner = scanner
        self._headers = headers
        self._query = query
        self.empty: Final = not (documents.has_paths or scanner or headers or query)

    def __repr__(self) -> str:
        return f"<Plan{': nothing' if self.empty else ''}>"

    def body(self, content_type: str, data: bytes) -> Masked:
        """Mask a whole body, content codings already undone. What is not changed comes back as the very same bytes.

        Raises Unmaskable: nothing of it may pass.
        """
        if not data or not (self.documents.has_paths or self._scanner):
            return Masked(data, _NOTHING)
        counts = Counts()
        return Masked(mask_body(MediaType.of(content_type), data, self.documents, counts), counts)

    def text(self, data: bytes) -> Masked:
        """Mask a piece of text by detectors and known secrets alone: a SQL value, a line, a message."""
        counts = Counts()
        return Masked(self._scanner.mask(data, counts), counts)

    def headers(self, fields: Fields) -> tuple[tuple[tuple[bytes, bytes], ...], Mapping[str, int]]:
        """Mask header fields: whole values by name, parts by detectors and known secrets, parameters of URLs in them by name."""
        named = self._headers
        suspicious = bool(self._scanner) and self._scanner.narrowed(b"\n".join([part for field in fields for part in field])) is not None
        names = [name.decode("latin-1").lower() for name, _ in fields]
        if not suspicious and not (named and any(named[name] for name in names)) and not self._query:
            return tuple(fields), _NOTHING
        counts = Counts()
        masked = tuple((self._name(field[0], counts), self._header(name, field, counts)) for name, field in zip(names, fields, strict=True))
        return masked, counts

    def _name(self, name: bytes, counts: Counts) -> bytes:
        """A field's name, unless a secret stands in it: what takes its place must be a token (RFC 9110 section 5.1)."""
        return name if not self._scanner or self._scanner.mask(name, counts) is name else b"X-Redacted"

    def _header(self, name: str, field: tuple[bytes, bytes], counts: Counts) -> bytes:
        value = field[1]
        treatment = self._headers[name] if self._headers else None
        if treatment is not None:
            counts.add(treatment.rule)
            return treatment.of_bytes(value).translate(None, b"\r\n\0")
        if name.encode("latin-1") in _URL_HEADERS:
            url, found = self.url(value.decode("utf-8", "surrogateescape"))
            counts.add_all(found)
            return url.encode("utf-8", "surrogateescape").translate(None, b"\r\n\0") if found else value
        masked = self._scanner.mask(value, counts)
        return value if masked is value else masked.translate(None, b"\r\n\0")

    def url(self, path_and_query: str) -> tuple[str, Mapping[str, int]]:
        """Mask a path with its query, or a whole URL. What is not hidden keeps its spelling."""
        if not self._query and not self._scanner:
            return path_and_query, _NOTHING
        encoded = "%" in path_and_query or "+" in path_and_query or (self._query and "?" in path_and_query)
        if not encoded and self._scanner.narrowed(path_and_query.encode("utf-8", "surrogatepass")) is None:
            return path_and_query, _NOTHING  # nothing to decode: what the whole does not hold, no part holds
        counts = Counts()
        return mask_url(path_and_query, self._query, self._scanner, counts), counts

    def stream(self, content_type: str) -> Stream | None:
        """A stream for Server-Sent Events or NDJSON; None for what has to be masked as a whole."""
        media_type = MediaType.of(content_type)
        if any(charset not in ("utf-8", "utf8", "us-ascii") for charset in media_type.charsets):
            return None
        if media_type.essence == "text/event-stream":
            return EventStream(self.documents)
        if media_type.essence in NDJSON:
            return LineStream(self.documents)
        return None

    def text_stream(self) -> TextStream:
        """A stream for text without structure, as a terminal's: detectors and known secrets only."""
        return TextStream(self._scanner)


@lru_cache(maxsize=256)
def compile_plan(masks: tuple[Mask, ...], *, secrets: tuple[bytes, ...] = (), hash_key: bytes = b"") -> Plan:
    """`secrets` are hidden in any spelling with no rule needed. Without `hash_key`, `hash` becomes `redact`.

    Raises ValueError (a JSONPath or pattern that is none) and KeyError (an unknown detector): rule files that load have neither.
    """
    treatments = [(mask, Treatment.of(mask, hash_key)) for mask in masks]
    detectors: dict[str, list[Treatment]] = {}
    for mask, treatment in treatments:
        for name in mask.detect:
            detectors.setdefault(name, []).append(treatment)
    scanner = Scanner.of(detectors, secrets)
    paths = tuple((compile_jsonpath(path), treatment) for mask, treatment in treatments for path in mask.jsonpath)
    return Plan(
        DocumentMasks(paths, scanner),
        scanner,
        NameMasks(tuple((pattern, treatment) for mask, treatment in treatments for pattern in mask.headers), ignore_case=True),
        NameMasks(tuple((pattern, treatment) for mask, treatment in treatments for pattern in mask.query), ignore_case=False),
    )
