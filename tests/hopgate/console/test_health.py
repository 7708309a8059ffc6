"""What the health page says of notifications."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from hopgate.notifications import Notifier
from tests.hopgate.console.conftest import console

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
HOOK = f'approvals: {{{{reviewers: [dba], webhooks: [{{{{url: "https://hooks.invalid/x", secret: "{SECRET}"}}}}]}}}}'


@pytest.mark.parametrize(
    ("webhook", "error", "said"),
    [
        (False, "", "nobody is told"),
        (True, "", "1 channel"),
        (True, "webhooks[0]: answers 500", "1 could not be sent: webhooks[0]: answers 500"),
    ],
)
def test_a_webhook_is_a_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, webhook: bool, error: str, said: str) -> None:
    if webhook:
        from tests.hopgate.console import seed

        monkeypatch.setattr(seed, "CONFIG", seed.CONFIG.replace("approvals: {{reviewers: [dba]}}", HOOK))

    async def idle(self: Notifier) -> None:
        """No attempt of its own comes between."""

    monkeypatch.setattr(Notifier, "start", idle)

    async def run() -> str:
        async with console(tmp_path) as it:
            if error:
                store = it.past.store
                found = await it.past.hold(seed.agent("a"), "s", "orders-db", seed.WRITE, "DELETE FROM t")
                await store.plan_notifications(("webhooks[0]",), 0.0)
                await store.settle_notification(found, "webhooks[0]", "failed", error=error)
            return (await (await it.sign_in("alice", "dba")).get("/health")).text

    assert said in asyncio.run(run())
