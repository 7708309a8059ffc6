"""The table of `/api/v1` operations: as routes, and as the OpenAPI document that describes them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, Final, Literal

import msgspec
from starlette.responses import Response

from hopgate.console.api import operations as run
from hopgate.console.api import types
from hopgate.console.call import Call, Malformed, Route
from hopgate.console.roles import Role

PREFIX: Final = "/api/v1"
_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"
_REFUSALS: Final = {
    "400": "malformed",
    "401": "not signed in",
    "403": "not permitted",
    "404": "not there",
    "409": "changed meanwhile",
    "503": "the store or the ledger does not answer",
}
_BODY_REFUSALS: Final = {"411": "no Content-Length", "413": "too large", "415": "not JSON"}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. `given` types its query (GET, DELETE) or body (POST), `answer` its result; None: 204 or a stream."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    run: Callable[[Call, Any], Awaitable[Any]]
    role: Role
    given: type[msgspec.Struct] = types.Nothing
    answer: type[msgspec.Struct] | None = None
    media: str = _JSON


OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation("GET", "/me", run.me, "viewer", answer=types.Me),
    Operation("GET", "/approvals", run.list_approvals, "viewer", types.ApprovalsQuery, types.Approvals),
    Operation("GET", "/approvals/events", run.approval_events, "viewer", media="text/event-stream"),
    Operation("GET", "/approvals/{id}", run.find_approval, "viewer", answer=types.Card),
    Operation("POST", "/approvals/{id}/decisions", run.decide, "reviewer", types.DecisionBody, types.Approval),
    Operation("GET", "/grants", run.list_grants, "viewer", answer=types.Approvals),
    Operation("DELETE", "/grants/{id}", run.revoke_grant, "operator"),
    Operation("GET", "/sessions", run.list_sessions, "viewer", types.SessionsQuery, types.Sessions),
    Operation("GET", "/sessions/{id}", run.find_session, "viewer", answer=types.Session),
    Operation("GET", "/sessions/{id}/events", run.session_events, "viewer", types.PageQuery, types.Events),
    Operation("GET", "/sessions/{id}/recording", run.session_recording, "viewer", media="application/octet-stream"),
    Operation("POST", "/kill", run.kill, "operator", types.KillBody, types.Killed),
    Operation("GET", "/locks", run.list_locks, "viewer", answer=types.Locks),
    Operation("DELETE", "/locks", run.unlock, "operator", types.LockQuery),
    Operation("GET", "/rules", run.list_rules, "viewer", answer=types.Rules),
    Operation("POST", "/rules/explain", run.explain, "viewer", types.ExplainBody, types.Explained),
    Operation("GET", "/hops", run.list_hops, "viewer", types.HopsQuery, types.Hops),
    Operation("GET", "/verify", run.verification, "viewer", answer=types.Verification),
    Operation("POST", "/verify", run.verify, "viewer", answer=types.Verification),
)


def routes() -> tuple[Route, ...]:
    """All of them, and the document."""
    served = (Route(each.method, PREFIX + each.path, _endpoint(each), each.role, "api") for each in OPERATIONS)
    return (Route("GET", f"{PREFIX}/openapi.json", _served_document, None, "api"), *served)


def _endpoint(operation: Operation) -> Callable[[Call], Awaitable[Response]]:
    async def endpoint(call: Call) -> Response:
        given = await _given(call, operation)
        answer = await operation.run(call, given)
        if isinstance(answer, Response):
            return answer
        if answer is None:
            return Response(status_code=204)
        return Response(msgspec.json.encode(answer), media_type=_JSON)

    return endpoint


async def _given(call: Call, operation: Operation) -> Any:
    """The checked parameters or body. Raises Malformed with what is wrong."""
    try:
        if operation.method == "POST" and operation.given is not types.Nothing:
            kind = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != _JSON:
                raise UnsupportedMedia("the body must be application/json")
            given = msgspec.json.decode(await call.request.body(), type=operation.given)
        else:
            given = msgspec.convert(dict(call.request.query_params), operation.given, strict=False)
    except msgspec.MsgspecError as error:
        raise Malformed(str(error)[:1].lower() + str(error)[1:]) from None
    except UnicodeDecodeError:
        raise Malformed("the body is not UTF-8") from None
    for name in operation.given.__struct_fields__:
        value = getattr(given, name)
        if isinstance(value, str) and ("\0" in value or not _encodable(value)):
            raise Malformed(f"{name} holds a character that no text has")
        if isinstance(value, float) and not math.isfinite(value):
            raise Malformed(f"{name} is no number")
    return given


class UnsupportedMedia(Malformed):
    """HTTP 415."""


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- OpenAPI


async def _served_document(_call: Call) -> Response:
    return Response(msgspec.json.encode(document()), media_type=_JSON)


@cache
def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    kinds: set[type[msgspec.Struct]] = {types.Problem, *(each.answer for each in OPERATIONS if each.answer is not None)}
    kinds |= {each.given for each in OPERATIONS if each.method == "POST"} - {types.Nothing}
    listed = sorted(kinds, key=lambda kind: kind.__name__)
    schemas, components = msgspec.json.schema_components(listed, ref_template="#/components/schemas/{name}")
    reference = dict(zip(listed, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each in OPERATIONS:
        paths.setdefault(PREFIX + each.path, {})[each.method.lower()] = _described(each, reference)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hopgate console",
            "version": version("hopgate"),
            "description": "Approvals, sessions, kill, grants, rules, hops and evidence. Times are seconds since the epoch.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "a reviewer's or operator's token"}},
        },
        "security": [{"token": []}],
    }


def _described(operation: Operation, reference: dict[Any, Any]) -> dict[str, Any]:
    summary, _, rest = " ".join((operation.run.__doc__ or "").split()).partition(". ")
    found: dict[str, Any] = {
        "operationId": operation.run.__name__,
        "summary": summary.rstrip("."),
        "description": f"{rest} Takes the role {operation.role}.".strip(),
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in ("id",)
            if "{" + name + "}" in operation.path
        ],
        "responses": {code: _refused(about, reference) for code, about in _REFUSALS.items()},
    }
    if operation.method == "POST" and operation.given is not types.Nothing:
        found["requestBody"] = {"required": True, "content": {_JSON: {"schema": reference[operation.given]}}}
        found["responses"] |= {code: _refused(about, reference) for code, about in _BODY_REFUSALS.items()}
    elif operation.given is not types.Nothing:
        found["parameters"] += _parameters(operation.given)
    found["responses"] |= _success(operation, reference)
    return found


def _success(operation: Operation, reference: dict[Any, Any]) -> dict[str, Any]:
    if operation.answer is None and operation.media == _JSON:
        return {"204": {"description": "done"}}
    schema: dict[str, Any] = reference[operation.answer] if operation.answer is not None else {}
    return {"200": {"description": "what was asked for", "content": {operation.media: {"schema": schema} if schema else {}}}}


def _refused(about: str, reference: dict[Any, Any]) -> dict[str, Any]:
    return {"description": about, "content": {_PROBLEM: {"schema": reference[types.Problem]}}}


def _parameters(given: type[msgspec.Struct]) -> list[dict[str, Any]]:
    (schema,), components = msgspec.json.schema_components([given])
    described = components[schema["$ref"].rpartition("/")[2]]
    required = described.get("required", [])
    return [{"name": name, "in": "query", "required": name in required, "schema": kind} for name, kind in described["properties"].items()]
