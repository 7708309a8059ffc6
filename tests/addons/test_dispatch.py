"""The cached dispatch: what it replaces, when it runs, and that it runs the same hooks."""

from __future__ import annotations

from typing import Any

import pytest
from mitmproxy import addonmanager, hooks
from mitmproxy.proxy.layers.http import HttpRequestHook
from mitmproxy.test import taddons, tflow

from addons import dispatch


class Counting:
    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[str] = []

    def request(self, flow: Any) -> None:
        self.seen.append("request")

    async def response(self, flow: Any) -> None:
        self.seen.append("response")

    def update(self, flows: Any) -> None:
        self.seen.append(f"update {len(flows)}")


@pytest.fixture
def manager() -> Any:
    with taddons.context() as context:
        yield addonmanager.AddonManager(context.master)


def test_the_installed_mitmproxy_is_one_that_was_read() -> None:
    """When this fails, read AddonManager's source again: what it does may have to be done here too. Then add its digest."""
    assert dispatch.source_digest() in dispatch.KNOWN_SOURCES


async def test_it_runs_every_hook_in_order_and_update_after(manager: Any) -> None:
    first, second = Counting("first"), Counting("second")
    first.addons = [inner := Counting("inner")]  # type: ignore[attr-defined]
    manager.add(first, second)
    assert dispatch.install(manager)
    await manager.handle_lifecycle(HttpRequestHook(tflow.tflow()))
    assert first.seen == inner.seen == second.seen == ["request", "update 1"]


async def test_the_layers_own_mark_on_an_event_does_not_confuse_it(manager: Any) -> None:
    manager.add(counting := Counting("x"))
    dispatch.install(manager)
    event = HttpRequestHook(tflow.tflow())
    event.blocking = object()  # type: ignore[assignment]  # as Layer.handle_event does
    await manager.handle_lifecycle(event)
    assert counting.seen == ["request", "update 1"]


async def test_a_changed_chain_is_seen(manager: Any) -> None:
    manager.add(first := Counting("first"))
    dispatch.install(manager)
    await manager.handle_lifecycle(HttpRequestHook(tflow.tflow()))
    manager.add(second := Counting("second"))
    await manager.handle_lifecycle(HttpRequestHook(tflow.tflow()))
    manager.remove(first)
    await manager.handle_lifecycle(HttpRequestHook(tflow.tflow()))
    assert first.seen.count("request") == 2
    assert second.seen.count("request") == 2


async def test_lifecycle_events_keep_mitmproxys_own_dispatch(manager: Any) -> None:
    ran: list[str] = []

    class Starting:
        async def running(self) -> None:
            ran.append("running")

    manager.add(Starting())
    dispatch.install(manager)
    await manager.trigger_event(hooks.RunningHook())
    assert ran == ["running"]


def test_off_or_unknown_leaves_mitmproxys_own(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not dispatch.install(manager, wanted=False)
    monkeypatch.setattr(dispatch, "KNOWN_SOURCES", frozenset())
    assert not dispatch.install(manager)
    assert "handle_lifecycle" not in vars(manager)
