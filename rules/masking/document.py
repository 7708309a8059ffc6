"""JSONPath masks, detectors and known secrets applied to one parsed document, in place."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import Any, Final

import orjson

from rules.masking.jsonpath import Path, Place
from rules.masking.numbers import Number, canonical
from rules.masking.result import Counts, Unmaskable
from rules.masking.scanner import Found, Scanner, hide
from rules.masking.splice import splice
from rules.masking.strategies import Treatment, strongest
from rules.masking.tokens import mask_tokens

type Holder = list[Any]
type Hits = dict[tuple[int, Any], tuple[Any, Any, Treatment]]

_SMALLEST_FINDABLE: Final = 10**11  # numbers that a detector knows have twelve digits and more
_NUMBERS: Final = frozenset((int, float, Number))
_CONTAINERS: Final = frozenset((dict, list))


class DocumentMasks:
    """What is hidden in documents. `paths` in any order; where several name a place the strongest treatment counts."""

    def __init__(self, paths: tuple[tuple[Path, Treatment], ...], scanner: Scanner) -> None:
        self._anywhere = _strongest_by_name(paths)
        self._paths = tuple((path, treatment) for path, treatment in paths if path.anywhere is None)
        self._needs = {name: orjson.dumps(name) for path, _ in paths for name in path.names if _writable(name)}
        self.scanner = scanner
        self.has_paths = bool(paths)

    def named_in(self, text: bytes) -> bool:
        """False: no JSONPath matches in this JSON text, which holds escapes only where it must."""
        return any(self._needs.get(name, b"") in text for name in self._anywhere) or any(
            self._named_in(path, text) for path, _ in self._paths
        )

    def tokens(self, text: bytes, scanner: Scanner | None, counts: Counts) -> bytes | None:
        """Mask JSON text without a backslash as it stands; None where that cannot be done."""
        if any(self._named_in(path, text) for path, _ in self._paths):
            return None
        wanted = {name: treatment for name, treatment in self._anywhere.items() if name in self._needs and self._needs[name] in text}
        return splice(text, wanted, counts) if scanner is None else mask_tokens(text, wanted, scanner, counts)

    def apply(self, holder: Holder, counts: Counts, text: bytes | None, scanner: Scanner | None) -> bool:
        """Mask `holder[0]`; whether anything changed. `text` as above, or None: nothing is known. `scanner` knows all that it may hold.

        Raises Unmaskable where a path fails on this document.
        """
        anywhere = {name: treatment for name, treatment in self._anywhere.items() if text is None or self._needs.get(name, b"") in text}
        paths = [pair for pair in self._paths if text is None or self._named_in(pair[0], text)]
        if scanner is None and not paths:
            return bool(anywhere) and _replace(holder, anywhere, counts)
        hits: Hits = {}
        if anywhere:
            _collect(holder, anywhere, hits)
        for path, treatment in paths:
            for place in _places(path, holder):
                _hit(hits, place, treatment)
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


def _replace(holder: Holder, wanted: dict[str, Treatment], counts: Counts) -> bool:
    """`$..name` for all such masks, in one walk, where nothing else is to be looked at."""
    if type(holder[0]) not in _CONTAINERS:
        return False
    found = dict.fromkeys(wanted, 0)
    ways = [
        (name, treatment.of_value("") if treatment.constant else None, None if treatment.constant else treatment)
        for name, treatment in wanted.items()
    ]
    stack: list[Any] = [holder[0]]
    pop = stack.pop
    while stack:
        node = pop()
        if type(node) is dict:
            for name, hidden, treatment in ways:
                if name in node:
                    node[name] = hidden if treatment is None else treatment.of_value(node[name])
                    found[name] += 1
            node = node.values()
        stack += [value for value in node if type(value) in _CONTAINERS]
    for name, count in found.items():
        if count:
            counts.add(wanted[name].rule, count)
    return any(found.values())


def _collect(holder: Holder, wanted: dict[str, Treatment], hits: Hits) -> None:
    """The places of `$..name` for all such masks, in one walk."""
    stack: list[Any] = [holder[0]] if type(holder[0]) in _CONTAINERS else []
    pop = stack.pop
    while stack:
        node = pop()
        if type(node) is dict:
            for name, treatment in wanted.items():
                if name in node:
                    hits[id(node), name] = (node, name, treatment)
            node = node.values()
        stack += [value for value in node if type(value) in _CONTAINERS]


def _with_found(scanner: Scanner, value: Any, treatment: Treatment) -> Treatment:
    """A value that a path names and in which a detector finds something gets the strongest treatment of all, as a whole."""
    if isinstance(value, dict | list | bool) or value is None:
        return treatment
    text = value if isinstance(value, str) else canonical(value)
    return strongest((treatment, *(found.treatment for found in scanner.find(text.encode("utf-8", "surrogatepass")))))


def _scan(holder: Holder, scanner: Scanner, hits: Hits, counts: Counts) -> bool:
    """Hide what the scanner finds in strings, numbers and member names, but for the places that paths replace anyway.

    The texts are looked at all at once, with NULs between them, and one by one only where something was found.
    """
    places: list[Place] = []  # (object, None) stands for the names of its members
    texts: list[str] = []
    stack: list[Any] = [holder]
    while stack:
        node = stack.pop()
        if type(node) is dict:
            places.append((node, None))
            texts.append("\0".join(node))
        for key, value in node.items() if type(node) is dict else enumerate(node):
            kind = type(value)
            if kind is str or kind in _NUMBERS:
                places.append((node, key))
                texts.append(value if kind is str else _digits(value, scanner))
            elif kind in _CONTAINERS and (id(node), key) not in hits:
                stack.append(value)
    suspicious = _suspicious(texts, scanner)
    changed = False
    for index, spans in suspicious.items():
        container, key = places[index]
        if key is not None and spans and (id(container), key) not in hits:
            container[key] = _hidden(texts[index], spans, counts)
            changed = True
    for index in suspicious:  # names last: until now the places go by the old ones
        container, key = places[index]
        if key is None:
            changed = _scan_names(container, scanner, hits, counts) or changed
    return changed


def _digits(number: Any, scanner: Scanner) -> str:
    """The text of a number in which something could be found."""
    if not scanner.literals and (type(number) is float or (type(number) is int and abs(number) < _SMALLEST_FINDABLE)):
        return ""
    return canonical(number)


def _suspicious(texts: list[str], scanner: Scanner) -> dict[int, list[Found]]:
    """Index of a text -> what is found in it."""
    joined = "\0".join(texts).encode("utf-8", "surrogatepass")
    spans = scanner.find(joined)
    if not spans:
        return {}
    size = len if len(joined) == sum(map(len, texts)) + len(texts) - 1 else _encoded_size
    starts = list(accumulate((size(text) + 1 for text in texts), initial=0))
    found: dict[int, list[Found]] = {}
    across: set[int] = set()
    for span in spans:
        first, last = bisect_right(starts, span.start) - 1, bisect_left(starts, span.end) - 1
        start = starts[first]
        found.setdefault(first, []).append(Found(span.start - start, span.end - start, span.treatment))
        if first != last:  # a private key without an end, say
            across.update(range(first, last + 1))
    for index in across:
        found[index] = scanner.find(texts[index].encode("utf-8", "surrogatepass"))
    return found


def _encoded_size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _hidden(text: str, spans: list[Found], counts: Counts) -> Any:
    data = text.encode("utf-8", "surrogatepass")
    if len(spans) == 1 and spans[0].start == 0 and spans[0].end == len(data):
        counts.add(spans[0].treatment.rule)
        return spans[0].treatment.of_value(text)
    return hide(data, spans, counts).decode("utf-8", "surrogatepass")


def _scan_names(node: dict[str, Any], scanner: Scanner, hits: Hits, counts: Counts) -> bool:
    """Member names are data too: `{"alice@example.org": …}`. Two names that come out alike are told apart by a number."""
    found = list(node)
    masked = {name: name for name in found}
    for index, spans in _suspicious(found, scanner).items():  # all at once: there may be a hundred thousand of them
        if spans:
            data = hide(found[index].encode("utf-8", "surrogatepass"), spans, counts)
            masked[found[index]] = data.decode("utf-8", "surrogatepass")
    if all(name == new for name, new in masked.items()):
        return False
    members = list(node.items())
    node.clear()
    numbers: dict[str, int] = {}
    for name, value in members:
        new = base = masked[name]
        while new in node or (new != name and new in masked):
            numbers[base] = number = numbers.get(base, 1) + 1
            new = f"{base} {number}"
        node[new] = value
        if new != name and (hit := hits.pop((id(node), name), None)) is not None:
            hits[id(node), new] = (node, new, hit[2])
    return True
