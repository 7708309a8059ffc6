"""Rows of one result set with their masked columns replaced, and what detectors and known secrets find in the others hidden."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from relays.postgres import rows
from relays.postgres.values import Replace, Value, is_json, is_text, json_prefix, shown
from relays.wire import RemoteProtocolError
from rules.masking import Plan, Unmaskable
from rules.masking.result import Counts
from rules.masking.strategies import Treatment

try:
    from relays.postgres._frames import collect_values, mask_rows, skip_rows
except ImportError:  # not compiled
    mask_rows, collect_values, skip_rows = rows.mask_rows, rows.collect_values, rows.skip_rows

_BETWEEN: Final = b"\n\0\n"  # no text value holds NUL, and no detector reaches over it
_STRUCTURED: Final = frozenset(b'{["')


class RowMasker:
    """Masks DataRow messages of one result set, whole buffers at a time. `counts`: rule -> values hidden so far."""

    def __init__(
        self,
        columns: Sequence[tuple[Treatment, Value | Replace] | None],
        kinds: Sequence[tuple[int, int]],
        plan: Plan,
        texts: frozenset[int] = frozenset(),
        *,
        by_form: bool = True,
    ) -> None:
        """`plan` looks through what has no replacement of its own: always `by_form`, else only where a known secret is suspected."""
        self._width = len(columns)
        self._kinds = kinds
        self._plan = plan
        self._texts = texts
        self._rules = [column[0].rule if column is not None else "" for column in columns]
        self._actions: list[rows.Action] = [None if column is None else _action(column[1]) for column in columns]
        self._scanned: list[int] = []
        if not plan.empty:
            self._scanned = [index for index, column in enumerate(columns) if column is None]
        self._by_form = by_form
        self._tallies = [0] * self._width
        self._found = Counts()
        self._acts = any(action is not None for action in self._actions)
        self.idle: Final = not self._acts and not (self._scanned and by_form)

    @property
    def counts(self) -> Counts:
        counts = Counts(self._found)
        for rule, count in zip(self._rules, self._tallies, strict=True):
            if count and rule:
                counts.add(rule, count)
        return counts

    def feed(self, data: bytes, start: int = 0, *, suspicious: bool = True) -> tuple[bytes, int]:
        """The complete DataRow messages from `start` on, masked, and the position behind them. `suspicious`: some may hold a known secret.

        Stops before the first message that is no DataRow or not complete. Raises RemoteProtocolError for rows that are none.
        """
        actions, acts = self._actions, self._acts
        if self._scanned and (self._by_form or suspicious):
            end, values = collect_values(data, start, self._width, self._scanned)
            suspects = self._suspects(values)
            if suspects:
                actions, acts = list(actions), True
                for index in suspects:
                    actions[index] = self._scanner(index)
        if not acts:
            end, _ = skip_rows(data, start)
            return data[start:end], end
        tallies = [0] * self._width
        masked, end = mask_rows(data, start, self._width, actions, tallies)
        for index, count in enumerate(tallies):
            if self._rules[index]:
                self._tallies[index] += count
        return masked, end

    def __call__(self, data: bytes) -> bytes:
        """`data`, which is complete DataRow messages and nothing else, masked. Raises RemoteProtocolError."""
        masked, end = self.feed(data)
        if end != len(data):
            raise RemoteProtocolError("something else than complete rows")
        return masked

    def _suspects(self, values: Sequence[tuple[int, bytes]]) -> set[int]:
        """The columns in which detectors, known secrets or paths may have something to hide."""
        found = set()
        texts: list[bytes] = []
        for index, value in values:
            kind, format = self._kinds[index]
            if is_json(kind) or (value and value[0] in _STRUCTURED and is_text(kind, self._texts)):
                found.add(index)
            else:
                texts.append(shown(kind, format, value))
        joined = _BETWEEN.join(texts)
        if joined and self._plan.text(joined).data is not joined:
            found.update(self._scanned)
        return found

    def _scanner(self, index: int) -> Replace:
        kind, format = self._kinds[index]
        prefix = json_prefix(kind, format)
        text = is_text(kind, self._texts)
        whole = prefix or is_json(kind)

        def replace(value: bytes) -> Value:
            try:
                if whole or (text and value and value[0] in _STRUCTURED):
                    masked = self._plan.body("application/json" if whole else "text/plain", value[len(prefix) :])
                    self._found.add_all(masked.counts)
                    return prefix + masked.data
                seen = shown(kind, format, value)
                masked = self._plan.text(seen)
            except Unmaskable:
                self._found.add("unmaskable")
                return None
            if masked.data is seen:
                return value
            self._found.add_all(masked.counts)
            return masked.data if text else None  # another type's decoder would fail on the masked text

        return replace


def _action(replacement: Value | Replace) -> rows.Action:
    return replacement if callable(replacement) else rows.wire_form(replacement)
