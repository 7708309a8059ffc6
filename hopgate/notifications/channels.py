"""Ways to tell people: whatever apprise knows (Slack, Teams, e-mail …), and a webhook that is signed as Standard Webhooks says."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import httpx
import orjson

from hopgate.errors import Misconfigured, Unavailable
from hopgate.notifications.message import Message, rfc3339
from hopgate.references import Template
from hopgate.sources import Sources

TIMEOUT: Final = 20.0  # seconds for one attempt
_LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "::1"))
_SHORTEST_SECRET: Final = 24  # bytes; Standard Webhooks asks for 24 to 64


class Channel(Protocol):
    """Somewhere that messages go. `name` tells it from the others without its secrets, and stays when the process starts again."""

    @property
    def name(self) -> str: ...

    async def send(self, message: Message) -> None:
        """Raises Unavailable or Misconfigured, whose text quotes no secret."""

    async def close(self) -> None: ...


class AppriseChannel:
    """One apprise URL. What its service answers stays here: it may quote the URL, which holds the secret."""

    def __init__(self, name: str, url: Template, sources: Sources) -> None:
        self.name = name
        self._url, self._sources = url, sources

    async def check(self) -> None:
        """Raises Misconfigured when the URL is known already and nobody understands it."""
        if not self._url.references:
            await self._service()

    async def send(self, message: Message) -> None:
        service = await self._service()
        try:
            async with asyncio.timeout(TIMEOUT):
                sent = await service.async_notify(title=message.title, body=message.body)
        except TimeoutError:
            raise Unavailable(f"{self.name}: no answer in time") from None
        except Exception as error:
            raise Unavailable(f"{self.name}: {type(error).__name__}") from None
        if not sent:
            raise Unavailable(f"{self.name}: the service does not take it, or does not answer")

    async def close(self) -> None:
        """Each attempt has connections of its own."""

    async def _service(self) -> Any:
        import apprise  # 0.2 s that only who notifies needs

        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # its lines quote addresses
        service = apprise.Apprise()
        if not service.add((await self._sources.render(self._url)).reveal()):
            raise Misconfigured(f"approvals.{self.name}: is no URL that apprise understands")
        return service


class WebhookChannel:
    """POST of JSON, signed with HMAC-SHA256 over id, timestamp and body (https://www.standardwebhooks.com)."""

    def __init__(
        self,
        name: str,
        url: Template,
        secret: Template,
        sources: Sources,
        clock: Callable[[], float] = time.time,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.name = name
        self._url, self._secret, self._sources, self._clock = url, secret, sources, clock
        self._client = httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=False, trust_env=False, transport=transport)

    async def check(self) -> None:
        """Raises Misconfigured for what is wrong with values that are known already."""
        if not self._url.references:
            self._checked((await self._sources.render(self._url)).reveal())
        if not self._secret.references:
            signing_key((await self._sources.render(self._secret)).reveal(), self.name)

    async def send(self, message: Message) -> None:
        url = self._checked((await self._sources.render(self._url)).reveal())
        key = signing_key((await self._sources.render(self._secret)).reveal(), self.name)
        now = int(self._clock())
        body = orjson.dumps({"type": "approval.requested", "timestamp": rfc3339(now), "data": message.data()})
        headers = {"content-type": "application/json", "user-agent": "hopgate", **signed(key, message.approval, now, body)}
        try:
            async with asyncio.timeout(TIMEOUT):
                response = await self._client.post(url, content=body, headers=headers)
        except TimeoutError:
            raise Unavailable(f"{self.name}: no answer in time") from None
        except (httpx.HTTPError, OSError) as error:
            raise Unavailable(f"{self.name}: does not answer: {type(error).__name__}") from None
        if not response.is_success:
            raise Unavailable(f"{self.name}: answers {response.status_code}")

    async def close(self) -> None:
        await self._client.aclose()

    def _checked(self, url: str) -> str:
        with contextlib.suppress(ValueError):
            parts = urlsplit(url)
            if parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)):
                return url
        raise Misconfigured(f"approvals.{self.name}: must be an https URL; http only on loopback")


def signed(key: bytes, id: str, now: int, body: bytes) -> dict[str, str]:
    """The headers of Standard Webhooks. The receiver refuses an old timestamp and an id that it has seen."""
    signature = hmac.digest(key, b".".join((id.encode(), str(now).encode(), body)), hashlib.sha256)
    return {"webhook-id": id, "webhook-timestamp": str(now), "webhook-signature": f"v1,{base64.b64encode(signature).decode()}"}


def signing_key(secret: str, name: str) -> bytes:
    """The bytes of `whsec_` + base64. Raises Misconfigured."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith("whsec_") or len(key) < _SHORTEST_SECRET:
        raise Misconfigured(f"approvals.{name}.secret: must be whsec_ and at least {_SHORTEST_SECRET} random bytes in base64")
    return key
