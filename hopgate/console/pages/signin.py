"""Signing in and out: by the provider, or by a single-use link that the command line printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urlsplit

from starlette.responses import RedirectResponse, Response

from hopgate.console.call import Call
from hopgate.errors import Denied, Unauthenticated, Unavailable
from rules.model import Principal

if TYPE_CHECKING:
    from hopgate.console.saml import Saml

HOME: Final = "/approvals"
FLOW_SECONDS: Final = 600.0  # for the person to find his second factor
_FLOW_COOKIE: Final = "hopgate-signin"


async def home(call: Call) -> Response:
    return RedirectResponse(HOME, 303)


async def login(call: Call) -> Response:
    """The page that offers what there is. It signs nobody in."""
    return call.page("login.html", then=local_target(call.query.get("next", "")))


async def begin(call: Call) -> Response:
    """To the provider, with a cookie by which the browser is known when it comes back."""
    oidc = call.desk.oidc
    if oidc is None:
        raise Denied("no provider is configured: ask for a link with `hopgate console login`")
    return _to_provider(call, *await oidc.begin(local_target(call.query.get("next", ""))))


async def callback(call: Call) -> Response:
    """The browser is back from the provider, with a code or an error (RFC 6749 section 4.1.2)."""
    oidc = call.desk.oidc
    if oidc is None:
        raise Denied("no provider is configured")
    if call.query.get("error"):
        raise Denied("the provider did not sign you in")
    principal, name, then = await oidc.finish(
        call.query.get("state", ""), call.query.get("code", ""), call.request.cookies.get(_FLOW_COOKIE, "")
    )
    return _forgotten(call, await _signed_in(call, principal, name, then, how=f"oidc {oidc.issuer.name}"))


async def begin_saml(call: Call) -> Response:
    """To the SAML provider, likewise."""
    return _to_provider(call, *_saml(call).begin(local_target(call.query.get("next", ""))))


async def saml_metadata(call: Call) -> Response:
    return Response(_saml(call).metadata(), media_type="application/samlmetadata+xml")


async def saml_response(call: Call) -> Response:
    """The provider's page posts its response here, from its own site and so without our cookies: those come with the step after it."""
    state = call.form.get("RelayState", "")
    _saml(call).receive(state, call.form.get("SAMLResponse", ""))
    return RedirectResponse(f"/login/saml/done?{urlencode({'state': state})}", 303)


async def end_saml(call: Call) -> Response:
    """The same browser, with its cookie."""
    saml = _saml(call)
    principal, name, then = saml.finish(call.query.get("state", ""), call.request.cookies.get(_FLOW_COOKIE, ""))
    return _forgotten(call, await _signed_in(call, principal, name, then, how=f"saml {saml.settings.name}"))


def _saml(call: Call) -> Saml:
    if call.desk.saml is None:
        raise Denied("no SAML provider is configured")
    return call.desk.saml


def _to_provider(call: Call, url: str, binding: str) -> Response:
    response = RedirectResponse(url, 303)
    response.set_cookie(
        _FLOW_COOKIE, binding, max_age=int(FLOW_SECONDS), path="/login", httponly=True, secure=call.desk.place.secure, samesite="lax"
    )
    return response


def _forgotten(call: Call, response: Response) -> Response:
    response.delete_cookie(_FLOW_COOKIE, path="/login", httponly=True, secure=call.desk.place.secure, samesite="lax")
    return response


async def link(call: Call) -> Response:
    """Where a link leads: a page with one button. Whoever only looks (a mail scanner, a preview) uses nothing up."""
    return call.page("link.html", token=call.query.get("token", ""))


async def use_link(call: Call) -> Response:
    try:
        principal = await call.desk.signins.use_link(call.form.get("token", ""))
    except Unauthenticated as error:
        return call.page("login.html", 401, then=HOME, message=error.message)
    return await _signed_in(call, principal, "", HOME, how="link")


async def _signed_in(call: Call, principal: Principal, name: str, then: str, *, how: str) -> Response:
    desk = call.desk
    if (reason := desk.services.locks.is_locked(principal)) is not None:
        raise Denied(f"refused: {reason}")
    roles = desk.roles.of(principal)
    if not roles:
        raise Denied(f"{principal} is known, and no group of his has a role here; it takes one of those that the configuration names")
    seconds = desk.config.console.session
    token = await desk.signins.begin(principal, seconds, name)
    try:
        desk.services.ledger.append("signed_in", by=str(principal), how=how, groups=sorted(principal.groups), roles=sorted(roles))
        await desk.services.ledger.durable()
    except Unavailable:
        await desk.signins.end(token)
        raise
    response = RedirectResponse(local_target(then), 303)
    response.set_cookie(desk.place.cookie, token, max_age=int(seconds), path="/", httponly=True, secure=desk.place.secure, samesite="lax")
    return response


async def logout(call: Call) -> Response:
    """Forget the sign-in, in the store: a copy of the cookie is worth nothing afterwards."""
    await call.desk.signins.end(call.request.cookies.get(call.desk.place.cookie, ""))
    call.desk.services.ledger.append("signed_out", by=str(call.principal))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(call.desk.place.cookie, path="/", httponly=True, secure=call.desk.place.secure, samesite="lax")
    return response


def local_target(then: str) -> str:
    """A path of this console, or its first page: nobody is sent elsewhere from here."""
    try:
        parts = urlsplit(then)
    except ValueError:  # `//[`
        return HOME
    fine = then.startswith("/") and not then.startswith(("//", "/\\", "/login")) and not parts.netloc and not parts.scheme
    return then if fine and then.isascii() and then.isprintable() and "\\" not in then else HOME
