"""Fetching an issuer's keys: OpenID Connect Discovery and JWKS over HTTPS, or a file."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import orjson

from hopgate.addresses import refused_target
from hopgate.config import IssuerConfig
from hopgate.errors import Unavailable
from hopgate.jwks import REFRESH, KeySet, parse_jwks

MAX_DOCUMENT: Final = 256 << 10  # bytes; Entra's JWKS, the largest of the big providers', is 20 KB
MAX_REDIRECTS: Final = 3
TIMEOUT: Final = 5.0  # seconds for one document from first to last byte
FILE_INTERVAL: Final = 5.0  # seconds after which a key file is read again
_HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity"}


async def open_client() -> httpx.AsyncClient:
    """The client for all issuers. No proxy from the environment: that could be this very gateway."""
    context = await asyncio.to_thread(ssl.create_default_context)  # reads 150 certificates
    return httpx.AsyncClient(verify=context, trust_env=False, follow_redirects=False, timeout=TIMEOUT, headers=_HEADERS)


class RemoteKeys:
    """The keys at an issuer's `jwks` URL, or where its discovery document says."""

    interval = REFRESH

    def __init__(self, issuer: IssuerConfig, client: httpx.AsyncClient) -> None:
        self._issuer = issuer
        self._client = client

    async def fetch(self) -> KeySet:
        """Raises Unavailable with the reason, without quoting what came."""
        return parse_jwks(await self._get(self._issuer.jwks or await self._discover()))

    async def _discover(self) -> str:
        # OpenID Connect Discovery 1.0 section 4.1: a trailing slash of the issuer is removed first
        document = _mapping(await self._get(self._issuer.issuer.removesuffix("/") + "/.well-known/openid-configuration"))
        if document.get("issuer") != self._issuer.issuer:
            raise Unavailable("its discovery document names another issuer than the configuration does, character by character")
        address = document.get("jwks_uri")
        if not isinstance(address, str) or not _trustworthy(address, self._issuer.issuer):
            raise Unavailable("its discovery document has no https:// jwks_uri")
        return address

    async def _get(self, url: str) -> bytes:
        try:
            async with asyncio.timeout(TIMEOUT):
                for _ in range(MAX_REDIRECTS + 1):
                    async with self._client.stream("GET", url) as response:
                        if not response.is_redirect:
                            return await _body(response)
                        url = _redirected(response)
                raise Unavailable("it redirects too often")
        except (TimeoutError, httpx.TimeoutException):
            raise Unavailable(f"no answer within {TIMEOUT:.0f} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise Unavailable(f"it cannot be reached ({type(error).__name__})") from None


async def _body(response: httpx.Response) -> bytes:
    if response.status_code != 200:
        raise Unavailable(f"it answers with status {response.status_code}")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise Unavailable("it answers compressed though that was not asked for")
    data = bytearray()
    async for chunk in response.aiter_raw(16384):
        data += chunk
        if len(data) > MAX_DOCUMENT:
            raise Unavailable(f"its document is larger than {MAX_DOCUMENT >> 10} KiB")
    return bytes(data)


def _redirected(response: httpx.Response) -> str:
    """Where a redirect leads: to the same host only, for another one could serve other keys than the operator trusts."""
    here = response.request.url
    try:
        there = here.join(response.headers["location"])
    except (httpx.InvalidURL, ValueError, KeyError):
        raise Unavailable("it redirects to something that is no URL") from None
    if (there.scheme, there.host, there.port) != (here.scheme, here.host, here.port):
        raise Unavailable("it redirects to another host; name the final URL in the configuration")
    return str(there)


def _trustworthy(url: str, issuer: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    # plain http only from an issuer on loopback to its own host: the configuration permits such issuers for playgrounds
    same = parts.scheme == "http" and issuer.startswith("http:") and host == urlsplit(issuer).hostname
    return bool(host) and (parts.scheme == "https" or same) and not refused_target(host)


def _mapping(data: bytes) -> Mapping[str, Any]:
    try:
        document = orjson.loads(data)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Unavailable("its discovery document is not a JSON object")
    return document


class FileKeys:
    """The keys in a JWKS file, read again when it changes."""

    interval = FILE_INTERVAL

    def __init__(self, path: Path) -> None:
        self._path = path

    async def fetch(self) -> KeySet:
        """Raises Unavailable."""
        return parse_jwks(await asyncio.to_thread(self._read))

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_DOCUMENT + 1)
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be read: {(error.strerror or 'i/o error').lower()}") from None
        if len(data) > MAX_DOCUMENT:
            raise Unavailable(f"{self._path} is larger than {MAX_DOCUMENT >> 10} KiB")
        return data
