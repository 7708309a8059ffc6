"""The routes as one ASGI application, and how each request ends: in a page, a stream, JSON, or a sentence that says why not."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from hopgate.console.api.table import UnsupportedMedia
from hopgate.console.call import Call, Malformed, Missing, Route
from hopgate.console.desk import Desk
from hopgate.console.guard import Guard
from hopgate.console.routes import ROUTES, missing
from hopgate.errors import Conflict, Denied, HopgateError, Misconfigured, Unauthenticated, Unavailable

_log = logging.getLogger("hopgate.console")

_STATUS: tuple[tuple[type[HopgateError], int], ...] = (
    (Missing, 404),
    (UnsupportedMedia, 415),
    (Malformed, 400),
    (Unauthenticated, 401),
    (Denied, 403),
    (Conflict, 409),
    (Unavailable, 503),
    (Misconfigured, 503),
)


def build(desk: Desk) -> Guard:
    """The console of `desk`."""
    routes = [StarletteRoute(route.path, _endpoint(desk, route), methods=[route.method]) for route in ROUTES]
    unknown = Route("GET", "/", missing, None)

    async def lost(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        kind = "api" if request.url.path.startswith("/api/") else "page"
        call = Call(desk, request, Route("GET", unknown.path, missing, None, kind))  # type: ignore[arg-type]
        headers = error.headers if isinstance(error, HTTPException) else None
        response = refuse(call, status, "there is nothing here" if status == 404 else HTTPStatus(status).phrase.lower())
        response.headers.update(headers or {})
        return response

    return Guard(Starlette(routes=routes, exception_handlers={HTTPException: lost}), desk.place)


def _endpoint(desk: Desk, route: Route) -> Any:
    async def endpoint(request: Request) -> Response:
        return await answer(Call(desk, request, route))

    return endpoint


async def answer(call: Call) -> Response:
    """Run one route. Whatever is raised in it becomes an answer that tells what is ours to tell, and nothing else."""
    try:
        await call.authenticate()
        await call.read_form()
        return await call.route.endpoint(call)
    except HopgateError as error:
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
        return refuse(call, status, error.message)
    except HTTPException:
        raise
    except ClientDisconnect:
        return Response(status_code=400)  # which nobody reads
    except Exception as error:
        # only the type: the text of an unexpected error may quote what somebody sent
        _log.exception("%s %s failed: %s", call.route.method, call.route.path, type(error).__name__, exc_info=False)
        return refuse(call, 500, "the console failed at this; its log says more")


def refuse(call: Call, status: int, message: str) -> Response:
    """An error as its caller reads it: a problem document, a notice on the page that htmx has, or a page."""
    title = HTTPStatus(status).phrase
    if call.route.kind == "api":
        return call.problem(status, title, message)
    target = call.request.url.path + (f"?{call.request.url.query}" if call.request.url.query else "")
    if status == 401 and call.htmx:
        return Response(status_code=401, headers={"HX-Redirect": "/login"})
    if status == 401 and call.route.method == "GET" and call.route.kind == "page" and call.route.role is not None:
        return call.redirect(f"/login?next={quote(target, safe='')}")
    if call.htmx:
        return call.page("_notice.html", status, message=message)
    return call.page("error.html", status, status=status, title=title, message=message)
