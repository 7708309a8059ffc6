"""URL-encoded forms, and the path and query of a URL: what is decoded is looked at, what is not hidden keeps its bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from rules.masking.document import DocumentMasks
from rules.masking.names import NameMasks
from rules.masking.result import Counts
from rules.masking.scanner import Scanner

# servers differ in whether `;` separates, so a name behind one is taken for a name
_SEPARATOR: Final = re.compile(r"([&;])")

type Field = Callable[[str, str], tuple[str, str]]


def mask_form(data: bytes, masks: DocumentMasks, counts: Counts) -> bytes:
    """Mask `application/x-www-form-urlencoded`: JSONPath masks see each field as the object `{name: value}`."""

    def field(name: str, value: str) -> tuple[str, str]:
        holder: list[Any] = [{name: value}]
        if not masks.apply(holder, counts, None, masks.scanner or None):
            return name, value
        if not isinstance(holder[0], dict):
            return name, _text(holder[0])
        [(masked_name, masked)] = holder[0].items()
        return masked_name, _text(masked)

    text = data.decode("utf-8", "surrogateescape")
    masked = _mask_fields(text, field)
    form = data if masked == text else masked.encode("utf-8", "surrogateescape")
    return masks.scanner.secrets.mask(form, counts)  # doubly encoded, or with a `+` that is no blank


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def mask_url(url: str, names: NameMasks, scanner: Scanner, counts: Counts) -> str:
    """Mask a path with its query (or a whole URL): query parameters by name, anything by detectors and known secrets."""
    rest, mark, fragment = url.partition("#")
    path, question, query = rest.partition("?")
    path = _mask_encoded("/".join([_mask_encoded(segment, scanner, counts) for segment in path.split("/")]), scanner, counts)
    fragment = _mask_encoded(fragment, scanner, counts)

    def field(name: str, value: str) -> tuple[str, str]:
        treatment = names[name] if names else None
        if treatment is not None:
            counts.add(treatment.rule)
            return scanner.mask_text(name, counts), treatment.of_text(value)
        return scanner.mask_text(name, counts), scanner.mask_text(value, counts)

    return scanner.secrets.mask_text(path + question + (_mask_fields(query, field) if query else "") + mark + fragment, counts)


def _mask_encoded(raw: str, scanner: Scanner, counts: Counts) -> str:
    """A part of a URL as it is, or its decoded form masked and encoded again."""
    decoded = unquote(raw, errors="surrogateescape")
    masked = scanner.mask_text(decoded, counts)
    return raw if masked == decoded else quote(masked, safe="/:@[]!$&'()*+,;=~?", errors="surrogateescape")


def _mask_fields(text: str, field: Field) -> str:
    pieces = _SEPARATOR.split(text)
    for index in range(0, len(pieces), 2):
        if not pieces[index]:
            continue
        raw_name, equals, raw_value = pieces[index].partition("=")
        name, value = unquote_plus(raw_name, errors="surrogateescape"), unquote_plus(raw_value, errors="surrogateescape")
        masked_name, masked_value = field(name, value)
        if (masked_name, masked_value) != (name, value):
            new_name = raw_name if masked_name == name else _quoted(masked_name)
            new_value = raw_value if masked_value == value else _quoted(masked_value)
            pieces[index] = new_name + (equals or ("=" if new_value else "")) + new_value
    return "".join(pieces)


def _quoted(text: str) -> str:
    return quote_plus(text, safe="[]*@:/", errors="surrogateescape")
