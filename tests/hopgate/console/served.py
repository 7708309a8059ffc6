"""A console that is served on a loopback port, in front of a made-up past."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvicorn

from hopgate.console.__main__ import server
from hopgate.console.desk import Desk
from hopgate.console.signin import SignIns
from hopgate.store import Store
from hopgate.tokens import issue_token
from playground.demo.stage import free_ports
from rules.model import Principal
from tests.hopgate.console.seed import Past, configure, fill


class Served:
    """The console on a loopback port, its loop in a thread."""

    def __init__(self, directory: Path, past: Callable[[Past], Awaitable[None]] = fill) -> None:
        self._fill = past
        (self.port,) = free_ports(1)
        self.config = configure(directory, self.port)
        self.ready = threading.Event()
        self.server: uvicorn.Server | None = None
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.thread.start()
        assert self.ready.wait(60)

    async def _run(self) -> None:
        past = await Past.open(self.config)
        await self._fill(past)
        desk = await Desk.open(self.config, process="console-0")
        await desk.history.catch_up()
        self.server = server(self.config, desk)
        serving = asyncio.ensure_future(self.server.serve())
        while not self.server.started:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.02)
        self.ready.set()
        await serving
        await desk.close()
        await past.close()

    def close(self) -> None:
        assert self.server is not None
        self.server.should_exit = True
        self.thread.join(30)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bearer(self, name: str = "alice", *groups: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {issue_token(self.config, name, groups or ('dba', 'ops'), 3600)}"}

    def link(self, name: str, *groups: str) -> str:
        """A single-use sign-in link."""

        async def work() -> str:
            store = await Store.open(self.config.state)
            try:
                return await SignIns(store).make_link(Principal("local", name, frozenset(groups)))
            finally:
                await store.close()

        return f"{self.url}/login/link?token={asyncio.run(work())}"
