"""Connections on which no whole request comes are ended; what is being answered is not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn

from hopgate.console import connection

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


async def slow(scope: Any, receive: Any, send: Any) -> None:
    """Answers once the body is there and three looks have passed."""
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(4 * connection.PATIENCE)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"", False),
        (HEAD, False),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1", False),
        (HEAD + b"\r\n", True),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1", True),
    ],
)
async def test_who_does_not_ask_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, sent: bytes, answered: bool) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.1)
    config = uvicorn.Config(slow, http=connection.Connection, ws="none", lifespan="off", log_level="critical", port=0)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.servers[0].sockets[0].getsockname()[1])
        writer.write(sent)
        async with asyncio.timeout(30):
            assert (await reader.read()).startswith(b"HTTP/1.1 204") is answered
        writer.close()
    finally:
        await server.shutdown()
