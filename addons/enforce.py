"""The decision on each request: canonical checks, session, rules and reviewers; then the pinned address and the credential.

What was judged is what is sent: nothing is changed between the decision and the wire but what `addons.inject` says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from mitmproxy import connection, http

from addons import problems, token_endpoint
from addons.exchange import Exchange, of, refuse
from addons.fail_closed import fail_closed
from addons.inject import inject
from addons.preferences import parse_wait
from addons.transports import close_client, kill
from hopgate.errors import Denied, HopgateError
from hopgate.sessions import SessionRefused
from rules.http import HttpFacts, request_operation

if TYPE_CHECKING:
    from addons.destinations import Destinations
    from addons.gate import Gate
    from hopgate.sessions import Session
    from rules.model import Decision

RETRY_AFTER: Final = 5  # seconds after which a pending request is worth repeating


class Enforce:
    """Authorizes. A flow that leaves `request` without a response has been allowed, and by nothing else."""

    name = "hopgate_enforce"

    def __init__(self, gate: Gate, destinations: Destinations) -> None:
        self.gate = gate
        self.destinations = destinations
        self._waiting: dict[str, set[asyncio.Task[Any]]] = {}
        self._gone: set[asyncio.Task[Any]] = set()
        self._used: dict[str, dict[Session, Callable[[str], None]]] = {}  # client connection -> sessions that it carries

    @fail_closed
    async def request(self, flow: http.HTTPFlow) -> None:
        exchange = of(flow)
        if exchange.refused:
            if flow.response is None:
                kill(flow)
            return
        if flow.response is not None or flow.request.stream:
            refuse(flow, problems.failed(), "something else answered")
            return
        if flow.request.trailers:
            refuse(flow, problems.problem("bad-request", 400, "trailers are not relayed"), "trailers")
            return
        task = asyncio.current_task()
        assert task is not None
        waiting = self._waiting.setdefault(flow.client_conn.id, set())
        waiting.add(task)
        try:
            if exchange.endpoint:
                await token_endpoint.answer(self.gate, flow)
            else:
                await self._authorize(flow, exchange)
        except asyncio.CancelledError:
            refuse(flow, problems.problem("failed", 499, "the client went away"), "the client went away")
            kill(flow)
            if task not in self._gone:
                raise
            # cancelled by us because the client is gone: mitmproxy's own task has to go on to clean up
            self._gone.discard(task)
            task.uncancel()
        except SessionRefused as error:
            self._session_refused(flow, exchange, error)
        except Denied as error:
            refuse(flow, problems.problem("denied", 403, error.message, rules=list(error.rules), session=error.session), "denied")
        except HopgateError as error:
            refuse(flow, problems.problem("unavailable", 503, error.message), "unavailable")
        finally:
            waiting.discard(task)

    @fail_closed
    def client_disconnected(self, client: connection.Client) -> None:
        """Nobody is there any more to be answered: withdraw what waits for a reviewer, unless it outlives its connection."""
        for task in self._waiting.pop(client.id, ()):
            self._gone.add(task)
            task.cancel()
        for session, drop in self._used.pop(client.id, {}).items():
            session.on_close.discard(drop)

    def _bind(self, client: connection.Client, session: Session) -> None:
        """When the session is killed, its client connections are closed with it."""
        used = self._used.setdefault(client.id, {})
        if session not in used:
            used[session] = lambda _: close_client(client)
            session.on_close.add(used[session])

    async def _authorize(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        services, route, principal = self.gate.services, exchange.route, exchange.principal
        if route is None or principal is None or exchange.connection is None:
            raise Denied("the caller is not identified")
        wait, operation = self._judged(flow, exchange)
        peer = str(flow.client_conn.peername[0])
        session = services.sessions.find(principal, route.connection.name, peer)
        if session is None:
            session = await services.sessions.enter(principal, route.connection, peer=peer, wait=wait)
        exchange.session = session
        self._bind(flow.client_conn, session)
        pin = self.destinations.pinned(route) or await self.destinations.pin(route)
        if route.connection.credential is not None:
            # before the decision, so that an approval is not spent on a request that cannot be sent
            exchange.lease = await services.credentials.lease(session.grant)
            session.literals = exchange.lease.literals
        decision = await session.authorize(operation, wait=wait, outlives=True)
        exchange.decision, exchange.operation = decision, decision.operation
        if not decision.allowed:
            self._denied(flow, session, decision)
        elif flow.client_conn.timestamp_end is not None:
            refuse(flow, problems.problem("failed", 499, "the client went away"), "the client went away")
        else:
            session.grant  # noqa: B018  raises when the session was closed while a reviewer was deciding
            inject(flow, exchange, pin)

    def _judged(self, flow: http.HTTPFlow, exchange: Exchange) -> tuple[float, Any]:
        """The facts of the request as it will be sent, and how long its caller waits for a reviewer."""
        longest = self.gate.config.approvals.http_wait
        if exchange.prefer:
            wait, kept = parse_wait(exchange.prefer, longest)
            fields = tuple(entry for entry in exchange.client_fields if entry[0].lower() != b"prefer")
            exchange.client_fields = (*fields, (b"Prefer", b", ".join(kept))) if kept else fields
        else:
            wait = longest
        data = flow.request.data
        exchange.scheme = data.scheme.decode("ascii")
        exchange.method = data.method.decode("latin-1")
        exchange.path = data.path.decode("latin-1")
        exchange.facts = HttpFacts(
            exchange.method,
            exchange.scheme,
            exchange.host,
            exchange.port,
            exchange.path,
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in exchange.client_fields],
            data.content,
            websocket=exchange.upgrade == b"websocket",
        )
        return wait, request_operation(exchange.facts)

    def _denied(self, flow: http.HTTPFlow, session: Session, decision: Decision) -> None:
        if session.closed:
            # killed or expired: DESIGN's wire table closes the connection, an answer would invite a retry with the same token
            refuse(flow, problems.problem("denied", 403, decision.message, close=True), "session ended")
            kill(flow)
            close_client(flow.client_conn)
            return
        members: dict[str, Any] = {"rules": list(decision.rules), "session": session.id, "operation": decision.operation}
        if decision.effect == "hold":
            refuse(flow, _pending(decision, members), "pending")
            return
        if len(decision.rules) == 1:
            members["rule"] = decision.rules[0]
        if decision.approval:
            members["approval"] = decision.approval
        refuse(flow, problems.problem("denied", 403, decision.message, **members), "denied")

    def _session_refused(self, flow: http.HTTPFlow, exchange: Exchange, error: SessionRefused) -> None:
        decision = error.decision
        exchange.decision, exchange.operation = decision, decision.operation
        members: dict[str, Any] = {"rules": list(decision.rules), "operation": decision.operation}
        if decision.effect == "hold":
            refuse(flow, _pending(decision, members), "pending")
        else:
            refuse(flow, problems.problem("session-refused", 403, decision.message, **members), "session refused")


def _pending(decision: Decision, members: dict[str, Any]) -> http.Response:
    headers = {"Retry-After": str(RETRY_AFTER)}
    return problems.problem("pending", 403, decision.message, headers=headers, approval=decision.approval, **members)
