"""The end that clients come to: our host key, one login, and then the connection that `on_login` makes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.service import SSHService
from twisted.conch.ssh.transport import SSHServerTransport

from hopgate.tasks import spawn
from relays.ssh import algorithms
from relays.ssh.ciphers import GCM_KEYS
from relays.ssh.login import Login
from relays.ssh.negotiation import KexInit
from relays.ssh.packets import EXT_INFO, KEX_INIT, MAX_PACKET, SERVICE_ACCEPT, SERVICE_REQUEST, one_line
from relays.ssh.transport import Transport
from relays.ssh.userauth import UserAuth
from relays.wire import RemoteProtocolError

if TYPE_CHECKING:
    from relays.outside import Outside

LOGIN_SECONDS: Final = 30.0  # from the connection to the proof of who it is
BANNER: Final = 53  # SSH_MSG_USERAUTH_BANNER, RFC 4252 section 5.4
HOST_KEY_ALGORITHM: Final = b"ssh-ed25519"

_log = logging.getLogger("hopgate.relays")

type OnLogin = Callable[[ServerTransport, Login], Awaitable[SSHService]]
type AtEnd = Callable[[str], Awaitable[None]]


class ServerTransport(Transport, SSHServerTransport):  # type: ignore[misc]
    """One client. `on_login(transport, login)` is called once, when it has proved who it is, and gives the `ssh-connection` service.

    What `on_login` raises refuses the client: a HopgateError with its own message. It may take as long as it likes, for reviewers may be
    asked; the client hears of its success only afterwards. `closed` is done when the connection has ended, and what `at_end` named too.
    """

    side = "client"
    isClient = False

    def __init__(self, outside: Outside, host_key: Ed25519PrivateKey, on_login: OnLogin) -> None:
        super().__init__(outside)
        self.host_key = Key(host_key)
        self.on_login = on_login
        self.login: Login | None = None
        self.peer = ""
        self.closed: asyncio.Future[None] = self.loop.create_future()
        self._authenticating: UserAuth | None = None
        self._at_end: list[AtEnd] = []
        outside.drivers.add(self)
        outside.starting.add(self)

    # --- life

    def connectionMade(self) -> None:
        self.peer = self.transport.getPeer().host
        self.after("login", LOGIN_SECONDS, self._login_late)
        super().connectionMade()

    def _login_late(self) -> None:
        self.end(f"no login within {LOGIN_SECONDS:.0f} seconds")

    def kill(self, reason: str) -> None:
        """End now: nothing more reaches the target, the client is told why."""
        self.end(reason)

    def at_end(self, call: AtEnd) -> None:
        """Await `call` with the reason when the connection is lost: to close its session, say."""
        self._at_end.append(call)

    def stopped(self) -> None:
        if self._authenticating is not None:
            self._authenticating.serviceStopped()  # nobody comes in any more

    def lost(self) -> None:
        self.outside.starting.discard(self)
        spawn(self._finish(), name="end of an ssh connection")

    async def _finish(self) -> None:
        try:
            for call in self._at_end:
                try:
                    await call(self.ended_because)
                except Exception as error:
                    _log.error("the end of an ssh connection failed: %s", type(error).__name__)
        finally:
            self.outside.drivers.discard(self)
            self.closed.set_result(None)

    # --- key exchange

    def version_received(self) -> None:
        # OpenSSH sends its proposal without waiting for ours. Before version 10 it likes CTR with an HMAC better than AES-GCM, which costs
        # four times as much here: so we look at what it has before we say what we have.
        if not self.otherVersionString.startswith(b"SSH-2.0-OpenSSH_"):
            self.sendKexInit()

    def offer(self) -> KexInit:
        kex = (*algorithms.KEX, algorithms.EXT_INFO_SERVER, algorithms.STRICT_SERVER)
        theirs = self.their_offer
        ciphers = algorithms.CIPHERS
        if theirs is not None and not ({*theirs.ciphers_out} & {*theirs.ciphers_in}).isdisjoint(GCM_KEYS):
            ciphers = tuple(GCM_KEYS)
        return KexInit.both(kex, (HOST_KEY_ALGORITHM,), ciphers)

    def exchange(self, number: int, payload: bytes) -> None:
        if number != KEX_INIT:
            raise RemoteProtocolError("a message of another key exchange than the one agreed on")
        if self.kexAlg == algorithms.HYBRID:
            self._ssh_KEX_HYBRID_INIT(payload)
        else:
            self._ssh_KEX_ECDH_INIT(payload)

    def _getHostKeys(self, keyAlg: bytes) -> tuple[Key, Key]:
        return self.host_key.public(), self.host_key

    def keyed(self) -> None:
        if not self.keyed_once and self._peerSupportsExtensions:
            # RFC 8308 section 2.4: right behind the first NEWKEYS
            self.blocked = None
            self.send(EXT_INFO, b"\0\0\0\1", NS(b"server-sig-algs"), NS(b",".join(algorithms.SIGNATURES)))

    def secured(self) -> None:
        """Wait for the client to ask for its login."""

    # --- login

    def received(self, number: int, payload: bytes) -> None:
        if number != SERVICE_REQUEST:
            super().received(number, payload)
            return
        (name, _) = getNS(payload)
        if name != UserAuth.name or self._authenticating is not None:
            # a second login would change who is behind the channels of the first
            raise RemoteProtocolError("the client asks for a service that it cannot have now")
        self.send(SERVICE_ACCEPT, NS(name))
        self._authenticating = UserAuth(self)
        self.setService(self._authenticating)

    def tell(self, message: str) -> None:
        """Show the client one line; it can be shown only until the login is complete."""
        if self.login is None or self._authenticating is self.service:
            self.send(BANNER, NS(one_line(message).encode() + b"\r\n"), NS(b""))

    async def authenticated(self, login: Login) -> SSHService:
        """Who it is has been proved. Raises what `on_login` raises."""
        self.login = login
        self.cancel("login")
        self.outside.starting.discard(self)
        service = await self.on_login(self, login)
        self.max_packet = MAX_PACKET
        return service

    def expire_at(self, moment: float, now: float) -> None:
        """End the connection at `moment` (seconds since the epoch), by the clock: it may be set meanwhile."""
        self.after("expiry", min(max(moment - now, 0.0), _LONGEST_TIMER), lambda: self._expired(moment))

    def _expired(self, moment: float) -> None:
        now = time.time()
        if now >= moment:
            self.end("what you logged in with has expired: get a new one")
        else:
            self.expire_at(moment, now)


_LONGEST_TIMER: Final = 60.0  # seconds between looks at the clock
