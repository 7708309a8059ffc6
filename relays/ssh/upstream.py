"""The gateway's login at a target (RFC 4252, RFC 4256), with the stored key or password and nothing else."""

from __future__ import annotations

import asyncio
from struct import error as StructError
from typing import TYPE_CHECKING, Final

from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.service import SSHService

from hopgate.errors import HopgateError, Misconfigured, Unavailable
from hopgate.tasks import spawn
from relays.ssh import algorithms
from relays.ssh.quiet import QUIET
from relays.wire import RemoteProtocolError

if TYPE_CHECKING:
    from relays.ssh.client import ClientTransport

REQUEST, FAILURE, SUCCESS, BANNER = 50, 51, 52, 53
INFO_REQUEST, INFO_RESPONSE = 60, 61
CONNECTION: Final = b"ssh-connection"
MAX_MESSAGES: Final = 64  # of a target during its login
MAX_ROUNDS: Final = 8  # of questions in one keyboard-interactive login


class UpstreamAuth(SSHService):
    """The service `ssh-userauth` from our end."""

    name = b"ssh-userauth"
    _log = QUIET

    def __init__(self, transport: ClientTransport) -> None:
        self.client = transport
        self.user = transport.lease.username.encode()
        self._queue: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self._seen = 0
        self._task: asyncio.Task[None] | None = None
        self._answered = False
        self._trying = b""

    def serviceStarted(self) -> None:
        self._task = spawn(self._run(), name="ssh login at a target")

    def serviceStopped(self) -> None:
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def packetReceived(self, messageNum: int, packet: bytes) -> None:
        self._seen += 1
        if self._seen > MAX_MESSAGES or messageNum > INFO_RESPONSE:
            raise RemoteProtocolError("the target says what does not belong into a login")
        if messageNum == SUCCESS and self._trying not in (b"", b"none"):
            # at once: whatever comes behind it is for the connection
            self.client.logged_in()
        elif messageNum != BANNER:
            self._queue.put_nowait((messageNum, packet))

    async def _run(self) -> None:
        try:
            await self._log_in()
        except (StructError, ValueError, IndexError):
            self.client.failed(RemoteProtocolError("the target's login cannot be read"))
        except HopgateError as error:
            if not self.client.ready.done():
                self.client.ready.set_exception(error)
            self.client.failed(Unavailable("no login"))
        except Exception as error:
            self.client.failed(error)

    async def _log_in(self) -> None:
        """Try what we have and the target takes, each once; its success ends this task. Raises Unavailable, Misconfigured."""
        lease = self.client.lease
        self._request(b"none")
        methods, _ = await self._outcome(b"none")
        left = [*([b"publickey"] if lease.private_key else []), *([b"password", b"keyboard-interactive"] if lease.password else [])]
        while (method := next((each for each in left if each in methods), None)) is not None:
            left.remove(method)
            match method:
                case b"publickey":
                    self._sign()
                case b"password":
                    self._request(b"password", b"\0", NS(lease.password.encode()))
                case _:
                    self._request(b"keyboard-interactive", NS(b""), NS(b""))
            methods, partial = await self._outcome(method)
            if method == b"password" and not partial and self._answered is False and b"keyboard-interactive" in left:
                left.remove(b"keyboard-interactive")  # the same password again: it would only count against the account
        raise self.client.unavailable(self._refusal(methods))

    def _refusal(self, methods: tuple[bytes, ...]) -> str:
        lease = self.client.lease
        have = " and ".join(word for word, value in (("key", lease.private_key), ("password", lease.password)) if value)
        takes = ", ".join(name.decode() for name in methods if name.isascii() and name.decode().isprintable())[:200]
        if not have:
            return f"its credential has neither a private_key nor a password, and the target wants {takes or 'one'}"
        return f"the target refused the stored {have} of its user (it takes {takes or 'nothing'})"

    def _request(self, method: bytes, *data: bytes) -> None:
        self._trying = method
        self.client.send(REQUEST, NS(self.user), NS(CONNECTION), NS(method), *data)

    async def _outcome(self, method: bytes) -> tuple[tuple[bytes, ...], bool]:
        """Methods with which the target goes on, and whether what was tried was right but not enough."""
        rounds = 0
        while True:
            number, payload = await self._queue.get()
            if number == SUCCESS:
                # it would also let in whoever goes there directly, and our credential proved nothing
                raise self.client.unavailable("the target lets anybody in without a credential: it must ask for one")
            if number == FAILURE:
                methods, rest = getNS(payload)
                return tuple(methods.split(b",")), bool(rest[0])
            if number == INFO_REQUEST and method == b"keyboard-interactive" and rounds < MAX_ROUNDS:
                rounds += 1
                self._answer(payload)
            elif number == INFO_REQUEST and method == b"password":
                raise self.client.unavailable("the stored password has expired: the target wants a new one")
            else:
                raise RemoteProtocolError("the target's login goes another way than the one asked for")

    def _answer(self, payload: bytes) -> None:
        """Give the password to the one question that is for it; a target that asks for anything else gets nothing."""
        *_, rest = getNS(payload, 3)
        count, rest = int.from_bytes(rest[:4], "big"), rest[4:]
        if count == 0:
            self.client.send(INFO_RESPONSE, b"\0\0\0\0")
            return
        prompt, rest = getNS(rest)
        echo = bool(rest[0])
        if count != 1 or echo or self._answered or b"pass" not in prompt.lower():
            raise self.client.unavailable("the target asks for something else than a password, which only a person could answer")
        self._answered = True
        self.client.send(INFO_RESPONSE, b"\0\0\0\1", NS(self.client.lease.password.encode()))

    def _sign(self) -> None:
        key = load_private_key(self.client.session.connection.name, self.client.lease.private_key)
        names = algorithms.signing_algorithms(key, self.client.peer_signatures)
        if not names:
            raise self.client.unavailable(
                f"the target takes no signature that a key like the stored one ({key.sshType().decode()}) can make"
            )
        blob = key.public().blob()
        fields = (NS(self.user), NS(CONNECTION), NS(b"publickey"), b"\1", NS(names[0]), NS(blob))
        assert self.client.sessionID is not None
        signed = NS(self.client.sessionID) + bytes((REQUEST,)) + b"".join(fields)
        self._trying = b"publickey"
        self.client.send(REQUEST, *fields, NS(key.sign(signed, signatureType=names[0])))


def load_private_key(connection: str, text: str) -> Key:
    """The stored key. Raises Misconfigured, which quotes nothing of it."""
    place = f"connection {connection}: credential.private_key"
    try:
        key = Key.fromString(text.strip().encode() + b"\n")
        private = not key.isPublic()
        size = key.size()
    except Exception:
        raise Misconfigured(f"{place}: is not a private key that can be read (OpenSSH or PEM form, no passphrase)") from None
    if not private:
        raise Misconfigured(f"{place}: is a public key: the private one is needed")
    if key.type() == "DSA" or (key.type() == "RSA" and size < algorithms.MIN_RSA_BITS):
        raise Misconfigured(f"{place}: is too weak: ed25519, ECDSA, or RSA with at least {algorithms.MIN_RSA_BITS} bits")
    return key
