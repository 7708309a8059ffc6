"""A target that costs next to nothing: a fixed 1 KB JSON answer from a raw asyncio protocol. `python -m playground.bench.origin PORT`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, cast

MASKED = 3  # values in each answer that the benchmark's rules hide: a password, an address, a card


def document() -> bytes:
    """About 1 KB of JSON with `MASKED` private values."""
    rows = [{"id": number, "name": f"Customer {number}", "city": "Springfield", "open": number % 2 == 0} for number in range(12)]
    private = {"password": "correct horse", "email": "ada@customers.example", "card": "4111 1111 1111 1111"}
    return json.dumps({"customers": rows, "account": private, "next": None}).encode()


_BODY = document()
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


class Origin(asyncio.Protocol):
    """Answers every request head alike; the benchmark sends no bodies."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        *heads, self._rest = (self._rest + data).split(b"\r\n\r\n")
        if heads:
            self._transport.write(_ANSWER * len(heads))


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Origin, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
