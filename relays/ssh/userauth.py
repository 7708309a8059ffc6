"""The login of a client (RFC 4252, RFC 4256): one request after the other, and nothing after the first success.

Conch's own service answers requests as they come, whatever is still being checked, so that the user of one can get the success of
another. Here a queue is between the wire and the checks, and who came in is what the checked request itself said.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from dataclasses import dataclass
from struct import error as StructError
from typing import TYPE_CHECKING, Final

from twisted.conch.ssh.common import NS
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.service import SSHService

from hopgate.claims import LEEWAY
from hopgate.errors import HopgateError, Unauthenticated
from hopgate.identity import Identity
from hopgate.ssh_certificates import read_certificate
from hopgate.tasks import spawn
from relays.ssh import algorithms
from relays.ssh.codec import Fields
from relays.ssh.login import Ceilings, Login
from relays.ssh.quiet import QUIET
from relays.wire import RemoteProtocolError
from rules.model import Principal

if TYPE_CHECKING:
    from relays.ssh.server import ServerTransport

REQUEST, FAILURE, SUCCESS = 50, 51, 52
PK_OK, INFO_REQUEST, INFO_RESPONSE = 60, 60, 61
ATTEMPTS: Final = 3  # wrong proofs
OFFERS: Final = 20  # keys that are only asked about: an agent may hold many
WAITING: Final = 8  # requests that came while one is being checked
CUT: Final = 1023  # bytes at which OpenSSH cuts what is typed at a prompt; programs type there too
PROMPT: Final = b"Token: "

_CUT_MESSAGE: Final = (
    "the token was cut off after 1023 bytes, as ssh does: exchange it for a short one (hopgate token exchange, or POST /oauth/token)"
)
_log = logging.getLogger("hopgate.relays")


@dataclass(frozen=True, slots=True)
class Request:
    """SSH_MSG_USERAUTH_REQUEST."""

    user: bytes
    service: bytes
    method: bytes
    data: bytes

    @classmethod
    def parse(cls, payload: bytes) -> Request:
        fields = Fields(payload)  # not Conch's getNS: for it a string that is cut short is a shorter one
        return cls(fields.string(), fields.string(), fields.string(), fields.rest())


class Wrong(Exception):
    """The request proves nothing. `told` is shown to the client, if there is anything to be said."""

    def __init__(self, told: str = "", *, counts: bool = True) -> None:
        super().__init__(told)
        self.told = told
        self.counts = counts


class UserAuth(SSHService):
    """The service `ssh-userauth` for one client."""

    name = b"ssh-userauth"
    _log = QUIET

    def __init__(self, transport: ServerTransport) -> None:
        self.server = transport
        self._queue: deque[tuple[int, bytes]] = deque()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._wrong = self._offered = 0
        self._named: tuple[bytes, bytes] | None = None

    @property
    def identity(self) -> Identity:
        return self.server.outside.services.identity

    def serviceStarted(self) -> None:
        self._task = spawn(self._run(), name="an ssh login")

    def serviceStopped(self) -> None:
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def packetReceived(self, messageNum: int, packet: bytes) -> None:
        if messageNum not in (REQUEST, INFO_RESPONSE):
            raise RemoteProtocolError("a message that may not come before the login")
        if len(self._queue) >= WAITING:
            raise RemoteProtocolError("more login requests than can be answered")
        self._queue.append((messageNum, packet))
        self._arrived.set()

    # --- one after the other

    async def _next(self) -> tuple[int, bytes]:
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()
        return self._queue.popleft()

    async def _run(self) -> None:
        try:
            login = None
            while login is None:
                login = await self._request()
            service = await self.server.authenticated(login)
            if not self.server.over:
                self.server.send(SUCCESS)
                if login.expires_at != math.inf:
                    self.server.expire_at(login.expires_at, time.time())
                self.server.setService(service)
        except (StructError, ValueError, IndexError):
            self.server.failed(RemoteProtocolError("a login request that cannot be read"))
        except HopgateError as error:
            self.server.tell(error.message)
            self.server.failed(error)
        except Exception as error:
            self.server.failed(error)

    async def _request(self) -> Login | None:
        """Answer one request: with a login, or with a failure that has been sent. Raises HopgateError, RemoteProtocolError."""
        number, payload = await self._next()
        if number != REQUEST:
            raise RemoteProtocolError("an answer to a question that was not asked")
        request = Request.parse(payload)
        if self._named not in (None, (request.user, request.service)):
            raise RemoteProtocolError("another user name than before: connect again")
        self._named = request.user, request.service
        if request.service != b"ssh-connection":
            raise RemoteProtocolError("there is no such service as the login asks for")
        try:
            return await self._check(request)
        except Wrong as wrong:
            self._fail(wrong)
        except Unauthenticated as error:
            self._fail(Wrong(error.message))
        return None

    def _fail(self, wrong: Wrong) -> None:
        if wrong.told:
            self.server.tell(wrong.told)
        self._wrong += wrong.counts
        self._offered += not wrong.counts
        if self._wrong >= ATTEMPTS or self._offered > OFFERS:
            self.server.end(wrong.told or "too many wrong logins", 14)
            return
        self.server.send(FAILURE, NS(b",".join(self._methods())), b"\0")

    def _methods(self) -> list[bytes]:
        return [*([b"publickey"] if self.identity.ssh.accepts else []), b"password", b"keyboard-interactive"]

    # --- the methods

    async def _check(self, request: Request) -> Login | None:
        match request.method:
            case b"password":
                return await self._password(request)
            case b"keyboard-interactive":
                return await self._interactive(request)
            case b"publickey":
                return await self._publickey(request)
        raise Wrong(counts=request.method != b"none")

    async def _password(self, request: Request) -> Login:
        fields = Fields(request.data)
        changes, password = fields.boolean(), fields.string()
        if changes:
            raise Wrong("tokens are not changed here")
        fields.end()
        return await self._token(request, password)

    async def _interactive(self, request: Request) -> Login | None:
        """RFC 4256: one question. Whoever asks for something else instead of answering has given up this method."""
        self.server.send(INFO_REQUEST, NS(b""), NS(b""), NS(b""), b"\0\0\0\1", NS(PROMPT), b"\0")
        number, payload = await self._next()
        if number == REQUEST:
            self._queue.appendleft((number, payload))
            return None
        fields = Fields(payload)
        if fields.uint32() != 1:
            raise Wrong
        answer = fields.string()
        fields.end()
        return await self._token(request, answer)

    async def _token(self, request: Request, token: bytes) -> Login:
        if len(token) == CUT:
            raise Wrong(_CUT_MESSAGE)
        try:
            text = token.decode()
        except UnicodeDecodeError:
            raise Wrong from None
        principal = await self.identity.verify(text.strip(), peer=self.server.peer)
        return self._login(request, principal, principal.expires_at + LEEWAY, Ceilings())

    async def _publickey(self, request: Request) -> Login | None:
        """RFC 4252 section 7: first the question whether a key would do, then the proof that it is the client's."""
        fields = Fields(request.data)
        signed, algorithm, blob = fields.boolean(), fields.string(), fields.string()
        signature = fields.string() if signed else b""
        fields.end()
        if algorithm not in algorithms.SIGNATURES:
            raise Wrong(counts=False)  # ssh-rsa with SHA-1, DSA, keys of hardware
        certified = algorithm.endswith(algorithms.CERTIFIED)
        if Fields(blob).string() != algorithms.key_format(algorithm):
            raise Wrong(counts=False)
        try:
            login = self._certified(request, blob) if certified else self._keyholder(request, blob)
        except Unauthenticated as error:
            # that one of many keys is not registered is no news; what is wrong with a certificate is
            raise Wrong(error.message if certified else "", counts=bool(signed)) from None
        if not signed:
            self.server.send(PK_OK, NS(algorithm), NS(blob))
            return None
        key = certificate_key(blob) if certified else algorithms.load_public(blob)
        session = self.server.sessionID
        proved = NS(session or b"") + bytes((REQUEST,)) + NS(request.user) + NS(request.service) + NS(b"publickey") + b"\1"
        if key is None or session is None or not algorithms.verify(key, algorithm, signature, proved + NS(algorithm) + NS(blob)):
            raise Wrong("the signature is wrong")
        return login

    def _keyholder(self, request: Request, blob: bytes) -> Login:
        name = _connection(request)
        principal = self.identity.ssh.keyholder(blob, connection=name, peer=self.server.peer)
        return self._login(request, principal, principal.expires_at, Ceilings())

    def _certified(self, request: Request, blob: bytes) -> Login:
        found = self.identity.ssh.certified(blob, connection=_connection(request), peer=self.server.peer)
        ceilings = Ceilings(
            pty="pty" in found.permits,
            port_forwarding="port-forwarding" in found.permits,
            agent="agent-forwarding" in found.permits,
            x11="x11-forwarding" in found.permits,
            force_command=found.force_command,
        )
        return self._login(request, found.principal, found.expires_at, ceilings)

    def _login(self, request: Request, principal: Principal, expires_at: float, ceilings: Ceilings) -> Login:
        return Login(principal, _connection(request), self.server.peer, expires_at, ceilings)


def _connection(request: Request) -> str:
    return request.user.decode("utf-8", "backslashreplace")  # no connection is called what this makes of other bytes


def certificate_key(blob: bytes) -> Key | None:
    """The key that a certificate is for; None when it cannot be used."""
    try:
        return algorithms.load_cryptography(read_certificate(blob)[0].public_key())
    except ValueError:
        return None
