"""Verified claims to a principal: what is missing, out of time, too much, or not for this gateway."""

from __future__ import annotations

from typing import Any

import pytest

from hopgate.claims import LEEWAY, check_audience, check_peer, check_times, claim_at, principal_of
from hopgate.config import IssuerConfig
from hopgate.errors import Expired, Unauthenticated
from rules.model import Principal
from tests.doubles import START

ISSUER = IssuerConfig(name="corp", issuer="https://i.example/", audience=("hopgate", "other"))


def principal(claims: dict[str, Any], **config: Any) -> Principal:
    return principal_of({"sub": "alice", **claims}, ISSUER.model_copy(update=config), token_id="t", expires_at=1.0)


TIMES: list[tuple[dict[str, Any], type[Exception] | None, str]] = [
    ({"exp": START + 1}, None, ""),
    ({"exp": START - LEEWAY + 1}, None, ""),
    ({"exp": START + 0.5, "nbf": START - 1, "iat": START - 1}, None, ""),
    ({"exp": START + 60, "nbf": START + LEEWAY}, None, ""),
    ({"exp": START + 60, "iat": START + LEEWAY}, None, ""),
    ({}, Unauthenticated, "no exp"),
    ({"exp": None}, Unauthenticated, "no exp"),
    ({"exp": START - LEEWAY}, Expired, "has expired"),
    ({"exp": 0}, Expired, "has expired"),
    ({"exp": START + 60, "nbf": START + LEEWAY + 1}, Unauthenticated, "not valid yet"),
    ({"exp": START + 60, "iat": START + LEEWAY + 1}, Unauthenticated, "issued in the future"),
    ({"exp": str(START + 60)}, Unauthenticated, "exp is not a number"),
    ({"exp": True}, Unauthenticated, "exp is not a number"),
    ({"exp": float("nan")}, Unauthenticated, "exp is not a number"),
    ({"exp": float("inf")}, Unauthenticated, "exp is not a number"),
    ({"exp": 10**30}, Unauthenticated, "exp is not a number"),
    ({"exp": [START]}, Unauthenticated, "exp is not a number"),
    ({"exp": START + 60, "nbf": "soon"}, Unauthenticated, "nbf is not a number"),
    ({"exp": START + 60, "iat": {}}, Unauthenticated, "iat is not a number"),
]


@pytest.mark.parametrize(("claims", "error", "words"), TIMES)
def test_times(claims: dict[str, Any], error: type[Exception] | None, words: str) -> None:
    if error is None:
        assert check_times(claims, START) == claims["exp"]
    else:
        with pytest.raises(error, match=words):
            check_times(claims, START)


AUDIENCES: list[tuple[dict[str, Any], str]] = [
    ({"iss": "https://i.example/"}, "no aud"),
    ({"iss": "https://i.example/", "aud": ""}, "no aud"),
    ({"iss": "https://i.example/", "aud": []}, "no aud"),
    ({"iss": "https://i.example/", "aud": "hopgat"}, "another audience"),
    ({"iss": "https://i.example/", "aud": ["a", "b"]}, "another audience"),
    ({"iss": "https://i.example/", "aud": {"hopgate": 1}}, "another audience"),
    ({"iss": "https://i.example/", "aud": [["hopgate"], 1]}, "another audience"),
    ({"aud": "hopgate"}, "another issuer"),
    ({"iss": "https://i.example", "aud": "hopgate"}, "another issuer"),
    ({"iss": "corp", "aud": "hopgate"}, "another issuer"),
    ({"iss": ["https://i.example/"], "aud": "hopgate"}, "another issuer"),
]


@pytest.mark.parametrize(("claims", "words"), AUDIENCES)
def test_who_and_for_whom(claims: dict[str, Any], words: str) -> None:
    with pytest.raises(Unauthenticated, match=words):
        check_audience(claims, ISSUER)


