"""How a value is hidden: null, redact, fixed, hash, partial; the strongest wins where several meet."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from rules.masking.numbers import canonical
from rules.model import Mask, Strategy

REDACTED: Final = "[redacted]"
HIDDEN: Final = "****"  # of constant length: stars as many as letters would tell the length

_RANK: Final[dict[Strategy, int]] = {"partial": 0, "hash": 1, "fixed": 2, "redact": 3, "null": 4}


@dataclass(frozen=True, slots=True)
class Treatment:
    """One rule's way to hide a value. `strength` orders them; ties fall the same way whatever the order of rules."""

    rule: str
    strategy: Strategy = "redact"
    keep: int = 4
    value: str = ""
    hash_key: bytes = field(default=b"", repr=False)

    @classmethod
    def of(cls, mask: Mask, hash_key: bytes) -> Treatment:
        """A hash without a key could be guessed by trying values, so it becomes `redact`."""
        strategy: Strategy = "redact" if mask.strategy == "hash" and not hash_key else mask.strategy
        return cls(mask.rule, strategy, max(mask.keep, 0), mask.value, hash_key)

    @property
    def strength(self) -> tuple[int, int, str, str]:
        return (_RANK[self.strategy], -self.keep, self.value, self.rule)

    @property
    def constant(self) -> bool:
        """Whether what it makes of a value does not depend on the value."""
        return self.strategy in ("null", "redact", "fixed")

    def of_value(self, value: Any) -> Any:
        """Hide a JSON value: a string whatever it was, or null."""
        if self.strategy == "null":
            return None
        if isinstance(value, str):
            return self.of_text(value)
        if self.strategy == "partial" and (value is None or isinstance(value, bool | dict | list)):
            return HIDDEN  # the end of `true` or of an object says what it was
        return self.of_text(value if isinstance(value, str) else canonical(value))

    def of_text(self, text: str) -> str:
        """Hide a piece of text; null leaves nothing."""
        match self.strategy:
            case "null":
                return ""
            case "fixed":
                return self.value
            case "hash":
                return "hmac:" + hmac.new(self.hash_key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:16]
            case "partial":
                return HIDDEN + text[-self.keep :] if self.keep and len(text) >= 2 * self.keep else HIDDEN
            case _:
                return REDACTED

    def of_bytes(self, data: bytes) -> bytes:
        """Hide a piece of a byte string that is UTF-8, or nearly so."""
        return self.of_text(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def strongest(treatments: Iterable[Treatment]) -> Treatment:
    """The one that wins on one value: null > redact > fixed > hash > partial, then the one that keeps least."""
    return max(treatments, key=lambda treatment: treatment.strength)
