"""HTTP requests as facts and operations: what is complete, what is exact, what an approval covers."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.http import HttpFacts, exact_request, request_operation, response_operation
from rules.model import UNKNOWN
from tests.rules.given import JSON, judged, request, rules_of


def facts(
    method: str = "POST",
    target: str = "/v1/x?a=1",
    *headers: tuple[str, str],
    body: bytes | None = b"",
    host: str = "API.internal.",
    **more: Any,
) -> HttpFacts:
    return HttpFacts(method, "http", host, 8080, target, headers, body, **more)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "POST"),
        ("scheme", "http"),
        ("host", "api.internal"),
        ("port", 8080),
        ("path", "/v1/x"),
        ("query", {"a": ("1",)}),
        ("headers", {"content-type": ("application/json; charset=utf-8",), "x-a": ("1", "2")}),
        ("content_type", "application/json"),
        ("body", {"b": 1}),
        ("body_bytes", 8),
        ("websocket", False),
        ("complete", True),
        ("reason", ""),
        ("status", None),
        ("no_such_fact", None),
    ],
)
def test_facts(name: str, value: Any) -> None:
    headers = (("Content-Type", "application/json; charset=utf-8"), ("X-A", "1"), ("x-a", "2"), ("Proxy-Authorization", "Bearer secret"))
    assert facts("POST", "/v1/x?a=1", *headers, body=b'{"b": 1}').get(name) == value


@pytest.mark.parametrize(
    ("given_facts", "reason"),
    [
        (facts("get"), "not in upper case"),
        (facts("GE T"), "not an RFC 9110 token"),
        (facts("GET", "/a/../b"), "dot segment"),
        (facts("GET", "/", ("Host", "a"), ("Host", "b")), "more than one host"),
        (facts("POST", "/", JSON, ("content-type", "text/plain")), "more than one content-type"),
        (facts("POST", "/", ("Content-Length", "1"), ("Content-Length", "1")), "more than one content-length"),
        (facts("POST", "/", ("X-HTTP-Method-Override", "DELETE")), "overrides the method"),
        (facts("POST", "/", ("x-method-override", "DELETE")), "overrides the method"),
        (facts("GET", "/", ("X-Original-URL", "/admin")), "overrides the method or the path"),
        (facts("GET", "/a?x HTTP/1.1"), "the query has a character"),
        (facts("GET", "/a?x\tHTTP/1.1"), "the query has a character"),
        (facts("GET", "/a?x#y"), "the query has a character"),
        (facts("POST", "/", ("X.HTTP.Method.Override", "DELETE")), "with hyphens"),
        (facts("POST", "/?_METHOD=DELETE"), "_method"),
        (facts("POST", "/?_HttpMethod=PATCH"), "_method"),
        (facts("POST", "/?X-HTTP-Method-Override=PATCH"), "_method"),
        (facts("POST", "/", ("Content-Type", "application/x-www-form-urlencoded, application/json"), body=b"{}"), "more than one media"),
        (facts("POST", "/", ("Content-Type", "application/x-www-form-urlencoded x; a=b"), body=b"{}"), "more than one media"),
        (facts("GET", "*"), "only OPTIONS"),
        (facts("POST", "/", ("X_HTTP_Method_Override", "DELETE")), "with hyphens"),
        (facts("POST", "/", ("Content_Type", "application/json")), "with hyphens"),
        (facts("POST", "/?_method=DELETE"), "_method"),
        (facts("POST", "/", ("Content-Type", "application/x-www-form-urlencoded"), body=b"a=1&_method=DELETE"), "_method"),
        (facts("POST", "/", ("Content-Type", "application/x-www-form-urlencoded"), body=b"%5fmethod=DELETE"), "_method"),
        (facts("POST", "/?%5Fmethod=DELETE"), "_method"),
        (facts("POST", "/", ("Content-Type", "application/grpc+proto")), "gRPC"),
        (facts("POST", "/", ("Content-Encoding", "br"), body=b"x"), "does not read"),
        (facts("POST", "/", ("Content-Encoding", "gzip"), body=b"plain text"), "does not decode"),
        (facts("POST", "/", ("Content-Type", "multipart/form-data; boundary=x"), body=b'--x\r\nname="_method"'), "_method"),
        (facts("POST", "/", ("Content-Encoding", "gzip"), body=gzip.compress(bytes(2 << 20))), "more than"),
        (facts("POST", "/", ("Content-Encoding", "gzip"), body=None), "does not have the body"),
    ],
)
def test_what_is_incomplete(given_facts: HttpFacts, reason: str) -> None:
    operation = request_operation(given_facts)
    assert not operation.complete
    assert reason in operation.reason
    allow = rules_of("{on: http, effect: allow}")
    assert judged(operation, allow).effect == "deny"
    assert judged(operation, rules_of("{on: http, match: {complete: false}, effect: allow}")).effect == "allow"


def test_other_fields_may_have_underscores() -> None:
    assert request("GET", "/", ("x_custom", "1")).complete


def test_parameters_that_only_look_like_an_override() -> None:
    form = ("Content-Type", "application/x-www-form-urlencoded")
    assert request("POST", "/?payment_method=card&x=%20").complete
    assert request("POST", "/", form, body=b"payment_method=card").complete


def test_an_ambiguous_path_is_unknown_to_rules() -> None:
    operation = request("GET", "/public/../admin")
    says = "{id: a, on: http, match: {complete: false}, effect: allow}"
    assert judged(operation, rules_of(says)).effect == "allow"
    assert judged(operation, rules_of(says, '{id: d, on: http, match: {path: "/admin/**"}, effect: deny}')).effect == "deny"
    assert judged(operation, rules_of('{on: http, match: {complete: false, path: "/public/**"}, effect: allow}')).effect == "deny"


@pytest.mark.parametrize("body", [b"opaque", b'{"a": 1, "a": 2}', b'{"a": 4, "x": "' + b"x" * (1 << 20) + b'"}', None])
def test_a_body_that_is_not_read_is_unknown_and_the_request_complete(body: bytes | None) -> None:
    operation = request_operation(facts("POST", "/", body=body))
    assert operation.complete
    assert operation.facts.get("body") is UNKNOWN
    hold = rules_of('{id: h, on: http, match: {body: {"$.a": 5}}, effect: hold}', "{on: http, effect: allow}")
    assert judged(operation, hold).effect == "deny"
    assert judged(operation, rules_of("{on: http, effect: allow}")).effect == "allow"


@pytest.mark.parametrize(
    ("body", "condition", "expected"),
    [
        # whether a deny applies: true and unknown deny, false does not
        (b'{"amount": 500}', '"$.amount": {gt: 100}', "deny"),
        (b'{"amount": 50}', '"$.amount": {gt: 100}', "allow"),
        (b"{}", '"$.amount": {gt: 100}', "allow"),
        (b"", '"$.amount": {gt: 100}', "allow"),
        (b'[{"amount": 500}]', '"$.amount": {gt: 100}', "allow"),
        (b'{"amount": "500"}', '"$.amount": {gt: 100}', "deny"),
        (b'{"amount": null}', '"$.amount": {gt: 100}', "deny"),
        (b'{"amount": [500]}', '"$.amount": {gt: 100}', "deny"),
        (b'{"amount": true}', '"$.amount": {gt: 100}', "deny"),
        (b'{"items": [{"amount": 1}, {"amount": 500}]}', '"$.items[*].amount": {gt: 100}', "deny"),
        (b'{"items": [{"amount": 1}]}', '"$.items[*].amount": {gt: 100}', "allow"),
        (b'{"x": {"y": [{"amount": 500}]}}', '"$..amount": {gt: 100}', "deny"),
        (b'{"role": "admin"}', '"$.role": [admin, root]', "deny"),
        (b'{"role": "user"}', '"$.role": [admin, root]', "allow"),
        (b'{"role": ["admin"]}', '"$.role": admin', "deny"),
        (b'{"r\\u006fle": "\\u0061dmin"}', '"$.role": admin', "deny"),
        (b'{"force": true}', '"$.force": true', "deny"),
        (b'{"force": false}', '"$.force": true', "allow"),
        (b'{"force": 1}', '"$.force": true', "deny"),
        (b'{"x": null}', '"$.x": null', "deny"),
        (b'{"x": 1}', '"$.x": null', "allow"),
        (b'{"n": 5.0}', '"$.n": 5', "deny"),
        (b'{"n": 0.1}', '"$.n": 0.1', "deny"),
        (b'{"n": 6}', '"$.n": [5, {gte: 7}]', "allow"),
        (b'{"items": [{"k": "a", "v": 1}]}', "\"$.items[?(@.k=='a')].v\": 1", "deny"),
        # what Go and ASP.NET take for the same member
        (b'{"Amount": 500}', '"$.amount": {gt: 100}', "deny"),
        (b'{"amount": 1, "AMOUNT": 500}', '"$.amount": {gt: 100}', "deny"),
        (b'{"o": {"amount": 1, "AMOUNT": 500}}', '"$.o.amount": {gt: 100}', "deny"),
        (b'{"o": [{"Amount": 500}]}', '"$.o[*].amount": {gt: 100}', "deny"),
        (b'{"o": [{"Amount": 500}]}', '"$..amount": {gt: 100}', "deny"),
        ('{"to\u212aen": 500}'.encode(), '"$.token": {gt: 100}', "deny"),
        (b'{"Other": 500, "amount": 1}', '"$.amount": {gt: 100}', "allow"),
    ],
)
def test_body_conditions(body: bytes, condition: str, expected: str) -> None:
    rules = rules_of(f"{{id: d, on: http, match: {{body: {{{condition}}}}}, effect: deny}}", "{id: a, on: http, effect: allow}")
    assert judged(request("POST", "/", JSON, body=body), rules).effect == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"amount=500", "deny"),
        (b"amount=50", "allow"),
        (b"amount=50&amount=500", "deny"),
        (b"amount=x", "deny"),
        (b"amount=1e3", "deny"),
        (b"b=1", "allow"),
        (b"amount[]=500", "deny"),
        (b"+amount=500", "deny"),
        (b"b=1&Amount=500", "deny"),
        (b"b=1;amount=500", "deny"),  # `;` separates for some servers
        (b"b=1%3Bamount=500", "allow"),
    ],
)
def test_form_numbers_are_compared(body: bytes, expected: str) -> None:
    rules = rules_of('{id: d, on: http, match: {body: {"$.amount": {gt: 100}}}, effect: deny}', "{id: a, on: http, effect: allow}")
    assert judged(request("POST", "/", ("Content-Type", "application/x-www-form-urlencoded"), body=body), rules).effect == expected


@pytest.mark.parametrize(
    ("target", "headers", "expected"),
    [
        ("/?dry_run=1", (), "allow"),
        ("/?dry_run=0", (), "deny"),
        ("/?b=1", (), "allow"),
        ("/?dry.run=0", (), "deny"),
        ("/?DRY_RUN=0&dry_run=1", (), "deny"),
        ("/?dry_run[]=0", (), "deny"),
        ("/?dry_run%00x=0", (), "deny"),
        ("/?b=1", (("X-Env", "test"),), "allow"),
        ("/?b=1", (("X-Env", "prod"),), "deny"),
        ("/?b=1", (("X_Env", "prod"),), "deny"),
        ("/?b=1", (("X_Other", "prod"),), "allow"),
    ],
)
def test_names_in_a_spelling_that_some_servers_take_for_the_same(target: str, headers: tuple[tuple[str, str], ...], expected: str) -> None:
    rules = rules_of(
        '{id: d, on: http, match: {query: {dry_run: "0"}}, effect: deny}',
        "{id: e, on: http, match: {headers: {X-Env: prod}}, effect: deny}",
        "{id: a, on: http, effect: allow}",
    )
    assert judged(request("GET", target, *headers), rules).effect == expected


def test_the_approval_of_a_quoted_preference_is_of_all_of_it() -> None:
    one, two = (payload("POST", "/v1/x", ("Prefer", f'x="a, wait={word}"')) for word in ("1", "2"))
    assert one != two


def test_a_body_with_two_charsets_is_unknown() -> None:
    label = ("Content-Type", "application/json; charset=utf-8; charset=utf-7")
    assert facts("POST", "/", label, body=b'{"a": 1}').get("body") is UNKNOWN


def test_a_compressed_body_is_read() -> None:
    rules = rules_of('{id: d, on: http, match: {body: {"$.amount": {gt: 100}}}, effect: deny}', "{id: a, on: http, effect: allow}")
    for amount, expected in ((500, "deny"), (50, "allow")):
        body = gzip.compress(b'{"amount": %d}' % amount)
        assert judged(request("POST", "/", JSON, ("Content-Encoding", "gzip"), body=body), rules).effect == expected


def test_blanks_around_a_header_value_are_no_part_of_it() -> None:
    rules = rules_of("{id: d, on: http, match: {headers: {X-Env: prod}}, effect: deny}", "{id: a, on: http, effect: allow}")
    assert judged(request("GET", "/", ("X-Env", " prod\t")), rules).effect == "deny"


@pytest.mark.parametrize("host", ["fd00:ec2::254", "[FD00:EC2::254]"])
def test_hosts_are_compared_without_case_and_brackets(host: str) -> None:
    rules = rules_of('{id: d, on: http, match: {host: "fd00:ec2::*"}, effect: deny}', "{id: a, on: http, effect: allow}")
    assert judged(request(host=host), rules).effect == "deny"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "PROPPATCH", "get"])
def test_writes(method: str) -> None:
    assert request_operation(facts(method)).writes is (method not in ("GET", "HEAD", "OPTIONS"))


def test_titles_hold_no_query_and_no_control_characters() -> None:
    assert request_operation(facts("GET", "/v1/x?token=secret")).title == "GET /v1/x"
    assert request_operation(facts("GET", "/a\r\nb\u202e//c?token=secret")).title == "GET /a\\x0d\\x0ab\\u202e//c"
    assert len(request_operation(facts("GET", "/" + "a" * 8000)).title) == 512


# --- exact


def payload(
    method: str = "POST",
    target: str = "/v1/x",
    *headers: tuple[str, str],
    body: bytes = b"b",
    host: str = "api",
    port: int = 80,
    scheme: str = "http",
    websocket: bool = False,
) -> bytes:
    return exact_request(HttpFacts(method, scheme, host, port, target, headers, body, websocket)).payload


@pytest.mark.parametrize(
    "other",
    [
        payload("PUT"),
        payload("POST", "/v1/y"),
        payload("POST", "/v1/x?"),
        payload("POST", "/v1/x?a=1"),
        payload("POST", "/v1/%78"),
        payload("POST", "/v1/x", ("X-A", "1")),
        payload("POST", "/v1/x", ("Authorization", "Basic a")),
        payload("POST", "/v1/x", ("Cookie", "a")),
        payload("POST", "/v1/x", ("Content-Type", "text/plain")),
        payload("POST", "/v1/x", ("Prefer", "return=minimal")),
        payload(body=b""),
        payload(body=b"b "),
        payload(host="api2"),
        payload(port=81),
        payload(scheme="https"),
        payload(websocket=True),
    ],
)
def test_an_approval_covers_everything_that_matters(other: bytes) -> None:
    assert other != payload()


@pytest.mark.parametrize(
    "header",
    [
        ("Proxy-Authorization", "Bearer x"),
        ("User-Agent", "x"),
        ("Date", "now"),
        ("traceparent", "00-x"),
        ("X-Request-ID", "7"),
        ("Connection", "close"),
        ("TE", "trailers"),
        ("Prefer", "wait=50"),
        ("Prefer", "respond-async, wait=10"),
    ],
)
def test_an_approval_does_not_cover_what_changes_by_itself(header: tuple[str, str]) -> None:
    assert payload("POST", "/v1/x", header) == payload()


def test_the_order_of_headers_counts_only_within_one_name() -> None:
    assert payload("POST", "/", ("A", "1"), ("B", "2")) == payload("POST", "/", ("b", "2"), ("a", "1"))
    assert payload("POST", "/", ("A", "1"), ("A", "2")) != payload("POST", "/", ("A", "2"), ("A", "1"))
    assert payload("POST", "/", ("Prefer", "wait=5, return=minimal")) == payload("POST", "/", ("Prefer", "return=minimal"))


_FIELD = st.tuples(st.text("abX", min_size=1, max_size=2), st.text("01: \n", max_size=3))


@settings(max_examples=150, deadline=None)
@given(
    *(
        st.tuples(st.sampled_from(["A", "AB"]), st.text("/ab", max_size=3), st.lists(_FIELD, max_size=3), st.binary(max_size=3))
        for _ in "xy"
    )
)
def test_no_two_requests_share_a_payload(one: tuple[Any, ...], two: tuple[Any, ...]) -> None:
    def shape(request_parts: tuple[Any, ...]) -> object:
        method, target, headers, body = request_parts
        return method, target, sorted(((name.lower(), value) for name, value in headers), key=lambda field: field[0]), body

    first, second = (payload(method, target, *headers, body=body) for method, target, headers, body in (one, two))
    assert (first == second) is (shape(one) == shape(two))


def test_the_card_shows_the_exact_text_without_credentials() -> None:
    exact = exact_request(
        facts(
            "POST",
            "/v1/x?a=1",
            JSON,
            ("Authorization", "Bearer s3cret"),
            ("Cookie", "s3cret"),
            ("Proxy-Authorization", "s3cret"),
            body=b'{"a": 1}',
        )
    )
    assert exact.title == "POST /v1/x"
    assert exact.text.splitlines() == [
        "POST http://API.internal.:8080/v1/x?a=1",
        "authorization: [redacted]",
        "content-type: application/json",
        "cookie: [redacted]",
        "",
        '{"a": 1}',
    ]
    assert "s3cret" not in exact.text + str(exact.headers)


def test_the_card_shows_compressed_and_binary_bodies_readably() -> None:
    assert exact_request(facts("POST", "/", ("Content-Encoding", "gzip"), body=gzip.compress(b"hello"))).text.endswith("\n\nhello")
    assert exact_request(facts("POST", "/", body=b"\xff\x00a")).text.endswith("\n\n\\xff\x00a")


def test_nobody_approves_a_body_that_is_not_known() -> None:
    operation = request_operation(facts("POST", "/", body=None))
    assert operation.exact is not None
    with pytest.raises(ValueError, match="body is not known"):
        operation.exact()


def test_response_operations() -> None:
    operation = response_operation(facts("GET", "/a"), 200, [("Content-Type", "text/html"), ("Set-Cookie", "a"), ("set-cookie", "b")], 7)
    assert (operation.phase, operation.title, operation.exact) == ("response", "GET /a", None)
    assert [operation.facts.get(name) for name in ("status", "response_bytes", "path", "no_such_fact")] == [200, 7, "/a", None]
    assert operation.facts.get("response_headers") == {"content-type": ("text/html",), "set-cookie": ("a", "b")}
    assert response_operation(facts("GET", "/a"), 200, [], None).facts.get("response_bytes") is UNKNOWN


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=8),
    st.text(max_size=20),
    st.lists(
        st.tuples(
            st.sampled_from(["Content-Type", "Content-Encoding", "Host", "x"]),
            st.sampled_from(["application/json", "gzip", "é", "\udcff", ""]),
        ),
        max_size=4,
    ),
    st.binary(max_size=20) | st.none(),
)
def test_any_request_becomes_an_operation(method: str, target: str, headers: list[tuple[str, str]], body: bytes | None) -> None:
    operation = request_operation(HttpFacts(method, "http", "h", 80, target, headers, body))
    for name in ("method", "path", "query", "headers", "content_type", "body", "body_bytes"):
        operation.facts.get(name)
    assert operation.title.isprintable()
    assert operation.complete is (operation.reason == "")


def test_many_fields_of_one_name_are_read_once() -> None:
    """Neither side of the gateway may make it copy all earlier values for each one: that would take minutes here."""
    many = [("X-A", str(number)) for number in range(200_000)]
    assert facts("GET", "/", *many, body=b"").get("headers")["x-a"][-2:] == ("199998", "199999")
