"""Whatever is neither HTTP nor a judged WebSocket ends here: raw bytes in a tunnel, other upgrades, UDP, DNS.

mitmproxy's `kill` does nothing for TCP flows, so a raw layer is never let in: it is replaced by one that hangs up. The hooks on
messages are the second line.
"""

from __future__ import annotations

from typing import Any

from mitmproxy import http
from mitmproxy.proxy import layer, layers
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.http import HTTPMode

from addons.exchange import of
from addons.fail_closed import Closed, fail_closed
from addons.transports import close_client, close_server, kill


class Tunnels:
    """Lets in HTTP and TLS (whose content is asked about again), and closes everything else."""

    name = "hopgate_tunnels"

    @fail_closed
    def next_layer(self, data: layer.NextLayer) -> None:
        if data.layer is not None and not _judged(data):
            data.layer = Closed(data.context)

    @fail_closed
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """A 101 hands the connection to another protocol: only to a WebSocket that was asked for and judged as one."""
        response = flow.response
        if response is None or response.status_code != 101:
            return
        exchange = of(flow)
        fields = response.headers.fields
        answered = [value.strip().lower() for name, value in fields if name.lower() == b"upgrade"]
        versions = [value for name, value in exchange.client_fields if name.lower() == b"sec-websocket-version"]
        if exchange.refused or exchange.upgrade != b"websocket" or answered != [b"websocket"] or versions != [b"13"]:
            exchange.refused = exchange.refused or "the target switched to a protocol that was not asked for"
            kill(flow)
            close_server(flow.client_conn, flow.server_conn)

    @fail_closed
    def tcp_start(self, flow: Any) -> None:
        close_client(flow.client_conn)

    @fail_closed
    def tcp_message(self, flow: Any) -> None:
        flow.messages[-1].content = b""
        close_client(flow.client_conn)

    @fail_closed
    def udp_start(self, flow: Any) -> None:
        close_client(flow.client_conn)

    @fail_closed
    def udp_message(self, flow: Any) -> None:
        flow.messages[-1].content = b""
        close_client(flow.client_conn)

    @fail_closed
    def dns_request(self, flow: Any) -> None:
        kill(flow)
        close_client(flow.client_conn)


def _judged(data: layer.NextLayer) -> bool:
    """Whether what mitmproxy chose is something whose content we see."""
    chosen, context = data.layer, data.context
    if context.client.transport_protocol != "tcp" or not isinstance(context.layers[0], modes.HttpProxy):
        return False
    if not isinstance(chosen, layers.HttpLayer):
        return isinstance(chosen, layers.ClientTLSLayer | layers.ServerTLSLayer)
    inner = sum(isinstance(found, layers.HttpLayer) for found in context.layers) > 1
    if inner and not data.data_client()[:3].isalpha():
        return False  # mitmproxy would wait for a request head that never comes
    # outermost HTTP is the proxy protocol; inside a tunnel it is the request to the target
    return chosen.mode is (HTTPMode.transparent if inner else HTTPMode.regular)
