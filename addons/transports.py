"""Closing connections from within a hook, where `flow.kill()` does not reach: TCP flows, WebSockets, idle tunnels."""

from __future__ import annotations

from typing import Any

from mitmproxy import connection, ctx, flow

KILLED = flow.Error.KILLED_MESSAGE


def kill(killed: flow.Flow) -> None:
    """Make mitmproxy drop `killed` when the hook returns. Unlike `Flow.kill` this never raises: a second kill must not become a pass."""
    killed.error = flow.Error(KILLED)
    killed.intercepted = False


def close_client(client: connection.Client) -> None:
    """Close the transport of `client`, and with it every upstream connection that was opened for it."""
    client.error = client.error or "refused"
    proxyserver: Any = ctx.master.addons.get("proxyserver")
    handler = proxyserver.connections.get(client.id) if proxyserver is not None else None
    _close(handler, client)


def close_server(client: connection.Client, server: connection.Server) -> None:
    """Close one upstream connection of `client`."""
    proxyserver: Any = ctx.master.addons.get("proxyserver")
    handler = proxyserver.connections.get(client.id) if proxyserver is not None else None
    _close(handler, server)


def _close(handler: Any, peer: connection.Connection) -> None:
    transport = handler.transports.get(peer) if handler is not None else None
    if transport is not None and transport.handler is not None:
        transport.handler.cancel("refused")
