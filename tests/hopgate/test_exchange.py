"""The token endpoint's form and answers."""

from __future__ import annotations

import json
from typing import Any, cast
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hopgate.errors import Denied, HopgateError, Misconfigured, Unauthenticated, Unavailable
from hopgate.exchange import GRANT_TYPE, MAX_FORM, ExchangeError, answer, parse_exchange
from hopgate.identity import Exchanged, Identity
from rules.model import Principal

TYPE = "urn:ietf:params:oauth:token-type:"
GOOD = {"grant_type": GRANT_TYPE, "subject_token": "hunter2.hunter2.hunter2", "subject_token_type": TYPE + "jwt"}


def form(**changes: str | None) -> bytes:
    return urlencode({name: value for name, value in {**GOOD, **changes}.items() if value is not None}).encode()


GOOD_FORMS = [
    form(),
    form(subject_token_type=TYPE + "access_token"),
    form(subject_token_type=TYPE + "id_token"),
    form(requested_token_type=TYPE + "access_token", audience="hopgate"),
    form(scope="", resource=""),  # RFC 6749 section 3.2: without a value as if left out
    form() + b"&unknown=1&unknown=2",
]


@pytest.mark.parametrize("body", GOOD_FORMS)
def test_good_forms(body: bytes) -> None:
    assert parse_exchange(body).subject_token == GOOD["subject_token"]


BAD_FORMS = [
    (b"", "invalid_request"),
    (b"\xff=1", "invalid_request"),
    (b'{"grant_type": "x"}', "invalid_request"),
    (form(grant_type=None), "invalid_request"),
    (form(grant_type=""), "invalid_request"),
    (form(grant_type="password"), "unsupported_grant_type"),
    (form(grant_type="client_credentials"), "unsupported_grant_type"),
    (form(subject_token=None), "invalid_request"),
    (form(subject_token=""), "invalid_request"),
    (form(subject_token_type=None), "invalid_request"),
    (form(subject_token_type=TYPE + "saml2"), "invalid_request"),
    (form() + b"&subject_token=x", "invalid_request"),
    (form() + b"&grant_type=x", "invalid_request"),
    (form(actor_token="x"), "invalid_request"),
    (form(requested_token_type=TYPE + "refresh_token"), "invalid_request"),
    (form(audience="other"), "invalid_target"),
    (form(resource="https://x"), "invalid_target"),
    (form(scope="admin"), "invalid_scope"),
    (b"&".join(b"a%d=1" % number for number in range(40)), "invalid_request"),
    (form(subject_token="x" * MAX_FORM), "invalid_request"),
]


@pytest.mark.parametrize(("body", "code"), BAD_FORMS)
def test_bad_forms(body: bytes, code: str) -> None:
    with pytest.raises(ExchangeError) as caught:
        parse_exchange(body)
    assert caught.value.code == code
    told = json.loads(caught.value.body)
    assert told["error"] == code
    assert told["error_description"].isascii()
    assert not set(told["error_description"]) & {'"', "\\"}
    assert "hunter2" not in f"{caught.value!r} {told}"


def test_the_token_is_not_in_the_repr() -> None:
    assert "hunter2" not in repr(parse_exchange(form()))


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=80) | st.lists(st.sampled_from([*GOOD, "scope"])).map(lambda names: "&".join(f"{name}=x" for name in names).encode())
)
def test_any_body_is_read_or_refused(body: bytes) -> None:
    with pytest.raises(ExchangeError):
        parse_exchange(body)


class Exchanges:
    """An Identity that gives a token, or raises."""

    def __init__(self, error: HopgateError | None = None) -> None:
        self.error = error
        self.asked: list[tuple[str, str]] = []

    async def exchange(self, token: str, *, peer: str) -> Exchanged:
        self.asked.append((token, peer))
        if self.error is not None:
            raise self.error
        return Exchanged("hgt_x", 60, Principal("corp", "alice"))


async def ask(identity: Exchanges, body: bytes) -> tuple[int, dict[str, Any]]:
    status, answered = await answer(cast("Identity", identity), body, peer="10.0.0.1")
    return status, json.loads(answered)


async def test_a_token_is_given() -> None:
    identity = Exchanges()
    assert await ask(identity, form()) == (
        200,
        {"access_token": "hgt_x", "issued_token_type": TYPE + "access_token", "token_type": "Bearer", "expires_in": 60},
    )
    assert identity.asked == [(GOOD["subject_token"], "10.0.0.1")]


ERRORS = [
    (Unauthenticated("the token has expired"), 400, "invalid_request"),
    (Denied("locked"), 403, "access_denied"),
    (Unavailable('the provider "x" is down'), 503, "temporarily_unavailable"),
    (Misconfigured("broken"), 503, "temporarily_unavailable"),
]


@pytest.mark.parametrize(("error", "status", "code"), ERRORS)
async def test_refusals(error: HopgateError, status: int, code: str) -> None:
    answered = await ask(Exchanges(error), form())
    assert (answered[0], answered[1]["error"]) == (status, code)


async def test_a_bad_form_asks_nobody() -> None:
    identity = Exchanges()
    assert (await ask(identity, b"x"))[0] == 400
    assert identity.asked == []
