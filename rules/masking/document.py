"""JSONPath masks, detectors and known secrets applied to one parsed document, in place."""

from __future__ import annotations

from typing import Any

import orjson

from rules.masking.jsonpath import Path, Place
from rules.masking.numbers import Number, canonical
from rules.masking.result import Counts, Unmaskable
from rules.masking.scanner import Scanner
from rules.masking.strategies import Treatment, strongest

type Holder = list[Any]
type Hits = dict[tuple[int, Any], tuple[Any, Any, Treatment]]

_SHORTEST_NUMBER = 12  # digits of the shortest number that a detector knows


class DocumentMasks:
    """What is hidden in documents. `paths` in any order; where several name a place the strongest treatment counts."""

    def __init__(self, paths: tuple[tuple[Path, Treatment], ...], scanner: Scanner) -> None:
        self._anywhere = _strongest_by_name(paths)
        self._paths = tuple((path, treatment) for path, treatment in paths if path.anywhere is None)
        self._needs = {name: orjson.dumps(name) for path, _ in paths for name in path.names if _writable(name)}
        self.scanner = scanner
        self.has_paths = bool(paths)

    def may_touch(self, text: bytes, plain: bytes) -> bool:
        """False: nothing in this JSON text is hidden by any mask. `text` holds escapes only where it must, `plain` none."""
        if any(self._named_in(path, text) for path, _ in self._paths) or any(self._needs.get(name, b"") in text for name in self._anywhere):
            return True
        return bool(self.scanner) and (self.scanner.candidates(plain) or self.scanner.candidates(text))

    def apply(self, holder: Holder, counts: Counts, text: bytes | None, plain: bytes | None) -> bool:
        """Mask `holder[0]`; whether anything changed. `text` and `plain` as above, or None: then nothing is known of the text.

        Raises Unmaskable where a path fails on this document.
        """
        hits = self._hits(holder, text)
        scanner: Scanner | None = self.scanner or None
        if scanner is not None and text is not None and plain is not None:
            scanner = scanner.narrowed(plain, literals_in=text)
        changed = bool(hits)
        if scanner is not None:
            hits = {
                where: (container, key, _with_found(scanner, container[key], treatment))
                for where, (container, key, treatment) in hits.items()
            }
            changed = _scan(holder, scanner, hits, counts) or changed
        for container, key, treatment in hits.values():
            container[key] = treatment.of_value(container[key])
            counts.add(treatment.rule)
        return changed

    def _named_in(self, path: Path, text: bytes) -> bool:
        return all(self._needs.get(name, b"") in text for name in path.names)

    def _hits(self, holder: Holder, text: bytes | None) -> Hits:
        """The outermost places that paths name, each with its strongest treatment."""
        hits: Hits = {}
        wanted = {name: treatment for name, treatment in self._anywhere.items() if text is None or self._needs.get(name, b"") in text}
        if wanted:
            _collect(holder, wanted, hits)
        for path, treatment in self._paths:
            if text is None or self._named_in(path, text):
                for place in _places(path, holder):
                    _hit(hits, place, treatment)
        return hits


def _writable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _strongest_by_name(paths: tuple[tuple[Path, Treatment], ...]) -> dict[str, Treatment]:
    names: dict[str, Treatment] = {}
    for path, treatment in paths:
        if (name := path.anywhere) is not None:
            names[name] = strongest((treatment, names.get(name, treatment)))
    return names


def _places(path: Path, holder: Holder) -> list[Place]:
    try:
        return path.places(holder)
    except Exception as error:  # jsonpath-ng promises no error types
        raise Unmaskable(f"the JSONPath `{path.text}` fails on this document: {type(error).__name__}") from None


def _hit(hits: Hits, place: Place, treatment: Treatment) -> None:
    container, key = place
    known = hits.get((id(container), key))
    hits[id(container), key] = (container, key, treatment if known is None else strongest((treatment, known[2])))


def _collect(holder: Holder, wanted: dict[str, Treatment], hits: Hits) -> None:
    """`$..name` for all such masks in one walk. What stands below a hit goes away with it."""
    stack: list[Any] = [holder[0]]
    pop, push = stack.pop, stack.append
    while stack:
        node = pop()
        if type(node) is dict:
            for name, value in node.items():
                if name in wanted:
                    hits[id(node), name] = (node, name, wanted[name])
                kind = type(value)
                if kind is dict or kind is list:
                    push(value)
        elif type(node) is list:
            for value in node:
                kind = type(value)
                if kind is dict or kind is list:
                    push(value)


def _with_found(scanner: Scanner, value: Any, treatment: Treatment) -> Treatment:
    """A value that a path names and in which a detector finds something gets the strongest treatment of all, as a whole."""
    if isinstance(value, dict | list | bool) or value is None:
        return treatment
    text = value if isinstance(value, str) else canonical(value)
    return strongest((treatment, *(found.treatment for found in scanner.find(text.encode("utf-8", "surrogatepass")))))


def _scan(holder: Holder, scanner: Scanner, hits: Hits, counts: Counts) -> bool:
    """Hide what the scanner finds in strings, numbers and member names, but for the places that paths replace anyway."""
    changed = False
    stack: list[Any] = [holder]
    while stack:
        node = stack.pop()
        if type(node) is dict:
            changed = _scan_names(node, scanner, hits, counts) or changed
        for key, value in node.items() if type(node) is dict else enumerate(node):
            if (id(node), key) in hits:
                continue
            kind = type(value)
            if kind is dict or kind is list:
                stack.append(value)
            elif kind is str or kind is int or kind is float or kind is Number:
                masked = _scan_value(value, scanner, counts)
                if masked is not value:
                    node[key] = masked
                    changed = True
    return changed


def _scan_value(value: Any, scanner: Scanner, counts: Counts) -> Any:
    text = value if type(value) is str else canonical(value)
    if type(value) is not str and len(text) < _SHORTEST_NUMBER and not scanner.literals:
        return value
    data = text.encode("utf-8", "surrogatepass")
    spans = scanner.find(data)
    if not spans:
        return value
    if len(spans) == 1 and spans[0].start == 0 and spans[0].end == len(data):
        counts.add(spans[0].treatment.rule)
        return spans[0].treatment.of_value(text)
    return scanner.mask_text(text, counts)


def _scan_names(node: dict[str, Any], scanner: Scanner, hits: Hits, counts: Counts) -> bool:
    """Member names are data too: `{"alice@example.org": …}`. Two names that come out alike are told apart by a number."""
    masked = {name: scanner.mask_text(name, counts) for name in node}
    if all(name == new for name, new in masked.items()):
        return False
    members = list(node.items())
    node.clear()
    for name, value in members:
        new = base = masked[name]
        number = 2
        while new in node or (new != name and new in masked):
            new = f"{base} {number}"
            number += 1
        node[new] = value
        if new != name and (hit := hits.pop((id(node), name), None)) is not None:
            hits[id(node), new] = (node, new, hit[2])
    return True
