"""Logins: the client's against what is kept of a token, ours against a server's half made by scramp."""

from __future__ import annotations

import base64
import hashlib

import pytest
import scramp
from hypothesis import given
from hypothesis import strategies as st

from hopgate.tokens import new_opaque_token, scram_verifier
from relays.postgres import codec
from relays.postgres.auth import AuthFailed, ScramServer, TargetLogin, TokenVerifier
from relays.wire import RemoteProtocolError

TOKEN = new_opaque_token()
VERIFIER = TokenVerifier.parse(scram_verifier(TOKEN))


def client(password: str = TOKEN) -> scramp.ScramClient:
    return scramp.ScramClient(["SCRAM-SHA-256"], "*", password)


def test_a_client_that_knows_the_token_proves_it_and_so_do_we() -> None:
    ours, theirs = ScramServer(VERIFIER), client()
    theirs.set_server_first(ours.first(theirs.get_client_first().encode()).decode())
    theirs.set_server_final(ours.final(theirs.get_client_final().encode()).decode())


def test_the_exchange_of_rfc_7677() -> None:
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    verifier = TokenVerifier.parse(scram_verifier("pencil", salt=salt))
    ours = ScramServer(verifier, nonce="%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    first = ours.first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    assert first == b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    final = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert ours.final(final) == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@pytest.mark.parametrize("first", [b"n,,n=,r=abcdefghij", b"y,,n=,r=abcdefghij", b"n,,n=whoever,r=abcdefghij"])
def test_first_messages_that_libpq_sends_are_taken(first: bytes) -> None:
    assert ScramServer(VERIFIER).first(first).startswith(b"r=abcdefghij")


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n",
        b"p=tls-server-end-point,,n=,r=abcdefghij",
        b"n,a=other,n=,r=abcdefghij",
        b"n,,m=ext,n=,r=abcdefghij",
        b"n,,n=,r=short",
        b"n,,n=,r=with space1",
        b"n,,n=,r=" + b"x" * 513,
    ],
)
def test_first_messages_that_are_not_ours_are_refused(first: bytes) -> None:
    with pytest.raises(AuthFailed):
        ScramServer(VERIFIER).first(first)


def test_a_wrong_token_and_an_unknown_one_fail_alike() -> None:
    for verifier in (VERIFIER, TokenVerifier.mock("id", b"key")):
        ours, theirs = ScramServer(verifier), client("hgt_another")
        theirs.set_server_first(ours.first(theirs.get_client_first().encode()).decode())
        with pytest.raises(AuthFailed, match="the token is wrong"):
            ours.final(theirs.get_client_final().encode())
    assert TokenVerifier.mock("id", b"key").salt == TokenVerifier.mock("id", b"key").salt
    assert TokenVerifier.mock("id", b"key").salt != TokenVerifier.mock("other", b"key").salt


@given(st.binary(max_size=120))
def test_noise_proves_nothing(noise: bytes) -> None:
    ours = ScramServer(VERIFIER)
    with pytest.raises(AuthFailed):
        ours.final(noise)
    ours.first(b"n,,n=,r=abcdefghij")
    with pytest.raises(AuthFailed):
        ours.final(noise)


def test_the_final_message_must_be_of_this_exchange() -> None:
    theirs = client()
    first = theirs.get_client_first().encode()
    ours, other = ScramServer(VERIFIER), ScramServer(VERIFIER)
    theirs.set_server_first(ours.first(first).decode())
    other.first(first)
    with pytest.raises(AuthFailed, match="does not fit"):
        other.final(theirs.get_client_final().encode())


@pytest.mark.parametrize("text", ["", "md5abc", "SCRAM-SHA-256$x", "SCRAM-SHA-256$4096:c2FsdA==$YQ==:YQ=="])
def test_what_is_no_verifier_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        TokenVerifier.parse(text)


# --- at the target


def sasl(*mechanisms: str) -> codec.Authentication:
    return codec.Authentication(codec.AUTH_SASL, b"".join(codec.text(each.encode()) for each in mechanisms) + b"\0")


def login(password: str = "pencil", **more: object) -> TargetLogin:
    return TargetLogin("app", password, encrypted=bool(more.get("encrypted", False)), certificate=b"")


def test_scram_at_the_target() -> None:
    mechanism = scramp.ScramMechanism()
    server = mechanism.make_server(lambda user: mechanism.make_auth_info("pencil"))
    ours = login()
    initial = codec.SASLInitialResponse.parse(ours.answer(sasl("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"))[5:])
    assert initial.mechanism == b"SCRAM-SHA-256"
    assert initial.data is not None
    server.set_client_first(initial.data.decode())
    answer = ours.answer(codec.Authentication(codec.AUTH_SASL_CONTINUE, server.get_server_first().encode()))
    server.set_client_final(answer[5:].decode())
    assert not ours.done
    assert ours.answer(codec.Authentication(codec.AUTH_SASL_FINAL, server.get_server_final().encode())) == b""
    assert ours.answer(codec.Authentication(codec.AUTH_OK)) == b""
    assert ours.done


