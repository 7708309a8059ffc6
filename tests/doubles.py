"""Stand-ins for what is outside: a clock that is set by hand, an OpenID provider on loopback, a store and revocations in memory."""

from __future__ import annotations

import functools
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from hopgate.config import Config, load_config
from hopgate.errors import Unavailable
from rules.model import Principal

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN9Y/EwdzC2ONg8tIk0tLy9TUxOYGaqoWe+LtTZmO3ej"  # of no host
START = 1_800_000_000.0  # seconds since the epoch: January 2027


class Clock:
    """Seconds that pass only when told to. Call it where time.time or time.monotonic is taken."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


# --- keys and tokens


def signing_key(algorithm: str, number: int = 0) -> Any:
    """A private key for a JWS algorithm; the same one for the same number, as RSA keys take long to make."""
    return _signing_key("RSA" if algorithm[:2] in ("RS", "PS") else algorithm, number)


@functools.cache
def _signing_key(kind: str, number: int) -> Any:
    curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    if kind == "RSA":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(curves[kind]) if kind in curves else ed25519.Ed25519PrivateKey.generate()


def jwk(algorithm: str, kid: str, number: int = 0, **members: Any) -> dict[str, Any]:
    """The public half as a JWK."""
    public = signing_key(algorithm, number).public_key()
    kinds: dict[str, Any] = {"RS": RSAAlgorithm, "PS": RSAAlgorithm, "ES": ECAlgorithm}
    found = kinds.get(algorithm[:2], OKPAlgorithm).to_jwk(public, as_dict=True)
    return {**found, "kid": kid, "use": "sig", "alg": algorithm, **members}


def sign(claims: dict[str, Any], algorithm: str, kid: str | None, number: int = 0, **header: Any) -> str:
    """A compact JWS over `claims`, in whatever shape they are."""
    headers = {**({} if kid is None else {"kid": kid}), **header}
    return jwt.PyJWS().encode(json.dumps(claims).encode(), signing_key(algorithm, number), algorithm=algorithm, headers=headers)


# --- an OpenID provider


@dataclass
class Answer:
    """What the provider says at one path instead of the truth."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Provider:
    """An OpenID provider on loopback: discovery, a JWKS whose keys rotate, and a line that can be cut.

    with Provider() as provider:
        token = provider.token("alice", groups=["dba"])
    """

    def __init__(self, *, clock: Clock | None = None, algorithm: str = "RS256", audience: str = "hopgate") -> None:
        self.clock = clock or Clock()
        self.algorithm = algorithm
        self.audience = audience
        self.cut = False
        self.generation = 0
        self.published = [0]
        self.answers: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.asked = threading.Event()  # set at the first request
        provider = self

        class Requests(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider._answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
        self._server.daemon_threads = True

    def __enter__(self) -> Provider:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append(request.path)
        self.asked.set()
        if self.cut:
            request.connection.close()
            request.close_connection = True
            return
        answer = self.answers.get(request.path) or self._truth(request.path)
        request.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            request.send_header(name, value)
        request.end_headers()
        try:
            request.wfile.write(answer.body)
        except OSError:
            pass  # the client had enough

    def _truth(self, path: str) -> Answer:
        if path == "/.well-known/openid-configuration":
            return Answer(body=json.dumps({"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}).encode())
        if path == "/keys":
            return Answer(body=json.dumps({"keys": [jwk(self.algorithm, f"k{each}", each) for each in self.published]}).encode())
        return Answer(status=404)

    def fetches(self, path: str = "/keys") -> int:
        """How often `path` was asked for."""
        return self.requests.count(path)

    def rotate(self, *, keep: bool = True) -> None:
        """Sign with a new key from now on; the old ones stay published with `keep`."""
        self.generation += 1
        self.published = [*(self.published if keep else []), self.generation]

    def claims(self, subject: str = "alice", **more: Any) -> dict[str, Any]:
        """The claims of a good token; None removes one."""
        now = int(self.clock())
        good = {"iss": self.issuer, "aud": self.audience, "sub": subject, "iat": now, "nbf": now, "exp": now + 3600}
        return {name: value for name, value in {**good, **more}.items() if value is not None}

    def token(self, subject: str = "alice", **more: Any) -> str:
        """A good token, signed with the newest key."""
        return sign(self.claims(subject, **more), self.algorithm, f"k{self.generation}", self.generation)


# --- store and revocations


@dataclass(frozen=True)
class TokenRow:
    digest: str
    scram_verifier: str
    principal_json: str
    expires_at: float


class MemoryTokens:
    """The tokens' part of the store. `down` makes it not answer."""

    def __init__(self) -> None:
        self.rows: dict[str, TokenRow] = {}
        self.down = False

    async def save_token(self, digest: str, scram_verifier: str, principal_json: str, expires_at: float) -> None:
        self._check()
        self.rows[digest] = TokenRow(digest, scram_verifier, principal_json, expires_at)

    async def find_token(self, digest: str) -> TokenRow | None:
        self._check()
        return self.rows.get(digest)

    def _check(self) -> None:
        if self.down:
            raise Unavailable("the store does not answer")


class Revoked:
    """Revocations and locks in memory. `down` makes them unknown."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.locked: set[str] = set()  # issuer:subject
        self.down = False

    def is_revoked(self, *token_ids: str) -> bool:
        if self.down:
            raise Unavailable("revocations cannot be read")
        return not self.ids.isdisjoint(token_ids)

    def is_locked(self, principal: Principal, connection: str = "") -> str | None:
        if self.down:
            raise Unavailable("locks cannot be read")
        return f"{principal} is locked" if str(principal) in self.locked else None


# --- configuration


def write_config(directory: Path, **sections: Any) -> Path:
    """A hopgate.yaml of these top-level sections (JSON is YAML) with a local issuer, unless they say otherwise."""
    path = directory / "hopgate.yaml"
    content = {"version": 1, "identity": {"issuers": [{"name": "local", "local": True}]}, **sections}
    path.write_text(json.dumps(content, indent=1))
    return path


def make_config(directory: Path, **sections: Any) -> Config:
    return load_config(write_config(directory, **sections))
