"""Whole bodies: what should be hidden never passes, whatever the label, the encoding, the escapes; what is not hidden keeps its bytes."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.masking import DETECTORS, Plan, Unmaskable, compile_plan
from rules.masking.json_text import without_escapes
from rules.masking.numbers import any_changes
from rules.model import Mask

SECRET = "AKIAIOSFODNN7EXAMPLE"
PASSWORD = Mask("password", jsonpath=("$..password",))
EVERYTHING = Mask("found", detect=DETECTORS)
JSON = "application/json"


def plan(*masks: Mask, secrets: tuple[bytes, ...] = ()) -> Plan:
    return compile_plan(masks, secrets=secrets)


def refused(masks: Plan, label: str, data: bytes) -> str:
    with pytest.raises(Unmaskable) as error:
        masks.body(label, data)
    return str(error.value)


LABELS = [
    *(
        "application/json",
        "text/plain",
        "",
        "application/octet-stream",
        "text/html; charset=utf-8",
        "application/vnd.api+json",
        "image/png",
        "garbage",
    ),
    *(
        "text/event-stream",
        "application/x-ndjson",
        "application/x-www-form-urlencoded",
        "multipart/mixed; boundary=x",
        "application/cbor",
        "text/javascript",
    ),
]


@pytest.mark.parametrize("label", LABELS)
def test_json_is_masked_as_json_whatever_its_label(label: str) -> None:
    assert plan(PASSWORD).body(label, b'{"password":"x","a":1}') == (b'{"password":"[redacted]","a":1}', {"password": 1})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rb'{"\u0070assword":"x"}', b'{"password":"[redacted]"}'),
        (rb'{"\u0070\u0061\u0073\u0073\u0077\u006F\u0072\u0064":"x"}', b'{"password":"[redacted]"}'),
        (b' \t\r\n{ "password" :\n "x" }', b' \t\r\n{ "password" :\n "[redacted]" }'),
        (b'{"password":"x","password":"y"}', b'{"password":"[redacted]","password":"[redacted]"}'),
        (b'{"a":{"password":"x"},"a":1}', b'{"a":{"password":"[redacted]"},"a":1}'),
        (b'{"a":{"password":"x"},"a\\u003a":1,"a":1}', b'{"a":1,"a:":1}'),
        (rb'{"\u0061":{"password":"x"},"a":1}', b'{"a":1}'),
        (rb'{"a":1,"b":"\\","a":{"x":"\/"},"a":{"password":1}}', b'{"a":{"password":"[redacted]"},"b":"\\\\"}'),
        (b'{"password":{"password":"x"}}', b'{"password":"[redacted]"}'),
        (b'{"password":["x",{"a":1}],"b":[{"password":null}]}', b'{"password":"[redacted]","b":[{"password":"[redacted]"}]}'),
        (b'[[[[{"password":"x"}]]]]', b'[[[[{"password":"[redacted]"}]]]]'),
        (b'{"password":"\\ud800","x":"\\udfff"}', b'{"password":"[redacted]","x":"\\udfff"}'),
        (b'{"password":NaN,"x":[NaN,-Infinity,1e999]}', b'{"password":"[redacted]","x":[NaN,-Infinity,1e999]}'),
        (b'{"a":1}{"password":2}\n[{"password":3}]', b'{"a":1}{"password":"[redacted]"}\n[{"password":"[redacted]"}]'),
        (b'{"a":1}\n\n{"password":2}\r\n', b'{"a":1}\n\n{"password":"[redacted]"}\r\n'),
        (b'\x1e{"a":1}\n\x1e{"password":2}\n', b'\x1e{"a":1}\n\x1e{"password":"[redacted]"}\n'),
        (b'{\n "a":1\n}\n{\n "password":2\n}', b'{\n "a":1\n}\n{\n "password":"[redacted]"\n}'),
        (b'1\n{"password":2}', b'1\n{"password":"[redacted]"}'),
        (b"\xef\xbb\xbf{\"password\":2}", b'\xef\xbb\xbf{"password":"[redacted]"}'),
        (b")]}',\n{\"password\":2}", b")]}',\n{\"password\":\"[redacted]\"}"),
        (b'for(;;);{"password":2}', b'for(;;);{"password":"[redacted]"}'),
        (b'/**/cb.x({"password":2});', b'/**/cb.x({"password":"[redacted]"});'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("label", [JSON, "text/plain"])
def test_no_spelling_of_json_hides_a_member(label: str, text: bytes, expected: bytes) -> None:
    assert plan(PASSWORD).body(label, text).data == expected


@pytest.mark.parametrize(
    ("label", "data"),
    [
        (JSON, b'{"password":"x"'),
        (JSON, b"{'password':'x'}"),
        (JSON, b'{"password":"x",}'),
        (JSON, b'{"password":"x"} trailing'),
        (JSON, b'// note\n{"password":"x"}'),
        (JSON, b'{"password":"\xff"}'),
        (JSON, b"<html>"),
        ("text/plain", b'{"password":"x"'),
        ("text/plain", b'{password: "x"}'),
        ("text/html", b'[{"password":"x"},'),
        ("", b'{"a":1}\n{"password":"x"'),
        ("application/javascript", b'cb({"password":"x",});'),
        ("application/json; charset=utf-16", b'{"password":"x"}x'),
        ("application/json; charset=nonsense", b'{"password":"x"}'),
        ("application/json; charset=unicode_escape", b'{"password":"x"}'),
        ("application/json; charset=base64", b"eyJwYXNzd29yZCI6MX0="),
        ("application/json; charset=rot13", b'{"cnffjbeq":1}'),
        ("application/cbor", b"\xa1hpassword\x01"),
        ("application/x-msgpack", b"\x81\xa8password\x01"),
        ("application/yaml", b"password: x"),
        ("application/vnd.kubernetes.protobuf", b"k8s\x00"),
        ("multipart/mixed; boundary=b", b'--b\r\n\r\n{"password":1}\r\n--b--'),
        (JSON, b"[" * 60_000 + b"]" * 60_000),
        (JSON, '{"password":1'.encode("utf-16")),
    ],
)
def test_what_cannot_be_masked_for_certain_is_refused(label: str, data: bytes) -> None:
    sentence = refused(plan(PASSWORD), label, data)
    assert "\n" not in sentence
    assert "x" + '"' not in sentence


@pytest.mark.parametrize(
    ("label", "data"),
    [
        ("text/plain", b"[2026-11-23] INFO started"),
        ("text/css", b"a{color:red}"),
        ("text/html", b"<p>hello</p>"),
        ("image/png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"),
        ("text/csv", b"1,2\n3,4\n"),
        ("", b""),
        (JSON, b"12"),
        (JSON, b'"x"'),
        (JSON, b"{ }"),
        (JSON, b'{"a" : 1.10, "b": 123456789012345678901234567890, "a:b": ":"}'),
        (JSON, b'{"a":"\\/\\u00e9\\n"}'),
        ("application/json; charset=latin-1", b'{"a":"x"}'),
        (JSON, b"[" * 900 + b"]" * 900),
    ],
)
def test_what_is_not_changed_comes_back_as_the_same_bytes(label: str, data: bytes) -> None:
    masks = plan(PASSWORD, EVERYTHING, Mask("n", jsonpath=("$..n", "$.x[*].y")), secrets=(b"hunter2-secret",))
    body = masks.body(label, data)
    assert body.data is data or body.data == data
    assert body.counts == {}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-8-sig"])
@pytest.mark.parametrize("label", [JSON, "text/plain"])
def test_every_unicode_encoding_is_found_out_and_kept(encoding: str, label: str) -> None:
    data = '{"password":"geheim","x":"é€"}'.encode(encoding)
    masked = plan(PASSWORD).body(label, data).data
    assert masked.decode(encoding) == '{"password":"[redacted]","x":"é€"}'
    assert masked[:2] == data[:2]


@pytest.mark.parametrize("charset", ["utf-16le", "utf-7", "cp037", "shift_jis", "iso2022_jp", "gb18030", "utf-32-be"])
def test_a_labelled_encoding_is_decoded(charset: str) -> None:
    data = f'{{"password":"x","y":"{SECRET}"}}'.encode(charset)
    masked = plan(PASSWORD, EVERYTHING).body(f'application/json; charset="{charset}"', data).data
    assert json.loads(masked.decode(charset)) == {"password": "[redacted]", "y": "[redacted]"}
    text = plan(EVERYTHING).body(f"text/plain; charset={charset}", f"key: {SECRET}.".encode(charset)).data
    assert text.decode(charset) == "key: [redacted]."


def test_detectors_see_through_escapes_in_strings_and_names() -> None:
    data = rb'{"a":"x\nAKIA\u0049OSFODNN7EXAMPLE","\u0062ob@example.com":1,"c":4111111111111111,"d":"\u0034111\/"}'
    masked = json.loads(plan(EVERYTHING).body(JSON, data).data)
    assert masked == {"a": "x\n[redacted]", "[redacted]": 1, "c": "[redacted]", "d": "4111/"}


def test_broken_json_with_a_secret_behind_escapes_is_refused() -> None:
    assert "escapes" in refused(plan(EVERYTHING), JSON, rb'{"a":"AKIA\u0049OSFODNN7EXAMPLE",}')
    assert plan(EVERYTHING).body(JSON, b'{"a":"AKIAIOSFODNN7EXAMPLE",}').data == b'{"a":"[redacted]",}'


def test_names_that_become_alike_stay_apart() -> None:
    data = b'{"a@b.com":1,"c@d.com":2,"[redacted]":3,"password":4}'
    masked = json.loads(plan(EVERYTHING, PASSWORD).body(JSON, data).data)
    assert sorted(map(str, masked.values())) == ["1", "2", "3", "[redacted]"]
    assert "@" not in str(masked)


def test_many_names_that_become_alike_take_linear_time() -> None:
    members = ",".join(f'"u{number}@example.com":{number}' for number in range(20_000))
    masked = json.loads(plan(EVERYTHING).body(JSON, ("{" + members + "}").encode()).data)
    assert sorted(masked.values()) == list(range(20_000))


@pytest.mark.parametrize(
    ("masks", "expected"),
    [
        ((Mask("p", jsonpath=("$.v",), strategy="partial"), Mask("r", detect=("email",))), "[redacted]"),
        ((Mask("r", detect=("email",), strategy="partial"), Mask("p", jsonpath=("$.v",), strategy="fixed", value="-")), "-"),
        ((Mask("a", jsonpath=("$.v",), strategy="partial"), Mask("b", jsonpath=("$..v",), strategy="null")), None),
        ((Mask("a", jsonpath=("$.*",), strategy="redact"), Mask("b", jsonpath=("$.v",), strategy="partial")), "[redacted]"),
        ((Mask("a", detect=("email",), strategy="null"),), None),
        ((Mask("a", detect=("email",), strategy="partial", keep=4),), "****.com"),
    ],
)
def test_the_strongest_strategy_wins_on_one_value(masks: tuple[Mask, ...], expected: Any) -> None:
    for order in (masks, masks[::-1]):
        assert json.loads(plan(*order).body(JSON, b'{"v":"bob@example.com"}').data) == {"v": expected}


def test_overlapping_finds_are_one() -> None:
    body = plan(Mask("a", detect=("bearer",), strategy="partial"), Mask("b", detect=("email",))).body(
        "text/plain", b"Bearer bob@example.com12 x"
    )
    assert body == (b"Bearer [redacted] x", {"b": 1}) or body.data == b"Bearer [redacted] x"


NUMBERS = [
    "0",
    "-0",
    "-0.0",
    "1.10",
    "1e5",
    "1E400",
    "1e-400",
    "5e-324",
    "0.1234567890123456789",
    "18446744073709551616",
    "9007199254740993",
    "2.5e-08",
    "-9223372036854775809",
    "123456789012345678901234567890.000000001",
    "1.7976931348623157e308",
    "0.30000000000000004",
    "1280657624671908031.6897",
    "12345678901234567890e-3",
    "1" * 4500,
]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    "form", ['{"password":"x","n":%s}', '{"password":"x","n":[ %s,%s]}', '[%s,{"password":1}]', '{"password":"\\ud800","n":%s}']
)
def test_no_number_changes_its_value(number: str, form: str) -> None:
    text = form.replace("%s", number)
    masked = plan(PASSWORD).body(JSON, text.encode()).data

    def values(source: str | bytes) -> list[Decimal]:
        found: list[Decimal] = []
        json.loads(source, parse_int=lambda n: found.append(Decimal(n)), parse_float=lambda n: found.append(Decimal(n)))
        return found

    assert b"[redacted]" in masked
    assert values(masked) == [value for value in values(text) if value != 1 or number == "1"]


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.decimals(allow_nan=False, allow_infinity=False), st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_any_number_keeps_its_value(number: Any) -> None:
    text = str(number).replace("E+", "e+")
    masked = plan(PASSWORD).body(JSON, f'{{"password":"x","n":{text}}}'.encode()).data
    assert Decimal(json.loads(masked, parse_float=str, parse_int=str)["n"]) == Decimal(text)


def test_numbers_that_fit_take_the_fast_way() -> None:
    assert not any_changes(b'{"a":12,"b":-1.5,"c":0.30000000000000004,"d":1e5,"e":"12345678901234567890123","f":18446744073709551615}')


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet='ab\\n"\n\u0001é/', max_size=12))
def test_blanks_stand_for_escapes(text: str) -> None:
    plain = without_escapes(json.dumps(text, ensure_ascii=False).encode())
    assert b"\\" not in plain
    assert [part for part in plain.decode()[1:-1].split() if part] == [
        part for part in "".join(c if c in "abné/" else " " for c in text).split() if part
    ]


def spelled(text: str, chance: random.Random) -> str:
    """A JSON string with some of its characters as escapes."""
    pieces = []
    for character in text:
        code = ord(character)
        if code > 0xFFFF or (chance.random() < 0.7 and character not in '"\\' and code >= 0x20):
            pieces.append(character)
        else:
            pieces.append(f"\\u{code:04x}" if chance.random() < 0.5 else f"\\u{code:04X}")
    return '"' + "".join(pieces) + '"'


def written(document: Any, chance: random.Random) -> str:
    """JSON text with blanks, escapes and shadowed duplicates anywhere."""
    blank = chance.choice(["", " ", "\n", "\t "])
    if isinstance(document, dict):
        members = [f"{spelled(name, chance)}{blank}:{blank}{written(value, chance)}" for name, value in document.items()]
        if members and chance.random() < 0.2:
            shadowed = written({"password": SECRET, "x": [SECRET]}, chance)
            members.insert(0, f"{spelled(chance.choice(list(document)), chance)}:{shadowed}")
        return "{" + ("," + blank).join(members) + blank + "}"
    if isinstance(document, list):
        return "[" + ("," + blank).join(written(value, chance) for value in document) + blank + "]"
    return spelled(document, chance) if isinstance(document, str) else json.dumps(document)


NAMES = st.sampled_from(["a", "b:", 'q"', "é", "password", "x\\", SECRET])
VALUES = st.one_of(
    st.sampled_from(
        [
            None,
            True,
            1,
            1.5,
            2**70,
            SECRET,
            f"id={SECRET};",
            f"\n{SECRET}\t",
            f"\\{SECRET}",
            f"é{SECRET}",
            "x",
            "a:b",
            "\u2028",
            "\U0001f600",
            "",
        ]
    ),
    st.text(max_size=6),
)
DOCUMENTS = st.recursive(
    VALUES, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4)), max_leaves=12
)
HIDING = [
    plan(Mask("a", detect=("aws_access_key",)), PASSWORD),
    plan(EVERYTHING, Mask("b", jsonpath=("$..password", "$.a[*].x", "$..[?@.x].a"), strategy="null")),
    plan(PASSWORD, secrets=(SECRET.encode(),)),
]


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(text for member in value.values() for text in strings(member))]
    if isinstance(value, list):
        return [text for member in value for text in strings(member)]
    return [value] if isinstance(value, str) else []


@settings(max_examples=500, deadline=None)
@given(
    document=DOCUMENTS,
    seed=st.integers(0, 2**32),
    label=st.sampled_from(LABELS),
    encoding=st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32-be"]),
    masks=st.sampled_from(HIDING),
    sequence=st.booleans(),
)
def test_a_secret_never_passes(document: Any, seed: int, label: str, encoding: str, masks: Plan, sequence: bool) -> None:
    """In any document, under any name, in any spelling, below any label: it is hidden or the body is refused."""
    text = written(document, random.Random(seed))
    if sequence:
        text = written({"a": 1}, random.Random(seed)) + "\n" + text + "\n"
    try:
        data = text.encode(encoding)
    except UnicodeEncodeError:
        return
    try:
        body = masks.body(label, data)
    except Unmaskable:
        pytest.fail("this is all well-formed")
    out = body.data.decode(encoding)
    decoder = json.JSONDecoder()
    position = 0
    shadowed: list[str] = []
    decoder = json.JSONDecoder(
        object_pairs_hook=lambda pairs: (shadowed.extend(s for pair in pairs for s in strings(list(pair))), dict(pairs))[1]
    )
    parsed = []
    while position < len(out):
        if out[position] in " \r\n\t":
            position += 1
            continue
        value, position = decoder.raw_decode(out, position)
        parsed.append(value)
    for found in strings(parsed) + shadowed:
        assert SECRET not in found
    if body.counts == {} and "\\u" not in text:
        assert SECRET not in text
    passwords = [found for value in parsed for found in under_password(value)]
    assert all(found in (None, "[redacted]") for found in passwords)


def under_password(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [member for name, member in value.items() if name == "password"] + [
            found for member in value.values() for found in under_password(member)
        ]
    return [found for member in value for found in under_password(member)] if isinstance(value, list) else []


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=60),
    st.sampled_from([*LABELS, "text/event-stream", "application/x-ndjson", "application/x-www-form-urlencoded", "text/x; charset=utf-16"]),
)
def test_any_bytes_are_masked_or_refused(data: bytes, label: str) -> None:
    for masks in HIDING:
        try:
            body = masks.body(label, data)
        except Unmaskable:
            continue
        assert SECRET.encode() not in body.data


def test_a_body_over_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rules.masking.bodies.LARGEST", 10)
    assert "larger" in refused(plan(PASSWORD), JSON, b'{"a":123456}')


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"user=bob&password=x%20y&z=1", b"user=bob&password=[redacted]&z=1"),
        (b"pass%77ord=x&password=y;password=z", b"pass%77ord=[redacted]&password=[redacted];password=[redacted]"),
        (b"mail=alice%40example.com+now&z=%7e", b"mail=[redacted]+now&z=%7e"),
        (b"a=AKIA%49OSFODNN7EXAMPLE", b"a=[redacted]"),
        (b"a&b=&=c", b"a&b=&=c"),
    ],
)
def test_forms(data: bytes, expected: bytes) -> None:
    assert plan(PASSWORD, EVERYTHING).body("application/x-www-form-urlencoded; charset=UTF-8", data).data == expected


def test_an_empty_plan_passes_everything() -> None:
    masks = compile_plan((Mask("sql", columns=("*.ssn",)),))
    assert masks.empty
    data = b'{"password":'
    assert masks.body(JSON, data).data is data


@pytest.mark.parametrize(
    "piece",
    [
        b"\n",
        b" ",
        b"\\",
        b"{",
        b"[",
        b'"',
        b"(",
        b")",
        b") ",
        b";",
        b"cb(",
        b'{"a":',
        b"[[",
        b"&",
        b"%",
        b"\x1e",
        b"\r",
        b"*/",
        b'"a" ',
        b"\\u00",
    ],
)
@pytest.mark.parametrize("start", [b"", b'{"a":"', b"cb({", b"["])
def test_a_hostile_body_is_masked_or_refused_in_linear_time(piece: bytes, start: bytes) -> None:
    """200 kB of anything; what goes back and forth over it would not end within the limit of a test."""
    for label in (JSON, "text/plain", "text/event-stream", "application/x-ndjson", "text/javascript", "application/x-www-form-urlencoded"):
        for masks in HIDING:
            try:
                masks.body(label, start + piece * (200_000 // len(piece)) + b"x")
            except Unmaskable:
                continue
