"""mitmproxy's hook dispatch with the hooks of each event looked up once, and failing closed for every addon.

Stock mitmproxy walks all its addons for each event of each request, which is half of its CPU time. This replaces two methods of the
running AddonManager; it is installed only over the very source that it was written against, else mitmproxy's own dispatch stays
(and our hooks still fail closed by their decorator). `hopgate_dispatch=false` turns it off.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import types
from collections.abc import Callable
from typing import Any

from mitmproxy import addonmanager, flow, hooks

from addons.fail_closed import LIFECYCLE, REFUSALS, refuse_event

_log = logging.getLogger("hopgate.addons")

# SHA-256 over the source of what is replaced, for each mitmproxy release whose dispatch has been read and tested
KNOWN_SOURCES = frozenset({"c2b3aa3cefe34abe904db264faec840b2cc776f7697fc26e488c292d35d16fcb"})
_REPLACED = ("trigger_event", "handle_lifecycle", "invoke_addon", "_iter_hooks", "register", "remove", "clear", "add")

# What mitmproxy's own addons do on these events is off in a gateway: `addons.options` refuses every option that would turn it on.
# One of them answers by itself, whoever asks: the revocation list of the authority, at a path that any target may have.
_OURS_ALONE = frozenset(
    {"http_connect", "http_connected", "http_connect_error", "requestheaders", "request", "responseheaders", "response", "error"}
)

type Hooks = tuple[Callable[[Any], Any], ...]


def source_digest() -> str:
    """Names the dispatch code of the installed mitmproxy."""
    source = "".join(inspect.getsource(getattr(addonmanager.AddonManager, name)) for name in _REPLACED)
    return hashlib.sha256(source.encode()).hexdigest()


class Dispatch:
    """The cached dispatch of one AddonManager. Whatever changes the chain empties the cache."""

    def __init__(self, manager: addonmanager.AddonManager) -> None:
        self.manager = manager
        self._hooks: dict[str, Hooks] = {}
        self._stock_trigger = manager.trigger_event

    def install(self) -> None:
        """Put this in place of the manager's own methods."""
        manager: Any = self.manager
        manager.handle_lifecycle = self.handle_lifecycle
        manager.trigger_event = self.trigger_event
        for name in ("register", "remove", "clear", "add"):
            setattr(manager, name, self._emptying(getattr(manager, name)))

    def empty(self) -> None:
        self._hooks = {}

    def _emptying(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*args: Any) -> Any:
            self.empty()
            try:
                return method(*args)
            finally:
                self.empty()

        return changed

    def _find(self, event: hooks.Hook) -> Hooks:
        manager = self.manager
        found = tuple(
            function
            for addon in manager.chain
            for owner, function in manager._iter_hooks(addon, event)
            if event.name not in _OURS_ALONE or not type(owner).__module__.startswith("mitmproxy.addons.")
        )
        self._hooks[event.name] = found
        return found

    async def trigger_event(self, event: hooks.Hook) -> None:
        """For events that carry no traffic mitmproxy's own dispatch is right: start-up reads its error log."""
        if event.name in LIFECYCLE or event.name not in REFUSALS:
            await self._stock_trigger(event)
        else:
            await self.handle_lifecycle(event)

    async def handle_lifecycle(self, event: hooks.Hook) -> None:
        """Run every addon's hook for a proxy event. What raises is refused, and the other hooks still run."""
        name = event.name
        found = self._hooks.get(name)
        if found is None:
            found = self._find(event)
        # a hook is a dataclass of one field; a layer that waits for it adds `blocking` to the instance, behind the field
        data = next(iter(vars(event).values()))
        for function in found:
            try:
                rest = function(data)
                if rest is not None and (type(rest) is types.CoroutineType or inspect.isawaitable(rest)):
                    await rest
            except Exception as error:
                # AddonHalt as well: it would skip the gates that come after the addon that raised it
                refuse_event(name, data, error)
        if isinstance(data, flow.Flow):
            updated = self._hooks.get("update")
            if updated is None:
                updated = self._find(hooks.UpdateHook([data]))
            for function in updated:
                with addonmanager.safecall():
                    rest = function([data])
                    if inspect.isawaitable(rest):
                        await rest


def install(manager: addonmanager.AddonManager, *, wanted: bool = True) -> bool:
    """Install the cached dispatch if it is wanted and known to fit. Gives whether it runs; False means mitmproxy's own does."""
    if not wanted:
        return False
    if source_digest() not in KNOWN_SOURCES:
        _log.warning("this mitmproxy's hook dispatch is not one that was tested: using its own, which is slower")
        return False
    Dispatch(manager).install()
    return True
