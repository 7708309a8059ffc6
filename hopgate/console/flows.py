"""Sign-ins that have begun at a provider and are not over: bounded in number and time, each tied to the browser that began it."""

from __future__ import annotations

import hmac
import secrets
import time
from dataclasses import dataclass, field
from typing import Final, TypeGuard

from hopgate.console.pages.signin import FLOW_SECONDS
from hopgate.errors import Unauthenticated, Unavailable

MAX_FLOWS: Final = 1000


@dataclass(slots=True, kw_only=True)
class Flow:
    """One sign-in on its way. Its `binding` is in a cookie of the browser that began it, so that nobody can end another's."""

    then: str  # where the person wanted to go
    until: float
    binding: str = field(default_factory=lambda: secrets.token_urlsafe(32))


class Flows[F: Flow]:
    """By `state`, which goes to the provider and comes back."""

    def __init__(self) -> None:
        self._flows: dict[str, F] = {}

    def until(self) -> float:
        """When a sign-in that begins now is over. Raises Unavailable when there is no room for it."""
        now = time.time()
        self._flows = {state: flow for state, flow in self._flows.items() if flow.until > now}
        if len(self._flows) >= MAX_FLOWS:
            raise Unavailable("too many people are signing in at once: try again")
        return now + FLOW_SECONDS

    def keep(self, state: str, flow: F) -> None:
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
