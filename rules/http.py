"""HTTP requests and responses -> facts and operations. Facts are worked out when a rule first asks for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from rules.bodies import FORM, MAX_BODY, Undecodable, decode_content, parse_body
from rules.members import HeaderFields
from rules.model import UNKNOWN, Exact, Operation
from rules.printable import visible
from rules.request_target import AmbiguousPath, AmbiguousRequest, canonical_method, canonical_path, query_parameters

__all__ = [
    "AmbiguousPath",
    "AmbiguousRequest",
    "HttpFacts",
    "canonical_method",
    "canonical_path",
    "request_operation",
    "response_operation",
]

type Headers = Sequence[tuple[str, str]]

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# what an approval does not cover: hop-by-hop fields (RFC 9110 section 7.6.1), the token, and what changes by itself
UNCOVERED_HEADERS: Final = frozenset(
    {
        "connection",
        "proxy-connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "proxy-authenticate",
        "proxy-authorization",
        "user-agent",
        "date",
        "traceparent",
        "tracestate",
        "b3",
        "x-b3-traceid",
        "x-b3-spanid",
        "x-b3-parentspanid",
        "x-b3-sampled",
        "x-b3-flags",
        "x-request-id",
        "x-correlation-id",
        "x-cloud-trace-context",
        "x-amzn-trace-id",
        "uber-trace-id",
    }
)
_CREDENTIALS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-auth-token", "x-amz-security-token"}
)
_OVERRIDES: Final = frozenset(
    {
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "x-original-url",
        "x-original-uri",
        "x-override-url",
        "x-rewrite-url",
    }
)
# in the query or a form: Rails, Laravel, Symfony (Slim in capitals), Salesforce, and who takes the headers from there as well
_OVERRIDING_PARAMETERS: Final = frozenset({"_method", "_httpmethod", "x-http-method-override", "x-http-method", "x-method-override"})
_SINGLE: Final = ("host", "content-type", "content-encoding", "content-length", "transfer-encoding")
_MEDIA_TYPE: Final = re.compile(r"[^\s,;]*")  # one, or a word that is none; PHP reads `FORM, application/json` as a form
_BREAKS_THE_LINE: Final = re.compile(r"[\x00-\x20\x7f#]")  # ends a request target to some servers: HTTP/2 clients can send it
_ODD_NAME: Final = re.compile(r"[^0-9a-z-]")
_ABSENT: Final = object()


class HttpFacts:
    """The facts of one request. `get` never raises; what cannot be worked out, or has two readings, is UNKNOWN.

    `raw_path` is the request target as received (path and query); `headers` are all fields as received; `body` is the raw
    content, still encoded, b"" where there is none, and None where the gateway does not have it.
    """

    __slots__ = ("_values", "body", "fields", "host", "max_body", "method", "port", "raw_path", "scheme", "websocket")

    def __init__(
        self,
        method: str,
        scheme: str,
        host: str,
        port: int,
        raw_path: str,
        headers: Headers,
        body: bytes | None = b"",
        websocket: bool = False,
        max_body: int = MAX_BODY,
    ) -> None:
        self.method = method
        self.scheme = scheme
        self.host = host
        self.port = port
        self.raw_path = raw_path
        self.fields = headers
        self.body = body
        self.websocket = websocket
        self.max_body = max_body
        self._values: dict[str, Any] = {"port": port, "websocket": websocket, "scheme": scheme.lower()}

    def get(self, name: str) -> Any:
        value = self._values.get(name, _ABSENT)
        if value is not _ABSENT:
            return value
        work = _WORK.get(name)
        try:
            value = None if work is None else work(self)
        except Exception:
            value = UNKNOWN
        self._values[name] = value
        return value

    def values(self, name: str) -> tuple[str, ...]:
        """The values of every field of that lower-case name, in order."""
        headers = self.get("headers")
        return headers.get(name, ()) if isinstance(headers, dict) else ()

    def content(self) -> bytes:
        """The body without its content coding. Raises Undecodable."""
        if self.body is None:
            raise Undecodable("the gateway does not have the body")
        if len(self.body) > self.max_body:
            raise Undecodable(f"the body is longer than {self.max_body} bytes")
        return decode_content(self.body, self.values("content-encoding"), self.max_body)


def _method(facts: HttpFacts) -> Any:
    return canonical_method(facts.method)


def _path(facts: HttpFacts) -> Any:
    return canonical_path(facts.raw_path)


def _query(facts: HttpFacts) -> Any:
    parameters = query_parameters(facts.raw_path.partition("?")[2])
    return UNKNOWN if parameters is None else parameters


def field_values(headers: Headers) -> Mapping[str, tuple[str, ...]]:
    """Lower-case name -> values in order. The caller's token is no fact."""
    found = HeaderFields()
    repeated: dict[str, list[str]] = {}  # a head may hold 64,000 fields of one name: a tuple for each would take seconds
    for name, value in headers:
        key = name.lower()
        if key != "proxy-authorization":
            value = value.strip(" \t")  # optional whitespace is no part of a value (RFC 9110 section 5.5)
            if key not in found:
                found[key] = (value,)
            else:
                repeated.setdefault(key, [*found[key]]).append(value)
    found.update((key, tuple(values)) for key, values in repeated.items())
    return found


