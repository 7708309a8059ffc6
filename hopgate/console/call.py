"""One request: who sent it, what he may, and how the answer is made."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from hopgate.console.guard import SAFE_METHODS
from hopgate.console.render import render
from hopgate.console.roles import Role, refuse_agents
from hopgate.console.signin import SignedIn
from hopgate.errors import Denied, Unauthenticated
from rules.model import Principal

if TYPE_CHECKING:
    from hopgate.console.desk import Desk


class Missing(Denied):
    """What the path names is not there. HTTP 404."""


class Malformed(Denied):
    """The request says something that cannot be meant. HTTP 400."""


type Endpoint = Callable[[Call], Awaitable[Response]]
CSRF_FIELD: Final = "csrf"
CSRF_HEADER: Final = "x-csrf-token"
_PROBLEM: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Route:
    """What answers where, and the role that it takes. None: whoever comes."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    endpoint: Endpoint
    role: Role | None
    kind: Literal["page", "api", "stream"] = "page"


@dataclass(slots=True)
class Call:
    """A request and its sender. `principal` is None only where a route takes no role."""

    desk: Desk
    request: Request
    route: Route
    signed: SignedIn | None = None
    sender: Principal | None = None
    roles: frozenset[Role] = frozenset()
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def principal(self) -> Principal:
        if self.sender is None:
            raise Unauthenticated("sign in first")
        return self.sender

    @property
    def htmx(self) -> bool:
        return self.request.headers.get("hx-request") == "true"

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query_params

    def path(self, name: str) -> str:
        return str(self.request.path_params[name])

    # --- who

    async def authenticate(self) -> None:
        """Find out who calls and whether he may. Raises Unauthenticated, Expired, Denied, Unavailable."""
        if self.route.kind == "api" and (token := _bearer(self.request)) is not None:
            peer = self.request.client.host if self.request.client is not None else ""
            self.sender = await self.desk.services.identity.verify(token, peer=peer)
            refuse_agents(self.sender)
        elif (cookie := self.request.cookies.get(self.desk.place.cookie)) is not None and self.route.role is not None:
            self.signed = await self.desk.signins.find(cookie)
            self.sender = self.signed.principal
        if self.route.role is None:
            return
        principal = self.principal
        if (reason := self.desk.services.locks.is_locked(principal)) is not None:
            raise Denied(f"refused: {reason}")
        self.roles = self.desk.roles.of(principal)
        if self.route.role not in self.roles:
            raise Denied(f"{principal} is no {self.route.role} here: his groups give him {', '.join(sorted(self.roles)) or 'no role'}")

    async def read_form(self) -> None:
        """Take the fields of a form, and refuse one that does not come from a page of ours. Raises Denied, Malformed."""
        _refuse_nul(self.request.path_params.values())
        _refuse_nul(self.query.values())
        if self.request.method in SAFE_METHODS:
            return
        if self.route.kind != "api":
            async with self.request.form(max_files=0, max_fields=40) as fields:
                self.form = {name: value for name, value in fields.items() if isinstance(value, str)}
            _refuse_nul(self.form.values())
        if self.signed is not None:
            given = self.request.headers.get(CSRF_HEADER) or self.form.get(CSRF_FIELD, "")
            if not hmac.compare_digest(given.encode(), self.signed.csrf.encode()):
                raise Denied("the form was not made for this sign-in: load the page again")

    # --- answers

    def page(self, template: str, status: int = 200, /, **values: Any) -> Response:
        """A template rendered for who calls."""
        return HTMLResponse(self.render(template, **values), status)

    def render(self, template: str, /, **values: Any) -> str:
        known = {"me": self.sender, "my_name": self.signed.name if self.signed else "", "roles": self.roles, "path": self.request.url.path}
        return render(template, {**known, "csrf": self.signed.csrf if self.signed else "", "desk": self.desk, **values})

    def redirect(self, where: str) -> Response:
        """After a form: look at `where`, which is always of this console."""
        if self.htmx:
            return Response(headers={"HX-Redirect": where})
        return RedirectResponse(where, 303)

    def json(self, value: Any, status: int = 200) -> Response:
        return Response(orjson.dumps(value, default=_plain), status, media_type="application/json")

    def problem(self, status: int, title: str, detail: str, **more: Any) -> Response:
        """RFC 9457."""
        document = {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}
        headers = {"WWW-Authenticate": 'Bearer realm="hopgate"'} if status == 401 else None
        return Response(orjson.dumps(document), status, headers, media_type=_PROBLEM)


def _refuse_nul(values: Iterable[object]) -> None:
    """PostgreSQL stores no NUL and no command line holds one: nothing that is asked for here can be called so."""
    if any("\0" in str(value) for value in values):
        raise Malformed("the request holds a NUL, which no name or text has")


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if not scheme:
        return None
    if scheme.lower() != "bearer":
        raise Unauthenticated("only Bearer tokens are taken here")
    return token.strip()


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)
