"""Signing in by OpenID Connect against a provider on loopback: code, PKCE, state, nonce, groups to roles."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest

from hopgate.console.desk import Desk
from tests.doubles import jwk, signing_key
from tests.hopgate.console import seed
from tests.hopgate.console.conftest import browser


class Provider(ThreadingHTTPServer):
    """Discovery, keys and a token endpoint. `claims` go into the next ID token; `asked` is what the token endpoint was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Exchange)
        self.issuer = f"http://127.0.0.1:{self.server_port}"
        self.claims: dict[str, Any] = {}
        self.challenges: dict[str, str] = {}  # code -> PKCE challenge
        self.asked: list[dict[str, str]] = []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def authorize(self, url: str, **claims: Any) -> dict[str, str]:
        """What the browser comes back with after the person has signed in at `url`."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        self.challenges["the-code"] = asked["code_challenge"]
        now = int(time.time())
        known = {"iss": self.issuer, "aud": "console", "sub": "alice", "nonce": asked["nonce"], "iat": now, "exp": now + 300}
        self.claims = {**known, "groups": ["dba"], "name": "Alice Doe", **claims}
        return {"code": "the-code", "state": asked["state"]}


class _Exchange(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        if self.path.endswith("/openid-configuration"):
            base = self.server.issuer
            document = {"issuer": base, "authorization_endpoint": f"{base}/authorize", "token_endpoint": f"{base}/token"}
            self._send(200, {**document, "jwks_uri": f"{base}/keys"})
        else:
            self._send(200, {"keys": [jwk("RS256", "one")]})

    def do_POST(self) -> None:
        form = {name: values[0] for name, values in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()}
        self.server.asked.append({**form, "authorization": self.headers.get("Authorization", "")})
        verifier = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(verifier).rstrip(b"=").decode()
        if self.server.challenges.pop(form["code"], "") != challenge:
            self._send(400, {"error": "invalid_grant"})
            return
        token = jwt.encode(self.server.claims, signing_key("RS256"), algorithm="RS256", headers={"kid": "one"})
        self._send(200, {"access_token": "opaque", "token_type": "Bearer", "id_token": token})

    def _send(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    server = Provider()
    yield server
    server.shutdown()
    server.server_close()


def signed_in(directory: Path, provider: Provider, change: Any = None, **claims: Any) -> tuple[httpx.Response, httpx.Response, Provider]:
    """The answers to the callback and to the first page. `change` may change what the browser comes back with, or its cookies."""

    async def run() -> tuple[httpx.Response, httpx.Response, Provider]:
        issuers = f"[{{name: corp, issuer: '{provider.issuer}', audience: agents}}]"
        before = seed.CONFIG
        seed.CONFIG = before.replace("[{{name: local, local: true}}]", issuers.replace("{", "{{").replace("}", "}}")).replace(
            "console: {{viewers: [staff]}}",
            "console: {{viewers: [staff], oidc: {{issuer: corp, client_id: console, client_secret: 's3cret'}}}}",
        )
        try:
            config = seed.configure(directory)
        finally:
            seed.CONFIG = before
        desk = await Desk.open(config, process="console-0")
        try:
            async with browser(desk) as client:
                assert "Sign in with corp" in (await client.get("/login")).text
                begun = await client.get("/login/oidc", params={"next": "/sessions"})
                assert begun.status_code == 303
                query = provider.authorize(begun.headers["location"], **claims)
                if change is not None:
                    change(query, client)
                back = await client.get("/login/callback", params=query)
                page = await client.get("/sessions")
                again = await client.get("/login/callback", params=query)
                assert again.status_code in (303, 401, 403)
                assert "set-cookie" not in again.headers  # a code and state are good once
                return back, page, provider
        finally:
            await desk.close()

    return asyncio.run(run())


def test_a_person_signs_in_with_code_pkce_and_nonce(tmp_path: Path, provider: Provider) -> None:
    back, page, _ = signed_in(tmp_path, provider)
    assert (back.status_code, back.headers["location"]) == (303, "/sessions")
    assert page.status_code == 200
    assert "Alice Doe" in page.text
    assert "reviewer" in page.text
    asked = provider.asked[-1]
    assert asked["authorization"] == "Basic " + base64.b64encode(b"console:s3cret").decode()
    assert "s3cret" not in asked.get("client_secret", "")
    assert asked["redirect_uri"] == "http://127.0.0.1:18443/login/callback"


def forget_cookie(_query: dict[str, str], client: httpx.AsyncClient) -> None:
    client.cookies.clear()


def other_state(query: dict[str, str], _client: httpx.AsyncClient) -> None:
    query["state"] = "somebody-else's"


def other_code(query: dict[str, str], _client: httpx.AsyncClient) -> None:
    query["code"] = "stolen"


def refused(query: dict[str, str], _client: httpx.AsyncClient) -> None:
    query["error"] = "access_denied"


@pytest.mark.parametrize("change", [forget_cookie, other_state, other_code, refused])
def test_what_was_not_begun_here_signs_nobody_in(tmp_path: Path, provider: Provider, change: Any) -> None:
    back, page, _ = signed_in(tmp_path, provider, change)
    assert back.status_code in (303, 401, 403)
    assert "hopgate=hgc_" not in back.headers.get("set-cookie", "")
    assert page.headers.get("location", "").startswith("/login")


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"aud": "agents"},  # a token for agents is no ID token of ours
        {"iss": "http://127.0.0.1:1"},
        {"exp": 1},
        {"azp": "another-client", "aud": ["console", "another-client"]},
        {"act": {"sub": "robot"}},
        {"run": "nightly"},
        {"groups": ["agents"]},  # known, and without a role
        {"groups": None, "hasgroups": True},
    ],
    ids=lambda claims: next(iter(claims)),
)
def test_an_id_token_that_proves_something_else(tmp_path: Path, provider: Provider, claims: dict[str, Any]) -> None:
    back, page, _ = signed_in(tmp_path, provider, **claims)
    assert "hopgate=hgc_" not in back.headers.get("set-cookie", "")
    assert page.headers.get("location", "").startswith("/login")
