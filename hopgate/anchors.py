"""Anchors: signed heads of the ledger, sent off this machine, so that even who has the gateway's key cannot rewrite what came before.

    syslog:                         the local syslog daemon (/dev/log)
    syslog://collector:514          RFC 5424 over UDP
    syslog+tcp://collector:601      RFC 5424 over TCP, octet counting (RFC 6587)
    https://example/heads           POST of the JSON line
    command:/usr/local/bin/anchor   the JSON line on its standard input; exit status 0 means kept

A target that does not answer never holds anything up: the failure is kept in `error`, logged, and written to the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
import socket
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import orjson

from hopgate.errors import Misconfigured, Unavailable
from hopgate.ledger import Ledger
from hopgate.ledger_format import PROCESS, Head
from hopgate.tasks import spawn

EVERY: Final = 60.0  # seconds
TIMEOUT: Final = 10.0
LOCAL_SYSLOG: Final = "/dev/log"
_PRIORITY: Final = 13 * 8 + 6  # facility "log audit", severity informational (RFC 5424 section 6.2.1)
_log = logging.getLogger("hopgate")

type Send = Callable[[str], Awaitable[None]]


class Anchors:
    """Sends the head of one ledger to one target: at the start, every `every` seconds when it has moved, and at the close."""

    def __init__(self, target: str, ledger: Ledger, *, every: float = EVERY, timeout: float = TIMEOUT) -> None:
        """Raises Misconfigured when `target` is none of the forms above."""
        self.target = _name(target)
        self.sent: Head | None = None
        self.error: str | None = None
        self._send, self._ledger, self._every, self._timeout = sender(target), ledger, every, timeout
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin on the running loop."""
        self._task = spawn(self._run(), name="anchors")

    async def close(self) -> None:
        """Stop, and send the last head within the timeout; to be called after the ledger was closed, whose final head it then is."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self.send()

    async def send(self) -> bool:
        """Send the current head unless it was sent already. False: it is not kept, and `error` says why."""
        head = self._ledger.head
        if head is None or head == self.sent:
            return self.error is None
        try:
            async with asyncio.timeout(self._timeout):
                await self._send(head.json())
        except TimeoutError:
            self._failed("no answer in time")
        except (OSError, Unavailable) as error:
            self._failed(_reason(error))
        else:
            if self.error is not None:
                _log.warning("anchor %s answers again", self.target)
            self.sent, self.error = head, None
        return self.error is None

    async def _run(self) -> None:
        while True:
            await self.send()
            await asyncio.sleep(self._every)

    def _failed(self, reason: str) -> None:
        if reason == self.error:
            return
        self.error = reason
        _log.warning("anchor %s does not keep heads of the ledger: %s", self.target, reason)
        with contextlib.suppress(Unavailable):
            self._ledger.append("anchor_failed", target=self.target, reason=reason)


def sender(target: str) -> Send:
    """The coroutine function that sends one line to `target`. Raises Misconfigured."""
    scheme, _, rest = target.partition(":")
    try:
        if scheme == "command" and (command := shlex.split(rest)):
            return lambda line: _to_command(command, line)
        if scheme in ("https", "http") and urlsplit(target).hostname:
            return lambda line: _to_webhook(target, line)
        if target == "syslog:":
            return lambda line: asyncio.to_thread(_to_datagram, socket.AF_UNIX, LOCAL_SYSLOG, line)
        if scheme in ("syslog", "syslog+tcp") and (host := urlsplit(target).hostname):
            if scheme == "syslog+tcp":
                return lambda line: _to_stream(host, urlsplit(target).port or 601, line)
            return lambda line: asyncio.to_thread(_to_host, host, urlsplit(target).port or 514, line)
    except ValueError as error:
        raise Misconfigured(f"ledger.anchor: cannot be read: {error}") from error
    forms = "`syslog:`, `syslog://host:port`, `syslog+tcp://host:port`, an https:// address or `command:…`"
    raise Misconfigured(f"ledger.anchor: expected {forms}")


def heads_in(lines: Iterable[str]) -> tuple[Head, ...]:
    """Every head in what a target kept: log lines of any form with the JSON somewhere in them, as `hopgate verify --anchors` reads them."""
    heads = []
    for line in lines:
        start = line.find('{"hopgate_head":')
        if start < 0:
            continue
        with contextlib.suppress(ValueError, TypeError, KeyError):
            said = orjson.loads(line[start : line.rindex("}") + 1])["hopgate_head"]
            head = Head(**said)
            if PROCESS.fullmatch(head.process) and type(head.i) is int and type(head.t) is int and isinstance(head.final, bool):
                heads.append(head)
    return tuple(heads)


def _name(target: str) -> str:
    """The target as it may be shown: addresses of webhooks hold secrets in their path, commands in their arguments."""
    scheme, _, rest = target.partition(":")
    if scheme == "command":
        return f"command:{(shlex.split(rest) or ['?'])[0]}" if rest.count("'") % 2 == 0 and rest.count('"') % 2 == 0 else "command:?"
    return f"{scheme}://{urlsplit(target).hostname}" if "//" in rest else f"{scheme}:"


def _reason(error: Exception) -> str:
    if isinstance(error, Unavailable):
        return error.message
    return (getattr(error, "strerror", None) or type(error).__name__).lower()


def syslog_line(line: str) -> bytes:
    """RFC 5424 section 6: version 1, no structured data."""
    when = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"<{_PRIORITY}>1 {when} {socket.gethostname() or '-'} hopgate - head - {line}".encode()


def _to_datagram(family: int, address: str | tuple[str, int], line: str) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as out:
        out.settimeout(TIMEOUT)
        out.sendto(syslog_line(line), address)


def _to_host(host: str, port: int, line: str) -> None:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as out:
        # connected, so that "port unreachable" of the last one is heard
        out.connect(address)
        out.send(syslog_line(line))


async def _to_stream(host: str, port: int, line: str) -> None:
    data = syslog_line(line)
    _, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"%d %b" % (len(data), data))
        await writer.drain()
    finally:
        writer.close()
    await writer.wait_closed()


async def _to_webhook(target: str, line: str) -> None:
    import httpx  # only who has such an anchor waits for it to load

    try:
        async with httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client:
            answer = await client.post(target, content=line, headers={"content-type": "application/json"})
    except httpx.HTTPError as error:
        raise Unavailable(_reason(error)) from None
    if not answer.is_success:
        raise Unavailable(f"answered {answer.status_code}")


async def _to_command(command: list[str], line: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await process.communicate(line.encode() + b"\n")
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise Unavailable(f"exit status {process.returncode}")
