"""Signing in by OpenID Connect: authorization code with PKCE (RFC 7636), `state` and `nonce`.

Authlib speaks the flow; the ID token is verified as every other token here is, by `hopgate.issuers`, for the audience `client_id`.
"""

from __future__ import annotations

import hmac
import secrets
import time
from dataclasses import dataclass, replace
from typing import Any, Final, Self
from urllib.parse import urlsplit

import httpx
import orjson
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client

from hopgate.claims import claim_at
from hopgate.config import Config, IssuerConfig, OidcConfig
from hopgate.console.flows import Flow, Flows, is_subject
from hopgate.console.place import Place
from hopgate.console.roles import refuse_agents
from hopgate.errors import Denied, Unauthenticated, Unavailable
from hopgate.issuers import Issuer, parse
from hopgate.jwks import KeyCache
from hopgate.providers import MAX_DOCUMENT, TIMEOUT, FileKeys, RemoteKeys, open_client
from hopgate.sources import Sources
from rules.model import Principal

CALLBACK: Final = "/login/callback"
_MAX_NAME: Final = 100


@dataclass(slots=True, kw_only=True)
class CodeFlow(Flow):
    """With what only this client knows of it."""

    nonce: str
    verifier: str


class Oidc:
    """The console as a client of one provider."""

    def __init__(self, issuer: IssuerConfig, settings: OidcConfig, place: Place, secret: str, client: httpx.AsyncClient) -> None:
        self.issuer = issuer
        self._settings = settings
        self._place = place
        self._secret = secret
        self._client = client
        self._flows: Flows[CodeFlow] = Flows()
        self._keys: KeyCache | None = None
        self._metadata: dict[str, str] = {}

    @classmethod
    async def open(cls, config: Config, settings: OidcConfig, place: Place, sources: Sources) -> Self:
        """Asks the provider for nothing yet. Raises Misconfigured, Unavailable for a client secret that cannot be had."""
        issuer = config.identity.issuer(settings.issuer)
        assert issuer is not None  # the configuration was checked
        secret = (await sources.render(settings.client_secret)).reveal() if settings.client_secret is not None else ""
        client = await open_client()
        found = cls(issuer.model_copy(update={"audience": (settings.client_id,)}), settings, place, secret, client)
        if issuer.jwks.startswith("file:"):
            found._keys = KeyCache(issuer.name, FileKeys(config.directory / issuer.jwks.removeprefix("file:")))
        else:
            found._keys = KeyCache(issuer.name, RemoteKeys(issuer, client))
        return found

    async def close(self) -> None:
        if self._keys is not None:
            self._keys.close()
        await self._client.aclose()

    @property
    def redirect_uri(self) -> str:
        return self._place.url + CALLBACK

    async def begin(self, then: str) -> tuple[str, str]:
        """Where to send the browser, and what its cookie must hold when it comes back. Raises Unavailable."""
        metadata = await self._discover()
        flow = CodeFlow(then=then, nonce=secrets.token_urlsafe(16), verifier=secrets.token_urlsafe(48))
        async with self._oauth() as oauth:
            url, state = oauth.create_authorization_url(
                metadata["authorization_endpoint"],
                code_verifier=flow.verifier,
                nonce=flow.nonce,
                state=secrets.token_urlsafe(16),
            )
        self._flows.keep(state, flow)
        return url, flow.binding

    async def finish(self, state: str, code: str, binding: str) -> tuple[Principal, str, str]:
        """The person, what he is called, and where he wanted to go. Raises Unauthenticated, Denied, Unavailable."""
        flow = self._flows.take(state, binding)
        metadata = await self._discover()
        try:
            async with self._oauth() as oauth:
                token = await oauth.fetch_token(metadata["token_endpoint"], code=code, code_verifier=flow.verifier)
        except OAuthError as error:
            raise Unauthenticated(f"the provider refused the sign-in ({_word(error.error)}): sign in again") from None
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"the provider's token endpoint cannot be used ({type(error).__name__})") from None
        raw = token.get("id_token")
        if not isinstance(raw, str):
            raise Unauthenticated("the provider sent no ID token: is openid among the scopes?")
        principal = await self._verify(raw, flow.nonce)
        return principal, _name(principal), flow.then

    async def _verify(self, raw: str, nonce: str) -> Principal:
        assert self._keys is not None
        verified = await Issuer(self.issuer, self._keys).verify(raw, parse(raw), time.time())
        principal = verified.principal
        # OpenID Connect Core section 3.1.3.7, steps 4, 5 and 11
        if not hmac.compare_digest(str(principal.claims.get("nonce", "")).encode(), nonce.encode()):
            raise Unauthenticated("the ID token answers another sign-in (nonce)")
        azp = principal.claims.get("azp")
        if azp is not None and azp != self._settings.client_id:
            raise Unauthenticated("the ID token was made for another client (azp)")
        refuse_agents(principal)
        subject = claim_at(principal.claims, self._settings.subject_claim)
        if not is_subject(subject):
            raise Denied(f"the ID token has no usable claim {self._settings.subject_claim}")
        # `azp` is this console here; it acts for nobody
        return replace(principal, subject=subject, actors=frozenset())

    def _oauth(self) -> Any:
        return AsyncOAuth2Client(
            self._settings.client_id,
            self._secret or None,
            scope=" ".join(self._settings.scopes),
            redirect_uri=self.redirect_uri,
            code_challenge_method="S256",
            token_endpoint_auth_method="client_secret_basic" if self._secret else "none",
            trust_env=False,
            timeout=TIMEOUT,
            follow_redirects=False,
        )

    async def _discover(self) -> dict[str, str]:
        """The provider's endpoints (OpenID Connect Discovery 1.0), kept once they are known. Raises Unavailable."""
        if not self._metadata:
            url = self.issuer.issuer.removesuffix("/") + "/.well-known/openid-configuration"
            try:
                response = await self._client.get(url)
                document = orjson.loads(response.content) if len(response.content) <= MAX_DOCUMENT else None
            except (httpx.HTTPError, ValueError) as error:
                raise Unavailable(f"the provider {self.issuer.name} cannot be reached ({type(error).__name__})") from None
            if response.status_code != 200 or not isinstance(document, dict) or document.get("issuer") != self.issuer.issuer:
                raise Unavailable(f"the provider {self.issuer.name} has no discovery document for {self.issuer.issuer}")
            self._metadata = {name: _endpoint(document, name, self.issuer) for name in ("authorization_endpoint", "token_endpoint")}
        return self._metadata


def _endpoint(document: dict[str, Any], name: str, issuer: IssuerConfig) -> str:
    url = document.get(name)
    secure = isinstance(url, str) and (url.startswith("https://") or _same_loopback(url, issuer.issuer))
    if not isinstance(url, str) or not secure:
        raise Unavailable(f"the provider {issuer.name} names no https:// {name}")
    return url


def _same_loopback(url: str, issuer: str) -> bool:
    return issuer.startswith("http:") and url.startswith("http:") and urlsplit(url).hostname == urlsplit(issuer).hostname


def _word(text: object) -> str:
    """An error code of the provider's (RFC 6749 section 5.2), if it is one."""
    return str(text) if str(text).replace("_", "").isalnum() and len(str(text)) <= 40 else "error"


def _name(principal: Principal) -> str:
    for claim in ("name", "preferred_username", "email"):
        value = principal.claims.get(claim)
        if isinstance(value, str) and value.isprintable() and value:
            return value[:_MAX_NAME]
    return principal.subject[:_MAX_NAME]
