"""Where the values of references come from: our sealed store, the environment, files, and HashiCorp Vault's or OpenBao's HTTP API.

A source gives a value or raises; it never gives an empty one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

from hopgate.errors import Misconfigured, Unavailable
from hopgate.references import Reference, Template
from hopgate.secret_store import MAX_BYTES, Secret, SecretStore

if TYPE_CHECKING:
    import httpx

VAULT_SECONDS: Final = 60.0  # how long a value from Vault is used before it is asked for again
_VAULT_TIMEOUT: Final = 5.0
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Sources:
    """Resolves references. What it gives is a Secret whatever the source, for nobody knows what a variable holds."""

    def __init__(
        self, secrets: SecretStore | None, environ: Mapping[str, str] = os.environ, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._secrets = secrets
        self._environ = environ
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def resolve(self, reference: Reference) -> Secret:
        """Raises Misconfigured when there is no such value, Unavailable when its source does not answer."""
        match reference.source:
            case "secret":
                if self._secrets is None:
                    raise Misconfigured(f"{reference} cannot be used here: the store is not open yet")
                return await self._secrets.get(reference.name)
            case "env":
                value = self._environ.get(reference.name, "")
            case "file":
                value = _file(reference)
            case "vault":
                value = await self._vault(reference)
        if not value:
            raise Misconfigured(f"{reference} is missing or empty")
        return Secret(value)

    async def render(self, template: Template) -> Secret:
        """The whole text of a configuration value. Raises Misconfigured, Unavailable."""
        values = {reference: (await self.resolve(reference)).reveal() for reference in template.references}
        return Secret(template.render(values))

    def stamp(self, reference: Reference, versions: Mapping[str, tuple[int, float]]) -> Hashable:
        """Changes when the value may have changed; `versions` are those of the sealed secrets. Does not wait."""
        match reference.source:
            case "secret":
                return versions.get(reference.name)
            case "env":
                return Secret(self._environ.get(reference.name, ""))
            case "file":
                try:
                    found = os.stat(reference.name)
                except OSError:
                    return None
                return found.st_ino, found.st_size, found.st_mtime_ns
            case "vault":
                return int(time.monotonic() / VAULT_SECONDS)

    async def _vault(self, reference: Reference) -> str:
        address, token = self._environ.get("VAULT_ADDR", ""), self._environ.get("VAULT_TOKEN", "")
        if not address or not token:
            raise Misconfigured(f"{reference} needs VAULT_ADDR and VAULT_TOKEN in the environment")
        url = urlsplit(address)
        if url.scheme != "https" and (url.scheme != "http" or url.hostname not in _LOOPBACK):
            raise Misconfigured("VAULT_ADDR must start with https:// unless it is on loopback: the token would cross the network in clear")
        headers = {"X-Vault-Token": token, "X-Vault-Request": "true"}
        if namespace := self._environ.get("VAULT_NAMESPACE"):
            headers["X-Vault-Namespace"] = namespace
        import httpx  # only who has secrets in a vault waits for it to load

        try:
            response = await self._http().get(f"{address.rstrip('/')}/v1/{quote(reference.name)}", headers=headers)
        except httpx.HTTPError as error:
            raise Unavailable(f"{reference}: vault does not answer: {type(error).__name__}") from None
        if response.status_code in (403, 404):
            raise Misconfigured(f"{reference}: vault answers {response.status_code}: no such path, or VAULT_TOKEN may not read it")
        if response.status_code != 200:
            raise Unavailable(f"{reference}: vault answers {response.status_code}")
        return _vault_field(response, reference)

    def _http(self) -> httpx.AsyncClient:
        import httpx

        if self._client is None:
            # trust_env off: the gateway's own proxy variables are for agents, and .netrc is nobody's business here
            verify = self._environ.get("VAULT_CACERT") or True
            context = httpx.create_ssl_context(verify=verify, trust_env=False)
            self._client = httpx.AsyncClient(
                timeout=_VAULT_TIMEOUT, follow_redirects=False, trust_env=False, verify=context, transport=self._transport
            )
        return self._client


def _vault_field(response: httpx.Response, reference: Reference) -> str:
    try:
        data: Any = response.json()["data"]
        if isinstance(data.get("data"), dict) and "metadata" in data:
            data = data["data"]  # version 2 of the key-value engine wraps once more
        value = data[reference.field]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Misconfigured(f"{reference}: vault has no field {reference.field!r} there") from None
    if not isinstance(value, str) or len(value) > MAX_BYTES:
        raise Misconfigured(f"{reference}: must be text of at most {MAX_BYTES} bytes")
    return value


def _file(reference: Reference) -> str:
    path = Path(reference.name)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Misconfigured(f"{reference}: cannot be read: {(error.strerror or 'i/o error').lower()}") from None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Misconfigured(f"{reference}: must be UTF-8 text") from None
    if len(raw) > MAX_BYTES:
        raise Misconfigured(f"{reference}: must have at most {MAX_BYTES} bytes")
    # the line end that every editor and `echo` puts there is no part of a password; a PEM needs the one it has
    return text if text.startswith("-----BEGIN ") else text.removesuffix("\n").removesuffix("\r")
