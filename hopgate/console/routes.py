"""Every route of the console, with the role that it takes. What is not in this table is not there."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from hopgate.console.api.table import routes as api_routes
from hopgate.console.call import Call, Route
from hopgate.console.pages import approvals, assets, health, hops, replay, rules, sessions, signin, stop
from hopgate.console.place import ACS
from hopgate.errors import Denied

ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/static/{name:path}", assets.static, None),
    Route("GET", "/login", signin.login, None),
    Route("GET", "/login/oidc", signin.begin, None),
    Route("GET", "/login/callback", signin.callback, None),
    Route("GET", "/login/saml", signin.begin_saml, None),
    Route("GET", "/login/saml/metadata", signin.saml_metadata, None),
    Route("POST", ACS, signin.saml_response, None),
    Route("GET", "/login/saml/done", signin.end_saml, None),
    Route("GET", "/login/link", signin.link, None),
    Route("POST", "/login/link", signin.use_link, None),
    Route("POST", "/logout", signin.logout, "viewer"),
    Route("GET", "/", signin.home, "viewer"),
    Route("GET", "/events", approvals.events, "viewer", "stream"),
    Route("GET", "/approvals", approvals.inbox, "viewer"),
    Route("GET", "/approvals/past", approvals.past, "viewer"),
    Route("GET", "/approvals/{id}", approvals.approval, "viewer"),
    Route("POST", "/approvals/{id}/decide", approvals.decide, "reviewer"),
    Route("GET", "/grants", approvals.grants, "viewer"),
    Route("POST", "/grants/{id}/revoke", approvals.revoke, "operator"),
    Route("GET", "/sessions", sessions.search, "viewer"),
    Route("GET", "/sessions/{id}", sessions.session, "viewer"),
    Route("GET", "/sessions/{id}/events", sessions.follow, "viewer", "stream"),
    Route("GET", "/sessions/{id}/replay", replay.replay, "viewer"),
    Route("GET", "/sessions/{id}/replay/more", replay.more, "viewer"),
    Route("GET", "/sessions/{id}/terminals/{number}", replay.cast, "viewer"),
    Route("GET", "/sessions/{id}/recording", replay.export, "viewer"),
    Route("GET", "/hops", hops.hops, "viewer"),
    Route("GET", "/rules", rules.rules, "viewer"),
    Route("POST", "/rules/explain", rules.explain, "viewer"),
    Route("GET", "/health", health.health, "viewer"),
    Route("POST", "/health/verify", health.verify, "viewer"),
    Route("GET", "/audit", health.audit, "viewer"),
    Route("GET", "/stop", stop.stop, "viewer"),
    Route("POST", "/stop/kill", stop.kill, "operator"),
    Route("POST", "/stop/unlock", stop.unlock, "operator"),
    *api_routes(),
)


async def missing(_call: Call) -> Response:
    """Where no route leads."""
    raise Denied("there is nothing here")