def _content_type(facts: HttpFacts) -> Any:
    values = facts.values("content-type")
    if len(values) > 1:
        return UNKNOWN
    return values[0].partition(";")[0].strip().lower() if values else ""


def _charset(facts: HttpFacts) -> str:
    """The one character encoding that the body is labelled with; where there are several, servers read different ones."""
    found = set()
    for parameter in "".join(facts.values("content-type")).split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower().rstrip("*") == "charset":
            found.add(value.strip().strip('"').lower())
    return found.pop() if len(found) == 1 else " and ".join(sorted(found))


def _body(facts: HttpFacts) -> Any:
    content_type = facts.get("content_type")
    if not isinstance(content_type, str):
        return UNKNOWN
    return parse_body(facts.content(), content_type, _charset(facts))


def _body_bytes(facts: HttpFacts) -> Any:
    return UNKNOWN if facts.body is None else len(facts.body)


def _reason(facts: HttpFacts) -> Any:
    return incomplete_reason(facts)


def _complete(facts: HttpFacts) -> Any:
    return not facts.get("reason")


_WORK: Final[Mapping[str, Callable[[HttpFacts], Any]]] = {
    "method": _method,
    "path": _path,
    "query": _query,
    "host": lambda facts: facts.host.lower().removesuffix(".").strip("[]"),
    "headers": lambda facts: field_values(facts.fields),
    "content_type": _content_type,
    "body": _body,
    "body_bytes": _body_bytes,
    "reason": _reason,
    "complete": _complete,
}


def incomplete_reason(facts: HttpFacts) -> str:
    """Why the gateway may not have understood the request; "" when it did."""
    try:
        canonical_method(facts.method)
        if "path" not in facts._values:
            facts._values["path"] = canonical_path(facts.raw_path)
    except AmbiguousRequest as error:
        return error.reason
    if _BREAKS_THE_LINE.search(facts.raw_path) is not None:
        return "the query has a character that must be percent-encoded"
    if facts.get("path") == "*" and facts.method != "OPTIONS":
        return "only OPTIONS asks about the whole server (`*`)"  # RFC 9112 section 3.2.4
    headers = facts.get("headers")
    if not isinstance(headers, dict):
        return "the headers cannot be read"
    for name in _SINGLE:
        if len(headers.get(name, ())) > 1:
            return f"the request has more than one {name} field"
    if not _OVERRIDES.isdisjoint(headers):
        return "a header overrides the method or the path"
    for name in headers:
        # CGI and WSGI make one variable of `Content_Type` and `Content-Type`, old servers of `Content.Type` as well
        if "_" in name or "." in name:
            plain = _ODD_NAME.sub("-", name)
            if plain in _OVERRIDES or plain in _SINGLE:
                return f"some servers read the field {name} with hyphens"
    return _body_reason(facts)


def _overriding_parameter(facts: HttpFacts, content_type: str) -> str | None:
    """Where a parameter is which frameworks take for the method."""
    query = facts.raw_path.partition("?")[2]
    if query and ("method" in query.lower() or "%" in query) and _overrides(facts.get("query"), query):
        return "query"
    if facts.body and content_type == FORM and _overrides(facts.get("body"), facts.body.decode("latin-1")):
        return "form"
    if facts.body and content_type == "multipart/form-data" and _overrides(UNKNOWN, facts.body.decode("latin-1")):
        return "form"
    return None


def _overrides(parameters: Any, raw: str) -> bool:
    if isinstance(parameters, dict):
        return any(name.strip().lower() in _OVERRIDING_PARAMETERS for name in parameters)
    lower = raw.lower()
    return any(name in lower for name in _OVERRIDING_PARAMETERS)


