"""What the gateway knows about one request and its response, carried on the flow from hook to hook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mitmproxy import http

if TYPE_CHECKING:
    from addons.destinations import Route
    from hopgate.config import ConnectionConfig
    from hopgate.credentials import Lease
    from hopgate.sessions import Session
    from rules.http import HttpFacts
    from rules.masking import Plan
    from rules.model import Decision, Principal

type Fields = tuple[tuple[bytes, bytes], ...]


class Exchange:
    """One request and its response. A field that is None has not been established, and what needs it refuses."""

    __slots__ = (
        "answer",
        "client_fields",
        "connection",
        "content_encoding",
        "content_type",
        "decision",
        "dropped",
        "endpoint",
        "facts",
        "frames",
        "held",
        "host",
        "lease",
        "masked",
        "method",
        "operation",
        "path",
        "plan",
        "port",
        "prefer",
        "principal",
        "recorded",
        "refused",
        "route",
        "scheme",
        "session",
        "shown",
        "stream",
        "transfer_encoding",
        "upgrade",
    )

    def __init__(self) -> None:
        self.principal: Principal | None = None
        self.connection: ConnectionConfig | None = None
        self.route: Route | None = None
        self.session: Session | None = None
        self.decision: Decision | None = None
        self.facts: HttpFacts | None = None
        self.lease: Lease | None = None
        self.plan: Plan | None = None
        self.operation = ""
        self.refused = ""  # why; from then on nothing from the target may reach the client
        self.endpoint = False  # a request to the gateway itself
        self.recorded = False
        self.held = 0  # bytes of bodies that are in memory (addons.memory)
        self.dropped = 0  # bytes of body that were read and not kept
        self.masked: dict[str, int] = {}
        # the request as the client sent it: what is judged and recorded, not what injection and routing made of it
        self.scheme = self.host = self.method = self.path = ""
        self.port = 0
        self.client_fields: Fields = ()
        self.upgrade = b""
        self.prefer: list[bytes] = []
        # the response
        self.answer: http.Response | None = None  # ours, when refused
        self.shown: bytes | None = None  # the decoded and masked body, as recorded
        self.content_type = ""
        self.content_encoding = b""
        self.transfer_encoding = b""
        self.stream: Any = None
        self.frames: Any = None


def begin(flow: http.HTTPFlow) -> Exchange:
    """Start the record of a request that has just arrived."""
    exchange = Exchange()
    flow.hopgate = exchange  # type: ignore[attr-defined]
    return exchange


def of(flow: http.HTTPFlow) -> Exchange:
    """The exchange of `flow`. Raises AttributeError when it never passed the first gate, which the guard turns into a refusal."""
    exchange: Exchange = flow.hopgate  # type: ignore[attr-defined]
    return exchange


def find(flow: Any) -> Exchange | None:
    """The exchange of `flow`, if it has one."""
    return getattr(flow, "hopgate", None)


def refuse(flow: http.HTTPFlow, response: http.Response, why: str) -> None:
    """Answer in the target's place. Whatever the target said or would say is dropped."""
    exchange = find(flow) or begin(flow)
    exchange.refused = why or "refused"
    flow.response = exchange.answer = response
