"""Signed tokens: every way to be almost right is refused."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from hopgate.config import IssuerConfig
from hopgate.errors import Unauthenticated
from hopgate.issuers import Issuer, parse
from hopgate.jwks import KeyCache, KeySet, parse_jwks
from tests.doubles import START, jwk, sign, signing_key

URL = "https://i.example"
GOOD = {"iss": URL, "aud": "hopgate", "sub": "alice", "exp": START + 60}
KEYS = [jwk("RS256", "rsa"), jwk("ES256", "ec"), jwk("EdDSA", "ed"), {**jwk("RS256", "any", 1), "alg": None}]


class Published:
    """A JWKS that never changes."""

    interval = 300.0

    async def fetch(self) -> KeySet:
        entries = [{name: value for name, value in entry.items() if value is not None} for entry in KEYS]
        return parse_jwks(json.dumps({"keys": entries}).encode())


def issuer(**config: Any) -> Issuer:
    plain = IssuerConfig(name="corp", issuer=URL, audience=("hopgate",))
    return Issuer(plain.model_copy(update=config), KeyCache("corp", Published()))


def encode(part: Any) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hs256(claims: dict[str, Any], secret: bytes, **header: Any) -> str:
    signed = f"{encode({'alg': 'HS256', 'typ': 'JWT', **header})}.{encode(claims)}"
    return f"{signed}.{encode(hmac.digest(secret, signed.encode(), 'sha256'))}"


def pem(form: Encoding = Encoding.PEM) -> bytes:
    public: bytes = signing_key("RS256").public_key().public_bytes(form, PublicFormat.SubjectPublicKeyInfo)
    return public


async def verify(token: str, at: Issuer | None = None) -> str:
    found = await (at or issuer()).verify(token, parse(token), START)
    return found.principal.subject


@pytest.mark.parametrize(("algorithm", "kid"), [("RS256", "rsa"), ("ES256", "ec"), ("EdDSA", "ed"), ("ES256", None), ("EdDSA", None)])
async def test_good_tokens(algorithm: str, kid: str | None) -> None:
    assert await verify(sign(GOOD, algorithm, kid)) == "alice"


async def test_an_algorithm_that_the_configuration_adds() -> None:
    token = sign(GOOD, "PS256", "any", 1)
    with pytest.raises(Unauthenticated, match="algorithm is not one of ES256, EdDSA, RS256"):
        await verify(token)
    assert await verify(token, issuer(algorithms=("PS256",))) == "alice"


def tampered(change: Callable[[list[str]], None]) -> str:
    parts = sign(GOOD, "RS256", "rsa").split(".")
    change(parts)
    return ".".join(parts)


def _set(index: int, value: Any) -> Callable[[list[str]], None]:
    return lambda parts: parts.__setitem__(index, value if isinstance(value, str) else encode(value))


REFUSED = {
    "alg none": (f"{encode({'alg': 'none', 'kid': 'rsa'})}.{encode(GOOD)}.", "algorithm is not one of"),
    "alg None": (f"{encode({'alg': 'NoNe', 'kid': 'rsa'})}.{encode(GOOD)}.", "algorithm is not one of"),
    "alg empty": (f"{encode({'alg': '', 'kid': 'rsa'})}.{encode(GOOD)}.", "algorithm is not one of"),
    "alg rs256 in lower case": (tampered(_set(0, {"alg": "rs256", "kid": "rsa"})), "algorithm is not one of"),
    "HS256 with the public key in PEM as secret": (hs256(GOOD, pem(), kid="rsa"), "algorithm is not one of"),
    "HS256 with the public key in DER as secret": (hs256(GOOD, pem(Encoding.DER), kid="rsa"), "algorithm is not one of"),
    "HS256 without kid": (hs256(GOOD, pem()), "algorithm is not one of"),
    "HS256 with an empty secret": (hs256(GOOD, b"", kid="ed"), "algorithm is not one of"),
    "EC key for RS256": (sign(GOOD, "RS256", "ec"), "not for the algorithm"),
    "RSA key for ES256": (sign(GOOD, "ES256", "rsa"), "not for the algorithm"),
    "RSA key for EdDSA": (sign(GOOD, "EdDSA", "rsa"), "not for the algorithm"),
    "another key of the kind": (sign(GOOD, "RS256", "rsa", 7), "signature is wrong"),
    "kid of nobody": (sign(GOOD, "RS256", "other"), "does not publish"),
    "kid that is a path": (sign(GOOD, "RS256", "../../etc/passwd"), "does not publish"),
    "no kid and two keys that fit": (sign(GOOD, "RS256", None), "does not publish"),
    "claims changed": (tampered(_set(1, {**GOOD, "sub": "admin"})), "signature is wrong"),
    "no signature": (tampered(_set(2, "")), "signature is wrong"),
    "signature of zeros": (tampered(_set(2, bytes(256))), "signature is wrong"),
    "header changed": (tampered(_set(0, {"alg": "RS256", "kid": "rsa", "x": 1})), "signature is wrong"),
    "jwk in the header": (sign(GOOD, "RS256", None, 7, jwk=jwk("RS256", "mine", 7)), "does not publish"),
    "jku in the header": (sign(GOOD, "RS256", "mine", 7, jku="https://evil.example/keys"), "does not publish"),
    "crit": (tampered(_set(0, {"alg": "RS256", "kid": "rsa", "crit": ["b64"], "b64": False})), "extension"),
    "unencoded payload": (tampered(_set(0, {"alg": "RS256", "kid": "rsa", "b64": False})), "extension"),
    "a logout token": (sign(GOOD, "RS256", "rsa", typ="logout+jwt"), "another kind"),
    "typ that is no text": (tampered(_set(0, {"alg": "RS256", "typ": 5})), "another kind"),
    "no alg": (tampered(_set(0, {"kid": "rsa"})), "malformed"),
    "kid that is a number": (tampered(_set(0, {"alg": "RS256", "kid": 5})), "malformed"),
    "header that is a list": (tampered(_set(0, [])), "malformed"),
    "encrypted": (".".join(["e30"] * 5), "encrypted"),
    "two parts": ("e30.e30", "malformed"),
    "words": ("let me in", "malformed"),
    "not base64": ("a.b.c", "malformed"),
    "standard base64": (tampered(_set(0, "e30+/")), "malformed"),
    "no iss": (sign({**GOOD, "iss": None}, "RS256", "rsa"), "no iss"),
    "iss that is a list": (sign({**GOOD, "iss": [URL]}, "RS256", "rsa"), "no iss"),
    "payload that is a list": (tampered(_set(1, [GOOD])), "malformed"),
    "no exp": (sign({**GOOD, "exp": None}, "RS256", "rsa"), "no exp"),
    "no sub": (sign({**GOOD, "sub": None}, "RS256", "rsa"), "no sub"),
    "no aud": (sign({**GOOD, "aud": None}, "RS256", "rsa"), "no aud"),
    "another aud": (sign({**GOOD, "aud": "other"}, "RS256", "rsa"), "another audience"),
    "another iss": (sign({**GOOD, "iss": "https://evil.example"}, "RS256", "rsa"), "another issuer"),
    "expired": (sign({**GOOD, "exp": START - 30}, "RS256", "rsa"), "expired"),
    "not yet": (sign({**GOOD, "nbf": START + 31}, "RS256", "rsa"), "not valid yet"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_tokens(name: str) -> None:
    token, words = REFUSED[name]
    with pytest.raises(Unauthenticated, match=words) as caught:
        await verify(token)
    for part in token.split("."):
        assert len(part) < 8 or part not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None  # no text of a library that may quote the token


async def test_access_tokens_of_rfc_9068_are_taken() -> None:
    assert await verify(sign(GOOD, "RS256", "rsa", typ="at+jwt")) == "alice"
    assert await verify(sign(GOOD, "RS256", "rsa", typ="application/at+JWT")) == "alice"


async def test_every_changed_byte_of_a_token_is_noticed() -> None:
    token = sign(GOOD, "ES256", "ec")
    at = issuer()
    for index in range(0, len(token), 3):
        flipped = token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]
        with pytest.raises(Unauthenticated):
            await verify(flipped, at)


@settings(max_examples=200, deadline=None)
@given(
    st.text(alphabet=st.characters(codec="ascii"), max_size=60) | st.binary(max_size=30).map(lambda data: f"{encode(data)}.{encode(data)}.")
)
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parse(text)
    except Unauthenticated:
        return