def test_a_target_that_does_not_prove_itself_is_not_believed() -> None:
    ours = login()
    ours.answer(sasl("SCRAM-SHA-256"))
    with pytest.raises(AuthFailed, match="not proved"):
        ours.answer(codec.Authentication(codec.AUTH_OK))


@pytest.mark.parametrize("iterations", [b"1000001", b"x", b"", b"999999999999"])
def test_a_target_cannot_keep_us_busy(iterations: bytes) -> None:
    ours = login()
    nonce = ours.answer(sasl("SCRAM-SHA-256")).partition(b"r=")[2]
    with pytest.raises(AuthFailed, match="iterations"):
        ours.answer(codec.Authentication(codec.AUTH_SASL_CONTINUE, b"r=" + nonce + b"x,s=c2FsdHNhbHRzYWx0,i=" + iterations))


def test_md5_at_the_target() -> None:
    inner = hashlib.md5(b"pencilapp").hexdigest().encode()
    expected = b"md5" + hashlib.md5(inner + b"salt").hexdigest().encode()
    assert login().answer(codec.Authentication(codec.AUTH_MD5, b"salt")) == codec.Password(expected).build()
    with pytest.raises(RemoteProtocolError):
        login().answer(codec.Authentication(codec.AUTH_MD5, b"salty"))


def test_a_password_in_clear_only_under_tls() -> None:
    asked = codec.Authentication(codec.AUTH_CLEARTEXT)
    assert login(encrypted=True).answer(asked) == codec.Password(b"pencil").build()
    with pytest.raises(AuthFailed, match="without TLS"):
        login().answer(asked)


@pytest.mark.parametrize("asked", [codec.Authentication(7), codec.Authentication(codec.AUTH_SASL_FINAL, b"v=x"), sasl("OAUTHBEARER")])
def test_other_kinds_of_login_fail(asked: codec.Authentication) -> None:
    with pytest.raises(AuthFailed):
        login(encrypted=True).answer(asked)


def test_nothing_is_answered_without_a_password_or_after_the_login() -> None:
    with pytest.raises(AuthFailed, match="has none"):
        login("").answer(codec.Authentication(codec.AUTH_CLEARTEXT))
    ours = login()
    ours.answer(codec.Authentication(codec.AUTH_OK))
    with pytest.raises(RemoteProtocolError, match="over"):
        ours.answer(sasl("SCRAM-SHA-256"))


@given(st.integers(0, 20), st.binary(max_size=60))
def test_noise_from_a_target_is_a_failure_of_the_login(code: int, noise: bytes) -> None:
    ours = login()
    try:
        ours.answer(sasl("SCRAM-SHA-256"))
        ours.answer(codec.Authentication(code, noise))
    except (AuthFailed, RemoteProtocolError):
        pass
    assert not ours.done


def bound(end_point: bytes, *mechanisms: str) -> scramp.ScramClient:
    return scramp.ScramClient(list(mechanisms), "*", TOKEN, channel_binding=("tls-server-end-point", end_point))


def test_a_client_binds_its_proof_to_the_channel() -> None:
    ours, theirs = ScramServer(VERIFIER, end_point=b"this channel"), bound(b"this channel", "SCRAM-SHA-256-PLUS")
    assert ours.mechanisms == ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256")
    theirs.set_server_first(ours.first(theirs.get_client_first().encode(), theirs.mechanism_name).decode())
    theirs.set_server_final(ours.final(theirs.get_client_final().encode()).decode())


def test_a_proof_for_another_channel_is_refused() -> None:
    ours, theirs = ScramServer(VERIFIER, end_point=b"this channel"), bound(b"that channel", "SCRAM-SHA-256-PLUS")
    theirs.set_server_first(ours.first(theirs.get_client_first().encode(), theirs.mechanism_name).decode())
    with pytest.raises(AuthFailed, match="does not fit"):
        ours.final(theirs.get_client_final().encode())


@pytest.mark.parametrize(
    ("first", "mechanism", "end_point"),
    [
        (b"y,,n=,r=abcdefghij", "SCRAM-SHA-256", b"c"),  # somebody took the offer out
        (b"n,,n=,r=abcdefghij", "SCRAM-SHA-256-PLUS", b"c"),
        (b"y,,n=,r=abcdefghij", "SCRAM-SHA-256-PLUS", b"c"),
        (b"p=tls-unique,,n=,r=abcdefghij", "SCRAM-SHA-256-PLUS", b"c"),
        (b"p=tls-server-end-point,,n=,r=abcdefghij", "SCRAM-SHA-256", b"c"),
        (b"p=tls-server-end-point,,n=,r=abcdefghij", "SCRAM-SHA-256-PLUS", b""),
        (b"n,,n=,r=abcdefghij", "SCRAM-SHA-1", b"c"),
    ],
)
def test_bindings_that_do_not_fit_are_refused(first: bytes, mechanism: str, end_point: bytes) -> None:
    with pytest.raises(AuthFailed):
        ScramServer(VERIFIER, end_point=end_point).first(first, mechanism)
