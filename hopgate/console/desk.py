"""What every page works on: the services of this process, the read model, and the console's own parts. Built once at start."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from hopgate.config import Config
from hopgate.console.asking import Verification
from hopgate.console.inbox import Inbox
from hopgate.console.place import Place, place_of
from hopgate.console.roles import Roles
from hopgate.console.signin import SignIns
from hopgate.history import History
from hopgate.notifications import Notifier
from hopgate.services import Services

if TYPE_CHECKING:
    from hopgate.console.oidc import Oidc
    from hopgate.console.saml import Saml


@dataclass(slots=True)
class Desk:
    """Everything behind the routes."""

    config: Config
    place: Place
    services: Services
    history: History
    roles: Roles
    signins: SignIns
    inbox: Inbox
    verification: Verification
    oidc: Oidc | None
    saml: Saml | None
    _closing: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    @classmethod
    async def open(cls, config: Config, *, process: str = "console") -> Self:
        """Open store, ledger, rules, the index of what happened. Raises Misconfigured, Unavailable with nothing left open."""
        place = place_of(config)
        async with contextlib.AsyncExitStack() as closing:
            services = await Services.start(config, process=process)
            closing.push_async_callback(services.close)
            history = await History.open(config, services.store)
            closing.push_async_callback(history.close)
            history.start()
            inbox = Inbox(services.store)
            await inbox.start()
            closing.push_async_callback(inbox.close)
            notifier = await Notifier.open(
                config, services.store, services.credentials.sources, console=place.url, count=services.metrics.notified
            )
            closing.push_async_callback(notifier.close)
            await notifier.start()
            oidc = None
            if config.console.oidc is not None:
                warnings.filterwarnings("ignore", message="The httpx module is deprecated")  # of Authlib's, and not ours to change
                from hopgate.console.oidc import Oidc  # 40 MB of HTTP clients that a console without a provider does not need

                oidc = await Oidc.open(config, config.console.oidc, place, services.credentials.sources)
                closing.push_async_callback(oidc.close)
            saml = None
            if config.console.saml is not None:
                from hopgate.console.saml import Saml

                saml = Saml(config.console.saml, place)
            roles = Roles(config, services.rules)
            verification = Verification(config.path)
            closing.push_async_callback(verification.close)
            desk = cls(config, place, services, history, roles, SignIns(services.store), inbox, verification, oidc, saml)
            desk._closing = closing.pop_all()
        return desk

    async def close(self) -> None:
        """End streams first: they hold on to the rest."""
        await self._closing.aclose()
