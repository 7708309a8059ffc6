"""Network addresses as people write them, and those that no connection may ever lead to."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

type IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
type IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# Services that hand out credentials or machine data to whoever can reach them, outside 169.254.0.0/16 and fe80::/10.
METADATA_ADDRESSES: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure wire server
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::254",  # AWS over IPv6
        "fd20:ce::254",  # Google Cloud over IPv6
    )
)
METADATA_NAMES: Final = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"})
PRIVATE_NETWORKS: Final[tuple[IPNetwork, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "fc00::/7", "::1/128")
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*", re.ASCII)
_NUMERIC: Final = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """A host (lower case, IPv6 without brackets) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def ip(self) -> IPAddress | None:
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def loopback(self) -> bool:
        return self.ip is not None and self.ip.is_loopback


def parse_address(text: str, *, lowest_port: int = 1) -> Address:
    """`host:port` or `[v6]:port`. Raises ValueError with a sentence."""
    host, separator, port = text.rpartition(":")
    if not separator or not (port.isascii() and port.isdigit()) or not lowest_port <= int(port) <= 65535:
        raise ValueError("must be host:port, with a port from 1 to 65535")
    return Address(parse_host(host), int(port))


def parse_host(text: str) -> str:
    """A host name or an IP address in the one form that compares equal. Raises ValueError with a sentence."""
    if text.startswith("[") and text.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError:
            raise ValueError("is not an IPv6 address in brackets") from None
    host = text.lower().removesuffix(".")
    if _NUMERIC.fullmatch(host.rsplit(".", 1)[-1]):
        # resolvers take 2852039166, 0xa9fea9fe and 169.254.43518 for 169.254.169.254; WHATWG URL "ends in a number"
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError("is not an IPv4 address in dotted form") from None
    if not _NAME.fullmatch(host):
        raise ValueError("is not a host name (IPv6 addresses go in brackets)")
    return host


def refused_target(host: str) -> str:
    """Why no connection may lead to this host name or IP address; empty when one may. Loopback and private addresses may be targets."""
    host = host.lower().strip("[]").removesuffix(".")
    if host in METADATA_NAMES:
        return "is a cloud metadata service"
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    address = _embedded(address)
    if address in METADATA_ADDRESSES:
        return "is a cloud metadata service"
    if address.is_link_local:
        return "is link-local, where cloud metadata services live"
    if address.is_multicast or address.is_unspecified or address == ipaddress.IPv4Address("255.255.255.255"):
        return "is not the address of one host"
    return ""


def _embedded(address: IPAddress) -> IPAddress:
    """The IPv4 address that an IPv4-mapped, 6to4 or NAT64 address stands for, else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def contains(networks: tuple[IPNetwork, ...], peer: str) -> bool:
    """Whether the IP address `peer` is inside one of `networks`; False for what is no IP address."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # how a dual-stack listener names an IPv4 peer
    return any(address in network for network in networks)
