"""A load generator in a process of its own: N keep-alive connections through a proxy, raw bytes, no client library in the way.

Reads one JSON object from stdin (proxy, url, host, token, requests, connections), prints one: seconds, answers by status, bytes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections import Counter
from typing import Any


async def _connection(order: dict[str, Any], request: bytes, budget: list[int], seen: Counter[int]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", order["proxy"])
    while budget[0] > 0:
        budget[0] -= 1
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        seen[int(head[9:12])] += 1
    writer.close()


async def drive(order: dict[str, Any]) -> dict[str, Any]:
    head = f"GET {order['url']} HTTP/1.1\r\nHost: {order['host']}\r\nAccept: application/json\r\nUser-Agent: bench\r\n"
    if order["token"]:
        head += f"Proxy-Authorization: Basic {base64.b64encode(('agent:' + order['token']).encode()).decode()}\r\n"
    request, budget, seen = (head + "\r\n").encode(), [order["requests"]], Counter[int]()
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(order["connections"]):
            group.create_task(_connection(order, request, budget, seen))
    return {"seconds": time.perf_counter() - started, "statuses": dict(seen)}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(drive(json.load(sys.stdin)))))
