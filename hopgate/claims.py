"""A verified token's claims as a Principal: times, audience, groups, and what an issuer is narrowed to. Pure."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any, Final

from hopgate.addresses import contains
from hopgate.config import IssuerConfig
from hopgate.errors import Expired, Unauthenticated
from hopgate.tokens import PEER_CLAIM, RUN_CLAIM
from rules.model import Principal
from rules.patterns import compile_text

LEEWAY: Final = 30.0  # seconds by which clocks may differ
_MAX_TEXT: Final = 255  # characters of a subject, group or run
_MAX_ACTORS: Final = 16
_MISSING: Final = object()


def check_times(claims: Mapping[str, Any], now: float) -> float:
    """Check `exp` (required), `nbf` and `iat`; gives `exp`. Raises Expired, Unauthenticated."""
    expires = _time(claims, "exp")
    if expires is None:
        raise Unauthenticated("the token has no exp claim")
    if now >= expires + LEEWAY:
        raise Expired("the token has expired: get a new one")
    if (start := _time(claims, "nbf")) is not None and start > now + LEEWAY:
        raise Unauthenticated("the token is not valid yet (nbf)")
    if (issued := _time(claims, "iat")) is not None and issued > now + LEEWAY:
        raise Unauthenticated("the token was issued in the future (iat)")
    return expires


def check_audience(claims: Mapping[str, Any], issuer: IssuerConfig) -> None:
    """Raises Unauthenticated unless `iss` is the issuer's and `aud` names this gateway."""
    if claims.get("iss") != issuer.issuer_url:
        raise Unauthenticated("the token names another issuer")
    audience = claims.get("aud")
    if not audience:
        raise Unauthenticated(f"issuer {issuer.name}: the token has no aud claim")
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or not any(each in issuer.audiences for each in named if isinstance(each, str)):
        raise Unauthenticated(f"issuer {issuer.name}: the token is for another audience, not {' or '.join(issuer.audiences)}")


def principal_of(claims: Mapping[str, Any], issuer: IssuerConfig, *, token_id: str, expires_at: float) -> Principal:
    """Who the claims say is calling.

    Raises Unauthenticated: no subject, groups that cannot be known, or a caller for whom this issuer may not vouch.
    """
    subject = claims.get("sub")
    if subject is None or subject == "":
        raise Unauthenticated(f"issuer {issuer.name}: the token has no sub claim")
    if not _is_text(subject):
        raise Unauthenticated(f"issuer {issuer.name}: the token's sub is not printable text of at most {_MAX_TEXT} characters")
    check_required(claims, issuer)
    run = claims.get(RUN_CLAIM)
    peer = claims.get(PEER_CLAIM) if issuer.local else None  # another issuer may mean anything by it
    if not isinstance(peer, str | None):
        raise Unauthenticated("the token's peer is not a network")
    return Principal(
        issuer=issuer.name,
        subject=subject,
        groups=_groups(claims, issuer),
        claims=dict(claims),
        expires_at=expires_at,
        token_id=token_id,
        peer=peer,
        actors=_actors(claims),
        run=str(run) if _is_text(run) else "",
    )


def check_peer(network: str | None, peer: str) -> None:
    """Raises Unauthenticated when a token that is bound to `network` (CIDR) comes from elsewhere."""
    if network is not None and not _inside(network, peer):
        raise Unauthenticated("the token is bound to another peer than the one that it came from")


@functools.lru_cache(maxsize=4096)
def _inside(network: str, peer: str) -> bool:
    try:
        return contains((ip_network(network),), peer)
    except ValueError:
        return False


def check_required(claims: Mapping[str, Any], issuer: IssuerConfig) -> None:
    """Raises Unauthenticated unless every claim of the issuer's `require` has one of the accepted values."""
    for path, accepted in issuer.require.items():
        found = claim_at(claims, path)
        values = found if isinstance(found, list) else [found]
        if not any(_accepts(wanted, value) for wanted in accepted for value in values):
            raise Unauthenticated(f"issuer {issuer.name}: the token's {path} is not one that this gateway accepts from this issuer")


def _accepts(wanted: str | int | bool, value: Any) -> bool:
    if isinstance(wanted, str):
        return isinstance(value, str) and _matcher(wanted)(value)
    return type(value) is type(wanted) and value == wanted  # 1 is not True


def claim_at(claims: Mapping[str, Any], path: str) -> Any:
    """The claim at a dotted path, None where there is none. A claim whose own name has dots (`https://corp.example/groups`) comes first."""
    found = claims.get(path, _MISSING)
    if found is not _MISSING:
        return found
    for index, character in enumerate(path):
        inner = claims.get(path[:index]) if character == "." else None
        if isinstance(inner, dict) and (found := claim_at(inner, path[index + 1 :])) is not None:
            return found
    return None


def _groups(claims: Mapping[str, Any], issuer: IssuerConfig) -> frozenset[str]:
    found = claim_at(claims, issuer.groups_claim)
    if found is None:
        _check_overage(claims, issuer)
        return frozenset()
    groups = [found] if isinstance(found, str) else found  # some providers write a single group as text
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise Unauthenticated(f"issuer {issuer.name}: the token's {issuer.groups_claim} is not a list of group names")
    named = frozenset(group for group in groups if _is_text(group))
    if not issuer.groups:
        return named
    return frozenset(group for group in named if any(_matcher(pattern)(group) for pattern in issuer.groups))


def _check_overage(claims: Mapping[str, Any], issuer: IssuerConfig) -> None:
    """Entra leaves the groups out above 200 and points to Graph instead. Taken for none, rules that deny a group would not match."""
    elsewhere = claims.get("_claim_names")
    named = isinstance(elsewhere, dict) and issuer.groups_claim in elsewhere
    if named or (issuer.groups_claim == "groups" and claims.get("hasgroups") in (True, "true")):
        raise Unauthenticated(
            f"issuer {issuer.name}: the token leaves the groups out because there are too many (Entra overage):"
            " emit only groups assigned to the application, or use app roles with groups_claim: roles"
        )


def _actors(claims: Mapping[str, Any]) -> frozenset[str]:
    """Everybody on whose behalf or through whom the token speaks: `act` chains (RFC 8693 section 4.1), `azp` and `client_id`."""
    found: list[Any] = [claims.get("azp"), claims.get("client_id")]
    act = claims.get("act")
    for _ in range(_MAX_ACTORS):
        if not isinstance(act, dict):
            return frozenset(actor for actor in found if isinstance(actor, str) and actor)
        found.append(act.get("sub"))
        act = act.get("act")
    raise Unauthenticated(f"the token's act claim is nested deeper than {_MAX_ACTORS}")


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value < 1e11:
        raise Unauthenticated(f"the token's {name} is not a number of seconds")
    return float(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT and value.isprintable()


_matcher = functools.lru_cache(maxsize=1024)(compile_text)
