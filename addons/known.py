"""Which mitmproxy the gateway may stand on: one whose way of a request through it has been read.

Every gate is a hook, and what mitmproxy does around its hooks (what it parses, forwards, keeps and closes, and when) is as much a
part of the gate as the hook. A release that changed it may be open where this one is closed, so an unknown one is refused at start.
`setup.cfg` installs none of those.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from mitmproxy import addonmanager, version
from mitmproxy.addons import next_layer
from mitmproxy.net.http import validate
from mitmproxy.net.http.http1 import assemble, read
from mitmproxy.proxy import layer, mode_servers, server, tunnel
from mitmproxy.proxy.layers import http, modes, tcp, tls, websocket
from mitmproxy.proxy.layers.http import _base, _events, _http1, _http2, _http_h2, _upstream_proxy

from hopgate.errors import Misconfigured

READ: Final = "12.2.0 to 12.3.1"
# SHA-256 over the code of `_MODULES`, for each release that has been read
KNOWN_SOURCES: Final = frozenset(
    {
        "c46982ea222b32a23115991e92c4d46053e5441f63aba49f5e865812dd56b9a2",  # 12.2.0
        "8565af567bf507a8411d04462c22975a862aa895bee83696064196f2d8820a1d",  # 12.2.1
        "514c411e7d0e7e8e9563676e5717b6aa7df1959b60561980ba0b67ee8d2cca31",  # 12.2.2, 12.2.3
        "c3d63a060d8a647d32051f8f39a7e160bf255a8225f7939fb3baefb43952c6eb",  # 12.3.0
        "0ee565253496db6c407098889b0afa52bdac6169ba5f8a4d9236b458e96e963e",  # 12.3.1
    }
)
_MODULES: Final = (
    addonmanager,
    next_layer,
    validate,
    assemble,
    read,
    layer,
    mode_servers,
    server,
    tunnel,
    http,
    modes,
    tcp,
    tls,
    websocket,
    _base,
    _events,
    _http1,
    _http2,
    _http_h2,
    _upstream_proxy,
)


def source_digest() -> str:
    """Names the code of the installed mitmproxy that carries requests."""
    found = hashlib.sha256()
    for module in _MODULES:
        found.update(Path(module.__file__ or "").read_bytes())
    return found.hexdigest()


def check() -> None:
    """Raises Misconfigured when the installed mitmproxy is not one of those that were read."""
    if source_digest() not in KNOWN_SOURCES:
        raise Misconfigured(f"mitmproxy {version.VERSION} handles requests in a way that was never tested: install mitmproxy {READ}")
