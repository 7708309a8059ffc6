"""Where the console is: the address that browsers use, and what follows from it for cookies, redirects and the Host header."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from hopgate.addresses import Address
from hopgate.config import Config
from hopgate.errors import Misconfigured

ACS: Final = "/login/saml/acs"  # the assertion consumer service: the one path to which other sites post
_LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Place:
    """`url` has no slash at its end. `hosts` are the values that a Host header may have; empty: any (TLS has proved the name)."""

    address: Address
    url: str
    secure: bool
    tls: bool  # whether this process itself speaks TLS
    hosts: frozenset[str]

    @property
    def cookie(self) -> str:
        """RFC 6265bis section 4.1.3.2: a `__Host-` cookie is of this host alone; a browser refuses it without Secure."""
        return "__Host-hopgate" if self.secure else "hopgate"


def place_of(config: Config) -> Place:
    """Raises Misconfigured when no console is listened for."""
    address = config.listen.console
    if address is None:
        raise Misconfigured(f"{config.path}: listen: has no console: name an address, as in console: 127.0.0.1:8443")
    tls = config.tls is not None and not address.loopback
    url = config.console.url.rstrip("/") or f"{'https' if tls else 'http'}://{address}"
    hosts = {urlsplit(url).netloc.lower()}
    if address.loopback:
        # a name that an attacker points at loopback would make his page ours ("DNS rebinding")
        hosts |= {f"{name}:{address.port}" for name in _LOOPBACK_NAMES}
    elif not config.console.url:
        hosts = set()
    return Place(address, url, url.startswith("https:"), tls, frozenset(hosts))