def _body_reason(facts: HttpFacts) -> str:
    content_type = facts.get("content_type")
    if _MEDIA_TYPE.fullmatch(content_type) is None:
        return "the content type names more than one media type"
    if content_type.startswith("application/grpc"):
        return "gRPC messages are not read"
    if (place := _overriding_parameter(facts, content_type)) is not None:
        return f"the {place} overrides the method (as `_method` does)"
    if facts.values("content-encoding"):
        try:
            facts.content()
        except Undecodable as error:
            return str(error)
    return ""


# --- operations


def request_operation(facts: HttpFacts) -> Operation:
    """The operation of a request. It is incomplete, with the reason, where servers might read it differently."""
    reason = facts.get("reason")
    path = facts.get("path")
    shown = path if isinstance(path, str) else visible(facts.raw_path.partition("?")[0])
    return Operation(
        kind="http",
        facts=facts,
        complete=not reason,
        reason=reason if isinstance(reason, str) else "the request cannot be read",
        writes=facts.method not in SAFE_METHODS,
        exact=lambda: exact_request(facts),
        title=f"{visible(facts.method)} {shown}"[:512],
    )


class ResponseFacts:
    """The facts of a response, over those of its request."""

    __slots__ = ("_request", "_values")

    def __init__(self, request: HttpFacts, status: int, headers: Headers, size: int | None) -> None:
        self._request = request
        self._values = {
            "status": status,
            "response_headers": field_values(headers),
            "response_bytes": UNKNOWN if size is None else size,
        }

    def get(self, name: str) -> Any:
        value = self._values.get(name, _ABSENT)
        return self._request.get(name) if value is _ABSENT else value


def response_operation(request: HttpFacts, status: int, headers: Headers, body_bytes: int | None) -> Operation:
    """The response phase of a request; `body_bytes` is None where its length is not known before it is sent."""
    before = request_operation(request)
    return Operation(
        kind="http",
        facts=ResponseFacts(request, status, headers, body_bytes),
        complete=before.complete,
        reason=before.reason,
        phase="response",
        writes=before.writes,
        title=before.title,
    )


# --- what a reviewer sees, and what the fingerprint covers


def exact_request(facts: HttpFacts) -> Exact:
    """The request for a reviewer and for the fingerprint. Raises ValueError when the gateway does not have the body."""
    if facts.body is None:
        raise ValueError("the body is not known, so that nobody can approve it")
    covered = _covered(facts.fields)
    shown = {name: "[redacted]" if name in _CREDENTIALS else value for name, value in covered}
    path = facts.get("path")
    target = path if isinstance(path, str) else visible(facts.raw_path.partition("?")[0])
    lines = [f"{facts.method} {facts.scheme}://{facts.host}:{facts.port}{facts.raw_path}"]
    lines += [f"{name}: {'[redacted]' if name in _CREDENTIALS else value}" for name, value in covered]
    text = "\n".join([*lines, "", _readable(facts)])
    return Exact(f"{facts.method} {target}", text, _payload(facts, covered), shown)


def _covered(headers: Headers) -> list[tuple[str, str]]:
    """Lower-case names and values of what the fingerprint covers, by name; fields of one name keep their order."""
    found = []
    for name, value in headers:
        key = name.lower()
        if key == "prefer":
            value = _without_waiting(value)
            if not value:
                continue
        if key not in UNCOVERED_HEADERS:
            found.append((key, value))
    return sorted(found, key=lambda field: field[0])


def _without_waiting(value: str) -> str:
    """`Prefer` without the preferences that the gateway itself reads (RFC 7240): they say how to wait, not what to do."""
    if '"' in value:
        return value  # a comma may stand in a quoted string, which would then not be covered
    kept = [part.strip() for part in value.split(",")]
    return ", ".join(
        part for part in kept if part and part.partition("=")[0].partition(";")[0].strip().lower() not in ("wait", "respond-async")
    )


def _payload(facts: HttpFacts, covered: Headers) -> bytes:
    """Every part with its length before it, so that no two requests have the same bytes."""
    parts = ["hopgate-http-v1", facts.method, facts.scheme, facts.host.lower(), str(facts.port), facts.raw_path]
    parts += ["websocket" if facts.websocket else "plain", str(len(covered))]
    parts += [part for field in covered for part in field]
    encoded = [part.encode("utf-8", "surrogateescape") for part in parts]
    return b"".join(len(part).to_bytes(8, "big") + part for part in (*encoded, facts.body or b""))


def _readable(facts: HttpFacts) -> str:
    try:
        return facts.content().decode("utf-8")
    except ValueError:  # Undecodable, UnicodeDecodeError
        return (facts.body or b"").decode("utf-8", "backslashreplace")