@pytest.mark.parametrize("audience", ["hopgate", "other", ["x", "hopgate"], [1, "other"]])
def test_one_of_the_audiences_is_enough(audience: Any) -> None:
    check_audience({"iss": "https://i.example/", "aud": audience}, ISSUER)


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        (None, "no sub"),
        ("", "no sub"),
        (5, "printable"),
        ("a\nb", "printable"),
        ("a\u202eb", "printable"),
        ("a" * 256, "at most 255"),
    ],
)
def test_no_subject_no_principal(subject: Any, words: str) -> None:
    with pytest.raises(Unauthenticated, match=words):
        principal({"sub": subject})


GROUPS: list[tuple[Any, dict[str, Any], set[str]]] = [
    (["a", "b"], {}, {"a", "b"}),
    ("a", {}, {"a"}),
    ("a b,c", {}, {"a b,c"}),  # one group with an odd name, never three
    ([], {}, set()),
    (None, {}, set()),
    (["ci-x", "dba", "CI-y", "xci-"], {"groups": ("ci-*",)}, {"ci-x"}),
    (["dba"], {"groups": ("ci-*",)}, set()),
    (["a\nb", "", "ok", "x" * 256], {}, {"ok"}),
]


@pytest.mark.parametrize(("found", "config", "groups"), GROUPS)
def test_groups(found: Any, config: dict[str, Any], groups: set[str]) -> None:
    assert principal({"groups": found}, **config).groups == groups


@pytest.mark.parametrize("found", [{"a": 1}, ["a", 1], ["a", None], 7, True, [["a"]]])
def test_groups_that_are_no_names_are_refused(found: Any) -> None:
    with pytest.raises(Unauthenticated, match="not a list of group names"):
        principal({"groups": found})


PATHS: list[tuple[dict[str, Any], str, Any]] = [
    ({"realm_access": {"roles": ["a"]}}, "realm_access.roles", ["a"]),
    ({"https://corp.example/groups": ["a"]}, "https://corp.example/groups", ["a"]),
    ({"https://corp.example": {"x": ["a"]}}, "https://corp.example.x", ["a"]),
    ({"a": {"b.c": {"d": 1}}}, "a.b.c.d", 1),
    ({"a.b": 1, "a": {"b": 2}}, "a.b", 1),
    ({"a": ["b"]}, "a.b", None),
    ({"a": {"b": None}}, "a.b", None),
    ({}, "a.b", None),
    ({"a": 0}, "a", 0),
]


@pytest.mark.parametrize(("claims", "path", "value"), PATHS)
def test_dotted_paths(claims: dict[str, Any], path: str, value: Any) -> None:
    assert claim_at(claims, path) == value


def test_nested_groups() -> None:
    claims = {"resource_access": {"hopgate": {"roles": ["dba"]}}, "groups": ["other"]}
    assert principal(claims, groups_claim="resource_access.hopgate.roles").groups == {"dba"}


OVERAGE: list[tuple[dict[str, Any], str, bool]] = [
    ({"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://graph"}}}, "groups", True),
    ({"hasgroups": True}, "groups", True),
    ({"hasgroups": "true"}, "groups", True),
    ({"_claim_names": {"groups": "src1"}, "roles": ["dba"]}, "roles", False),  # app roles are complete
    ({"hasgroups": True}, "roles", False),
    ({"_claim_names": {"photo": "src1"}}, "groups", False),
    ({"hasgroups": False}, "groups", False),
    ({"hasgroups": True, "groups": ["a"]}, "groups", False),
]


@pytest.mark.parametrize(("claims", "path", "refused"), OVERAGE)
def test_groups_that_entra_left_out(claims: dict[str, Any], path: str, refused: bool) -> None:
    if refused:
        with pytest.raises(Unauthenticated, match=r"Entra overage.*app roles"):
            principal(claims, groups_claim=path)
    else:
        principal(claims, groups_claim=path)


