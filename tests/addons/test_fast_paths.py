"""What is done faster gives what mitmproxy's own code gives."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from mitmproxy import http, optmanager
from mitmproxy.net.http.http1 import read

from addons import fast_paths

NAMES = st.sampled_from([b"Host", b"host", b"HOST", b"Content-Length", b"x-\xff", b""])
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=6)), max_size=6)


def test_the_installed_mitmproxy_is_one_that_was_read() -> None:
    """When this fails, compare what is replaced with mitmproxy's new code, then add its digest."""
    assert fast_paths.source_digest() in fast_paths.KNOWN_SOURCES


@settings(max_examples=200, deadline=None)
@given(FIELDS, st.one_of(NAMES, st.sampled_from(["Host", "host", "x-\udcff", "missing"])))
def test_headers(fields: list[tuple[bytes, bytes]], name: bytes | str) -> None:
    headers = http.Headers(fields)
    assert fast_paths.get_all(headers, name) == headers.get_all(name)
    assert fast_paths.contains(headers, name) == (name in headers)
    assert fast_paths.get(headers, name, "none") == headers.get(name, "none")


def _line(line: bytes, parse: object) -> object:
    try:
        return parse(line)  # type: ignore[operator]
    except ValueError:
        return "refused"


@settings(max_examples=400, deadline=None)
@given(
    st.builds(
        lambda *parts: b"".join(parts),
        st.sampled_from([b"GET ", b"POST ", b"get ", b"CONNECT ", b"GET  ", b""]),
        st.sampled_from([b"http://", b"https://", b"HTTP://", b"ftp://", b"", b"//"]),
        st.one_of(
            st.sampled_from(
                [
                    b"a.test",
                    b"a.test:80",
                    b"a.test:0",
                    b"a.test:99999",
                    b"[::1]:80",
                    b"A.test",
                    b"u@a.test",
                    b"a..test",
                    b":80",
                    b"-",
                    b"a.test:",
                ]
            ),
            st.binary(max_size=6),
        ),
        st.one_of(
            st.sampled_from([b"", b"/", b"/x?y=/z#f", b"?x", b"/a b", b"/[", b"/\xff"]),
            st.binary(max_size=6).map(lambda found: b"/" + found),
        ),
        st.sampled_from([b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0", b" HTTP/1.1 ", b""]),
    )
)
@example(b"GET http://a.test/ HTTP/1.1")
def test_request_lines(line: bytes) -> None:
    assert _line(line, fast_paths.read_request_line) == _line(line, fast_paths._stock_request_line)


def test_options() -> None:
    for value in (None, True, 3, "x", ["a"]):
        option = optmanager._Option("x", object, value, "", None)  # type: ignore[arg-type]
        assert fast_paths.current(option) == option.current() == value
    option = optmanager._Option("x", object, ["a"], "", None)
    fast_paths.current(option).append("b")
    assert fast_paths.current(option) == ["a"]


def test_the_stock_request_line_is_mitmproxys() -> None:
    assert fast_paths._stock_request_line is read._read_request_line
