"""The one way to a target: where an open session's grant leads, and nowhere else."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from hopgate.addresses import refused_target
from hopgate.errors import Denied, Unavailable
from relays.transport import LoopTransport

if TYPE_CHECKING:
    from hopgate.sessions import Session

CONNECT_SECONDS: Final = 10.0  # for name resolution and all addresses together


async def dial(session: Session, make: Callable[[], LoopTransport]) -> tuple[str, int]:
    """Connect what `make` makes (anew for each address that is tried) to the session's target. Gives the address that answered.

    Raises Unavailable in one sentence, Denied when the session is over or the grant is another's.
    """
    if session.grant.connection != session.connection.name:  # raises when the session is over
        raise Denied("the grant is for another connection")
    name, target = session.connection.name, session.connection.address
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            return await _first(make, name, list(dict.fromkeys(each[4][:2] for each in found)))
    except TimeoutError:
        raise Unavailable(f"connection {name}: the target does not answer") from None
    except OSError as error:
        raise Unavailable(f"connection {name}: {why(error)}") from None


async def _first(make: Callable[[], LoopTransport], name: str, addresses: list[tuple[Any, ...]]) -> tuple[str, int]:
    loop = asyncio.get_running_loop()
    failure: OSError = OSError("its name has no address")
    for host, port in addresses:
        if reason := refused_target(str(host)):  # a name may lead anywhere by the time that it is resolved
            raise Unavailable(f"connection {name}: its address {reason}")
        try:
            await loop.create_connection(make, host, port)
        except OSError as error:
            failure = error
            continue
        return str(host), int(port)
    raise failure


def why(error: Exception) -> str:
    """A short reason without addresses or what the peer sent."""
    reason = getattr(error, "verify_message", "") or getattr(error, "reason", "")
    if not reason:
        # asyncio writes addresses into `strerror`
        known = isinstance(error, OSError) and error.errno is not None and error.errno > 0
        reason = os.strerror(error.errno) if known else type(error).__name__  # type: ignore[attr-defined]
    return str(reason).lower().replace("_", " ")