REQUIRE: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({"owner": ("acme",)}, {"owner": "acme"}, True),
    ({"owner": ("acme",)}, {"owner": "acme2"}, False),
    ({"owner": ("acme",)}, {"owner": "ACME"}, False),
    ({"owner": ("acme",)}, {}, False),
    ({"owner": ("acme",)}, {"owner": None}, False),
    ({"owner": ("a", "b")}, {"owner": "b"}, True),
    ({"owner": ("acme-*",)}, {"owner": "acme-x"}, True),
    ({"owner": ("acme-*",)}, {"owner": "xacme-x"}, False),
    ({"owner": ("re:acme|other",)}, {"owner": "other"}, True),
    ({"owner": ("re:acme|other",)}, {"owner": "others"}, False),
    ({"owner": ("acme",)}, {"owner": ["x", "acme"]}, True),
    ({"owner": ("acme",)}, {"owner": [["acme"]]}, False),
    ({"a.b": ("x",)}, {"a": {"b": "x"}}, True),
    ({"admin": (True,)}, {"admin": True}, True),
    ({"admin": (True,)}, {"admin": 1}, False),
    ({"admin": (True,)}, {"admin": "true"}, False),
    ({"tenant": (7,)}, {"tenant": 7}, True),
    ({"tenant": (1,)}, {"tenant": True}, False),
    ({"a": ("x",), "b": ("y",)}, {"a": "x", "b": "z"}, False),
    ({"a": ("x",), "b": ("y",)}, {"a": "x", "b": "y"}, True),
]


@pytest.mark.parametrize(("require", "claims", "accepted"), REQUIRE)
def test_required_claims(require: dict[str, Any], claims: dict[str, Any], accepted: bool) -> None:
    if accepted:
        principal(claims, require=require)
    else:
        with pytest.raises(Unauthenticated, match="is not one that this gateway accepts"):
            principal(claims, require=require)


def test_everybody_who_acts_is_named() -> None:
    claims = {"azp": "console", "client_id": "app", "act": {"sub": "bot", "act": {"sub": "scheduler"}}}
    assert principal(claims).actors == {"console", "app", "bot", "scheduler"}
    assert principal({"azp": 5, "act": "x"}).actors == frozenset()


def test_an_endless_chain_of_actors_is_refused() -> None:
    act: dict[str, Any] = {"sub": "0"}
    for number in range(20):
        act = {"sub": str(number), "act": act}
    with pytest.raises(Unauthenticated, match="nested deeper"):
        principal({"act": act})


def test_peer_and_run() -> None:
    local = {"local": True, "issuer": ""}
    assert principal({"peer": "10.0.0.0/8", "run": "r1"}, **local).peer == "10.0.0.0/8"
    assert principal({"peer": "10.0.0.0/8", "run": "r1"}).peer is None  # somebody else's claim of that name
    assert principal({"run": "r1"}).run == "r1"
    assert principal({"run": "r\n1"}).run == ""
    assert principal({"run": 7}).run == ""
    with pytest.raises(Unauthenticated, match="peer is not a network"):
        principal({"peer": ["10.0.0.0/8"]}, **local)


@pytest.mark.parametrize(
    ("network", "peer", "inside"),
    [
        (None, "anything", True),
        ("10.1.2.3/32", "10.1.2.3", True),
        ("10.1.2.3/32", "::ffff:10.1.2.3", True),
        ("10.1.2.3/32", "10.1.2.4", False),
        ("10.1.2.3/32", "", False),
        ("nonsense", "10.1.2.3", False),
        ("", "10.1.2.3", False),
        ("fd00::/8", "fd00::1", True),
    ],
)
def test_bound_to_a_peer(network: str | None, peer: str, inside: bool) -> None:
    if inside:
        check_peer(network, peer)
    else:
        with pytest.raises(Unauthenticated, match="bound to another peer"):
            check_peer(network, peer)
