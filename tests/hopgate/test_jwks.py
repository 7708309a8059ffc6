"""Key sets: which keys are taken, which algorithm fits which, and a cache that neither floods a provider nor needs it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm

from hopgate.errors import Unauthenticated, Unavailable
from hopgate.jwks import COOL_DOWN, MAX_KEYS, MAX_STALE, KeyCache, KeySet, parse_jwks, parse_key
from tests.doubles import Clock, jwk

FITTING = {
    "RS256": {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
    "ES256": {"ES256"},
    "ES384": {"ES384"},
    "ES512": {"ES512"},
    "EdDSA": {"EdDSA"},
}


def bare(algorithm: str, **members: Any) -> dict[str, Any]:
    return {key: value for key, value in {**jwk(algorithm, "k"), "alg": None, "use": None, **members}.items() if value is not None}


@pytest.mark.parametrize("algorithm", FITTING)
def test_a_key_fits_the_algorithms_of_its_type_and_curve(algorithm: str) -> None:
    key = parse_key(bare(algorithm))
    assert key is not None
    assert key.algorithms == FITTING[algorithm]


def test_a_key_that_names_its_algorithm_fits_no_other() -> None:
    key = parse_key(bare("RS256", alg="PS256"))
    assert key is not None
    assert key.algorithms == {"PS256"}


NO_KEYS: list[dict[str, Any]] = [
    {},
    {"kty": "oct", "k": "c2VjcmV0", "kid": "k", "alg": "HS256"},
    bare("RS256", alg="HS256"),
    bare("RS256", alg="RSA-OAEP"),
    bare("RS256", alg="ES256"),
    bare("ES256", alg="ES384"),
    bare("RS256", use="enc"),
    bare("RS256", key_ops=["encrypt"]),
    bare("RS256", kty="EC"),
    bare("ES256", kty="RSA"),
    bare("ES256", crv="secp256k1"),
    bare("ES256", x="AA"),
    bare("EdDSA", crv="X25519"),
    bare("EdDSA", crv="Ed448"),
    bare("EdDSA", x="!"),
    bare("RS256", n="AQAB"),  # 24 bits
    bare("RS256", n=5),
    bare("RS256", e=None),
    bare("RS256", kty=["RSA"]),
]


@pytest.mark.parametrize("entry", NO_KEYS, ids=range(len(NO_KEYS)))  # keys are new each run: the rows are told by number
def test_what_is_no_verification_key(entry: dict[str, Any]) -> None:
    assert parse_key(entry) is None


def test_a_short_rsa_key_is_no_key() -> None:
    short = rsa.generate_private_key(65537, 1024).public_key()
    assert parse_key({**RSAAlgorithm.to_jwk(short, as_dict=True), "kid": "k"}) is None


def test_a_private_key_published_by_mistake_is_taken_as_its_public_half() -> None:
    entry = {**bare("EdDSA"), "d": "AAAA"}
    key = parse_key(entry)
    assert key is not None
    assert not hasattr(key.public, "sign")


BROKEN = [
    b"",
    b"[]",
    b"{}",
    b'{"keys": {}}',
    b'{"keys": []}',
    b'{"keys": [1, "a", null]}',
    b'{"keys": [{"kty": "oct", "k": "AA"}]}',
    b"<html>",
]


@pytest.mark.parametrize("document", BROKEN)
def test_what_is_no_key_set(document: bytes) -> None:
    with pytest.raises(Unavailable, match="JWKS document"):
        parse_jwks(document)


def test_too_many_keys() -> None:
    entry = jwk("EdDSA", "k")
    parse_jwks(json.dumps({"keys": [entry] * MAX_KEYS}).encode())
    with pytest.raises(Unavailable, match="at most"):
        parse_jwks(json.dumps({"keys": [entry] * (MAX_KEYS + 1)}).encode())


members = st.sampled_from(["kty", "crv", "n", "e", "x", "y", "alg", "use", "kid", "key_ops"])
words = st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "AQAB", "sig"])
values = st.none() | st.text(max_size=6) | words | st.integers() | st.lists(st.text(max_size=3), max_size=2)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(members, values))
def test_any_entry_is_a_key_or_nothing(entry: dict[str, Any]) -> None:
    parse_key(entry)


def test_finding_a_key() -> None:
    keys = parse_jwks(json.dumps({"keys": [jwk("RS256", "a"), jwk("ES256", "a"), jwk("ES256", "b", 1), jwk("EdDSA", "c")]}).encode())
    found = keys.find("a", "ES256")
    assert found is not None
    assert found.algorithms == {"ES256"}
    assert keys.find("a", "EdDSA") is None
    assert keys.find("x", "RS256") is None
    assert keys.find(None, "EdDSA") is not None  # the only one that fits
    assert keys.find(None, "ES256") is None  # two would
    assert KeySet().find(None, "RS256") is None


def test_of_two_keys_with_one_id_none_is_guessed() -> None:
    keys = parse_jwks(json.dumps({"keys": [jwk("ES256", "a"), jwk("ES256", "a", 1)]}).encode())
    assert keys.find("a", "ES256") is None


class Source:
    """Keys that are set by hand; counts how often they are asked for."""

    interval = 300.0

    def __init__(self, *kids: str) -> None:
        self.kids = kids
        self.fetched = 0
        self.broken: Exception | None = None

    async def fetch(self) -> KeySet:
        self.fetched += 1
        await asyncio.sleep(0)
        if self.broken is not None:
            raise self.broken
        return parse_jwks(json.dumps({"keys": [jwk("EdDSA", kid, number) for number, kid in enumerate(self.kids)]}).encode())


async def test_known_keys_need_no_fetch_and_unknown_ones_one_in_thirty_seconds() -> None:
    clock, source = Clock(), Source("a")
    cache = KeyCache("corp", source, clock=clock)
    await cache.find("a", "EdDSA")
    await cache.find("a", "EdDSA")
    assert source.fetched == 1
    for kid in ("x", "y", "z", None):
        await asyncio.gather(*(cache.find(kid, "RS256") for _ in range(20)), return_exceptions=True)
    assert source.fetched == 1  # the cool-down has not passed
    clock.pass_(COOL_DOWN)
    results = await asyncio.gather(*(cache.find("x", "EdDSA") for _ in range(50)), return_exceptions=True)
    assert source.fetched == 2
    assert all(isinstance(each, Unauthenticated) for each in results)


async def test_a_new_key_is_found_after_the_cool_down() -> None:
    clock, source = Clock(), Source("a")
    cache = KeyCache("corp", source, clock=clock)
    await cache.find("a", "EdDSA")
    source.kids = ("a", "b")
    with pytest.raises(Unauthenticated, match="does not publish"):
        await cache.find("b", "EdDSA")
    clock.pass_(COOL_DOWN)
    assert (await cache.find("b", "EdDSA")).kid == "b"


async def test_a_known_key_for_another_algorithm_is_refused_with_those_words() -> None:
    cache = KeyCache("corp", Source("a"), clock=Clock())
    with pytest.raises(Unauthenticated, match="not for the algorithm"):
        await cache.find("a", "RS256")


async def test_while_the_provider_is_down_known_keys_work_for_a_day() -> None:
    clock, source = Clock(), Source("a")
    cache = KeyCache("corp", source, clock=clock)
    await cache.find("a", "EdDSA")
    source.broken = Unavailable("no answer")
    clock.pass_(MAX_STALE / 2)
    await cache.refresh()
    assert (await cache.find("a", "EdDSA")).kid == "a"
    with pytest.raises(Unavailable, match=r"issuer corp: .* does not answer: no answer"):
        await cache.find("b", "EdDSA")
    clock.pass_(MAX_STALE / 2 + 1)
    with pytest.raises(Unavailable):
        await cache.find("a", "EdDSA")
    source.broken = None
    clock.pass_(COOL_DOWN)
    assert (await cache.find("a", "EdDSA")).kid == "a"


async def test_a_fetch_that_fails_in_an_unforeseen_way_leaves_the_keys_and_the_follower_alive() -> None:
    clock, source = Clock(), Source("a")
    cache = KeyCache("corp", source, clock=clock)
    await cache.refresh()
    source.broken = ZeroDivisionError("secret detail")
    await cache.refresh()
    assert cache.keys.has("a")
    assert cache.error is not None
    assert "secret detail" not in cache.error.message


async def test_a_caller_who_gives_up_does_not_end_the_fetch_of_the_others() -> None:
    gate = asyncio.Event()

    class Slow(Source):
        async def fetch(self) -> KeySet:
            await gate.wait()
            return await super().fetch()

    cache = KeyCache("corp", Slow("a"), clock=Clock())
    first = asyncio.ensure_future(cache.find("a", "EdDSA"))
    second = asyncio.ensure_future(cache.find("a", "EdDSA"))
    await asyncio.sleep(0)
    first.cancel()
    gate.set()
    assert (await second).kid == "a"


async def test_removed_keys_are_reported() -> None:
    source = Source("a", "b")
    cache = KeyCache("corp", source, clock=Clock())
    removed: list[frozenset[str]] = []
    cache.on_removed = removed.append
    await cache.refresh()
    gone = cache.keys.keys[1].thumbprint
    source.kids = ("a",)
    await cache.refresh()
    assert removed == [frozenset({gone})]
