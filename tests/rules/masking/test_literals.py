"""Injected secrets are hidden with no rule, in every spelling that a server is likely to give them."""

from __future__ import annotations

import base64
import html
import json
import random
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.masking import Plan, compile_plan
from rules.masking.literals import Literals

SECRETS = st.one_of(
    st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=4, max_size=24).map(str.encode),
    st.sampled_from([b"s3cr3t/+key=?&", b'qu"ote\\slash', b"pass word\n2", "pässwörd".encode(), b"hunter2", b"\xff\xfe\xfd\xfc!"]),
).filter(lambda secret: len(secret.strip()) >= 4 and secret.strip() not in b"[redacted]")


def plan(*secrets: bytes) -> Plan:
    return compile_plan((), secrets=secrets)


def percent(secret: bytes, chance: random.Random, *, twice: bool = False) -> bytes:
    mark = "%25" if twice else "%"
    return "".join(
        chr(byte)
        if chr(byte).isalnum() and byte < 128 and chance.random() < 0.5
        else mark + (f"{byte:02x}" if chance.random() < 0.5 else f"{byte:02X}")
        for byte in secret
    ).encode()


@settings(max_examples=150, deadline=None)
@given(secret=SECRETS, before=st.binary(max_size=5), after=st.binary(max_size=5))
def test_base64_at_each_alignment(secret: bytes, before: bytes, after: bytes) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for encoded in (encode(before + secret + after), encode(before + secret + after).rstrip(b"=")):
            masked, counts = plan(secret).body("application/octet-stream", b"<" + encoded + b">")
            assert counts["credential"] >= 1
            left, hidden, right = masked[1:-1].partition(b"[redacted]")
            assert hidden
            # what is left holds no bit of the secret: not more characters than its neighbours fill by themselves
            assert len(left) <= len(before) * 8 // 6
            assert len(right.rstrip(b"=")) <= -(-len(after) * 8 // 6)


@settings(max_examples=150, deadline=None)
@given(secret=SECRETS, seed=st.integers(0, 2**32), around=st.sampled_from([b" ", b"=", b'"', b"x", b"/", b"%20"]))
def test_plain_hex_and_url_spellings(secret: bytes, seed: int, around: bytes) -> None:
    chance = random.Random(seed)
    spellings = [secret, secret.hex().encode(), secret.hex().upper().encode(), quote(secret, safe="").encode(), quote(secret).encode()]
    spellings += [quote_plus(secret).encode(), quote(secret, safe="").lower().encode() if secret.islower() else secret]
    spellings += [percent(secret, chance), percent(secret, chance, twice=True)]
    for spelling in spellings:
        masked = plan(secret).body("application/octet-stream", b"<" + around + spelling + around + b">").data
        if set(around).isdisjoint(secret):
            assert masked == b"<" + around + b"[redacted]" + around + b">", spelling
        assert b"[redacted]" in masked
        assert spelling not in masked


@settings(max_examples=150, deadline=None)
@given(secret=SECRETS, ascii_only=st.booleans())
def test_in_json_html_and_utf16(secret: bytes, ascii_only: bool) -> None:
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        return
    masks = plan(secret)
    document = json.dumps({"a": f"<{text}>", text: [text, 1]}, ensure_ascii=ascii_only)
    if text.strip() == text:
        assert json.loads(masks.body("application/json", document.encode()).data) == {"a": "<[redacted]>", "[redacted]": ["[redacted]", 1]}
        nested = json.dumps({"log": document}, ensure_ascii=ascii_only)
        assert text.strip() not in json.loads(json.loads(masks.body("application/json", nested.encode()).data)["log"])["a"]
    for spelling in (
        html.escape(text),
        text.encode("ascii", "xmlcharrefreplace").decode(),
        "".join(f"&#x{ord(c):X};" for c in text),
        "".join(f"\\x{b:02X}" for b in text.encode()),
    ):
        assert masks.body("text/html", f"<p>{spelling}</p>".encode()).data == b"<p>[redacted]</p>"
    for encoding in ("utf-16-le", "utf-16-be"):
        # not decodable as a whole: bytes of an image, say
        assert text.strip().encode(encoding) not in masks.body("image/x", b"\x89\x90\x91" + text.encode(encoding) + b"\xd8").data


@pytest.mark.parametrize(
    "spelling", [rb"s3cr3t\/+key", rb"s3cr3t\u002f+key", rb"s3cr3t\\\/+key", rb"s3cr3t%2f%2bkey", rb"s3cr3t%252F+key", rb"s3cr3t&#47;+key"]
)
@pytest.mark.parametrize("label", ["text/plain", "text/html", "application/x-www-form-urlencoded"])
def test_mixed_spellings(label: str, spelling: bytes) -> None:
    masked = plan(b"s3cr3t/+key").body(label, b"v=" + spelling).data
    assert masked in (b"v=[redacted]", b"v=%5Bredacted%5D")


def test_a_key_with_lines_is_found_with_other_line_ends() -> None:
    key = b"-----BEGIN X-----\nabcdefgh\nijklmnop\n-----END X-----\n"
    for spelling in (key, key.strip(), key.replace(b"\n", b"\r\n"), key.strip().replace(b"\n", b"\\n")):
        assert b"abcdefgh" not in plan(key).body("text/plain", b"k: " + spelling + b" .").data


def test_a_secret_of_digits_is_hidden_in_a_number() -> None:
    assert plan(b"90210777").body("application/json", b'{"a":90210777,"b":190210777.5}').data == b'{"a":"[redacted]","b":"1[redacted].5"}'


def test_too_short_secrets_are_not_looked_for() -> None:
    assert plan(b"abc", b"").empty
    assert not Literals((b"abc",))


def test_long_secrets_are_found_in_the_usual_spellings() -> None:
    secret = bytes(random.Random(1).choices(range(33, 127), k=2000))
    for spelling in (secret, base64.b64encode(b"u:" + secret), quote(secret, safe="").encode(), json.dumps(secret.decode()).encode()):
        assert secret[:16] not in plan(secret).body("text/plain", spelling).data
        assert b"[redacted]" in plan(secret).body("text/plain", spelling).data


def test_nothing_shows_a_secret() -> None:
    masks = plan(b"hunter2-secret")
    assert "hunter2" not in repr(masks) + repr(Literals((b"hunter2-secret",))) + str(masks)


def test_in_headers_and_urls() -> None:
    masks = plan(b"hunter2-secret")
    basic = base64.b64encode(b"bob:hunter2-secret")
    fields, counts = masks.headers(((b"X-Echo", b"Basic " + basic), (b"Location", b"/x?k=hunter2%2Dsecret&z=1")))
    assert fields == ((b"X-Echo", b"Basic " + basic[:5] + b"[redacted]"), (b"Location", b"/x?k=[redacted]&z=1"))
    assert counts == {"credential": 2}
    assert masks.url("/a/hunter2-secret/b?x=hunter2%252Dsecret#hunter2-secret")[0] == "/a/[redacted]/b?x=[redacted]#[redacted]"
