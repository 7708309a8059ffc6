"""Some of mitmproxy's hot spots done faster with the same result: header look-up, options, the request line, starting a hook.

They pay for what the gates cost. Installed with the cached dispatch, over the very source that they were written against, or not at all.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import types
from typing import Any, Final

from mitmproxy import flow, http, optmanager
from mitmproxy.coretypes import multidict
from mitmproxy.net.http import url
from mitmproxy.net.http.http1 import read
from mitmproxy.proxy import mode_servers, server

# SHA-256 over the source of what is replaced
KNOWN_SOURCES: Final = frozenset(
    {
        "eabf73cc87402aaa300c3171a70afcc5934cafce9c3c18d6bb895fb5d5260ae7",  # 12.2.0, 12.2.1: `HTTP://` is left as it is written
        "836cce4b2a5e167cb0e9c6f06943afc996703102a0a51d68b4802af80a63068a",  # 12.2.2 to 12.3.1
    }
)
_IMMUTABLE: Final = frozenset({str, int, bool, float, types.NoneType})
_SHORT: Final = 256  # bytes of an authority that is remembered
_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789.-:")


_stock_request_line = read._read_request_line
_REPLACED: Final = (
    http.Headers.get_all,
    http.Headers._kconv,
    http._native,
    http._always_bytes,
    multidict._MultiDict.get_all,
    multidict._MultiDict.__getitem__,
    optmanager._Option.current,
    read._read_request_line,
    url.parse_authority,
    url.parse,
    http.MessageData,
    mode_servers.ProxyConnectionHandler.handle_hook,
    server.TimeoutWatchdog,
)


def source_digest() -> str:
    """Names the code of the installed mitmproxy that is replaced here."""
    return hashlib.sha256("".join(map(inspect.getsource, _REPLACED)).encode()).hexdigest()


def get_all(self: http.Headers, name: str | bytes) -> list[str]:
    """Headers.get_all without a call for each field."""
    key = (name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")).lower()
    return [value.decode("utf-8", "surrogateescape") for field, value in self.fields if field.lower() == key]


def contains(self: http.Headers, name: Any) -> bool:
    try:
        key = (name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")).lower()
    except AttributeError:
        return False
    for field, _ in self.fields:  # noqa: SIM110  any() would cost a generator for each look-up
        if field.lower() == key:
            return True
    return False


def get(self: http.Headers, name: str | bytes, default: Any = None) -> Any:
    """Mapping.get, which stock does by an exception for each header that is not there."""
    values = get_all(self, name)
    return ", ".join(values) if values else default


def current(self: optmanager._Option) -> Any:
    """_Option.current without a deep copy of what cannot change."""
    value = self._default if self.value is optmanager.unset else self.value
    return value if type(value) in _IMMUTABLE else copy.deepcopy(value)


@functools.lru_cache(1024)
def _authority(authority: bytes) -> tuple[str, int | None]:
    return url.parse_authority(authority, check=True)  # type: ignore[return-value]


def read_request_line(line: bytes) -> tuple[str, int, bytes, bytes, bytes, bytes, bytes]:
    """_read_request_line for `METHOD http://authority/path HTTP/1.1` in plain ASCII; anything else is left to mitmproxy's own.

    Its second parse of the whole URL only checks the authority again, and the port and form that urllib takes.
    """
    parts = bytes(line).split()
    if len(parts) == 3 and parts[2] == b"HTTP/1.1" and parts[0] != b"CONNECT" and parts[1].startswith((b"http://", b"https://")):
        scheme, _, rest = parts[1].partition(b"://")
        authority, slash, path = rest.partition(b"/")
        if slash and path.isascii() and len(authority) <= _SHORT and _PLAIN.issuperset(authority):
            try:
                host, port = _authority(authority)
            except ValueError:
                return _stock_request_line(line)
            if port is None or port:
                return host, port or (443 if scheme == b"https" else 80), parts[0], scheme, authority, b"/" + path, parts[2]
    return _stock_request_line(line)


def unchecked(self: Any) -> None:
    """In place of MessageData.__post_init__, which checks the type of every field of every message when Python runs without -O."""


async def handle_hook(self: mode_servers.ProxyConnectionHandler, hook: Any) -> None:
    """ProxyConnectionHandler.handle_hook with `disarm` unrolled, and without taking the hook's fields apart to find its only one."""
    watchdog = self.timeout_watchdog
    watchdog.can_timeout.clear()
    watchdog.blocker += 1
    try:
        await self.master.addons.handle_lifecycle(hook)
        data = next(iter(vars(hook).values()))
        if isinstance(data, flow.Flow) and data.intercepted:
            await data.wait_for_resume()
    finally:
        watchdog.blocker -= 1
        if watchdog.blocker == 0:
            watchdog.register_activity()
            watchdog.can_timeout.set()


def install() -> bool:
    """Gives whether it was installed: False when the installed mitmproxy has other code."""
    if source_digest() not in KNOWN_SOURCES:
        return False
    headers: Any = http.Headers
    headers.get_all, headers.get, headers.__contains__ = get_all, get, contains
    option: Any = optmanager._Option
    option.current = current
    read._read_request_line = read_request_line
    for message in (http.MessageData, http.RequestData, http.ResponseData):
        message.__post_init__ = unchecked  # type: ignore[attr-defined]
    handler: Any = mode_servers.ProxyConnectionHandler
    handler.handle_hook = handle_hook
    return True
