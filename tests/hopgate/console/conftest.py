"""A console in front of a made-up past, asked over ASGI: no sockets, no browser."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from hopgate.config import Config
from hopgate.console.app import build
from hopgate.console.desk import Desk
from hopgate.console.signin import csrf_token
from hopgate.tokens import issue_token
from rules.model import Principal
from tests.hopgate.console.seed import Past, configure

PORT = 18443
URL = f"http://127.0.0.1:{PORT}"
GROUPS = {"viewer": ("staff",), "reviewer": ("dba",), "operator": ("ops",), "nobody": ("agents",)}


def person(name: str, *groups: str) -> Principal:
    return Principal("local", name, frozenset(groups), token_id=f"of-{name}")


@dataclass
class Console:
    """A desk, its application, and ways to ask it."""

    desk: Desk
    past: Past
    client: httpx.AsyncClient

    @property
    def config(self) -> Config:
        return self.desk.config

    async def sign_in(self, name: str, *groups: str) -> httpx.AsyncClient:
        """A browser of somebody's, signed in; forms get their CSRF field by `send`."""
        token = await self.desk.signins.begin(person(name, *groups), 3600)
        client = browser(self.desk)
        client.cookies.set("hopgate", token)
        client.headers["x-csrf-token"] = csrf_token(token)
        return client

    def token(self, name: str, *groups: str, **claims: Any) -> str:
        return issue_token(self.config, name, groups, 3600, claims=claims)

    def bearer(self, name: str, *groups: str, **claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(name, *groups, **claims)}"}


def browser(desk: Desk) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(build(desk), client=("127.0.0.1", 40000))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url=URL)


@asynccontextmanager
async def console(directory: Path, more: str = "", fill: Callable[[Past], Any] | None = None, rules: str = "") -> AsyncIterator[Console]:
    """Opened and closed; `more` goes into hopgate.yaml, `fill` makes a past."""
    config = configure(directory, PORT, more, rules)
    past = await Past.open(config)
    try:
        if fill is not None:
            await fill(past)
        desk = await Desk.open(config, process="console-0")
        try:
            await desk.history.catch_up()
            async with browser(desk) as client:
                yield Console(desk, past, client)
        finally:
            await desk.close()
    finally:
        await past.close()


type Opened = AbstractAsyncContextManager[Console]
