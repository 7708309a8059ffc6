"""Patterns over the names of headers and query parameters: globs with `*` and `?`, or `re:` and RE2 over the whole name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import re2

from rules.masking.strategies import Treatment, strongest

_MOST_NAMES: Final = 2048  # remembered; a caller could send new ones for ever


class NameMasks:
    """name -> the strongest treatment of all patterns that match it, remembered."""

    def __init__(self, patterns: tuple[tuple[str, Treatment], ...], *, ignore_case: bool) -> None:
        self._patterns = tuple((_compile(pattern, ignore_case), treatment) for pattern, treatment in patterns)
        self._known: dict[str, Treatment | None] = {}

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def __getitem__(self, name: str) -> Treatment | None:
        try:
            return self._known[name]
        except KeyError:
            if len(self._known) >= _MOST_NAMES:
                self._known.clear()
            found = [treatment for matches, treatment in self._patterns if matches(name)]
            self._known[name] = treatment = strongest(found) if found else None
            return treatment


def _compile(pattern: str, ignore_case: bool) -> Callable[[str], bool]:
    """Raises ValueError."""
    if pattern.startswith("re:"):
        options = re2.Options()
        options.case_sensitive = not ignore_case
        options.log_errors = False
        try:
            expression = re2.compile(pattern[3:], options)
        except re2.error as error:
            raise ValueError(f"not an RE2 pattern: {pattern!r}") from error
        return lambda name: expression.fullmatch(name) is not None
    parts = ((".*" if part[0] == "*" else "." if part == "?" else re.escape(part)) for part in re.findall(r"\*+|\?|[^*?]+", pattern))
    glob = re.compile("".join(parts), re.DOTALL | (re.IGNORECASE if ignore_case else 0))
    return lambda name: glob.fullmatch(name) is not None
