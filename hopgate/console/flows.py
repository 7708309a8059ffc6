"""Sign-ins that have begun at a provider and are not over: bounded in number and time, each tied to the browser that began it."""

from __future__ import annotations

import hmac
import itertools
import secrets
import time
from dataclasses import dataclass, field
from typing import Final, TypeGuard

from hopgate.console.pages.signin import FLOW_SECONDS
from hopgate.errors import Unauthenticated

MAX_FLOWS: Final = 10_000  # beyond, the oldest goes: whoever begins many must not keep others from signing in


@dataclass(slots=True, kw_only=True)
class Flow:
    """One sign-in on its way. Its `binding` is in a cookie of the browser that began it, so that nobody can end another's."""

    then: str  # where the person wanted to go
    until: float = field(default_factory=lambda: time.time() + FLOW_SECONDS)
    binding: str = field(default_factory=lambda: secrets.token_urlsafe(32))


class Flows[F: Flow]:
    """By `state`, which goes to the provider and comes back."""

    def __init__(self) -> None:
        self._flows: dict[str, F] = {}

    def keep(self, state: str, flow: F) -> None:
        now = time.time()
        for oldest in tuple(itertools.islice(self._flows, 2)):  # two for each that comes: in the end none that is over stays
            if self._flows[oldest].until <= now or len(self._flows) >= MAX_FLOWS:
                del self._flows[oldest]
        self._flows[state] = flow

    def find(self, state: str) -> F | None:
        """The sign-in of this state, if it is not over. It stays."""
        flow = self._flows.get(state)
        return flow if flow is not None and flow.until > time.time() else None

    def drop(self, state: str) -> None:
        self._flows.pop(state, None)

    def take(self, state: str, binding: str) -> F:
        """End it, whatever comes of that. Raises Unauthenticated when it is over or was begun in another browser."""
        flow = self.find(state)
        self.drop(state)
        if flow is None or not hmac.compare_digest(flow.binding.encode(), binding.encode()):
            raise Unauthenticated("this sign-in was not begun in this browser, or too long ago: sign in again")
        return flow


def is_subject(value: object) -> TypeGuard[str]:
    """Whether a provider's name for a person can be his subject here."""
    return isinstance(value, str) and 0 < len(value) <= 255 and value.isprintable()
