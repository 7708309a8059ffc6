"""The rules in force, what each has done, and what they would say."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response

from hopgate.console import asking
from hopgate.console.call import Call
from hopgate.errors import Denied, HopgateError, Unavailable
from hopgate.history import RuleStatistics

MAX_TEXT: Final = 32 << 10
_KINDS: Final = {"postgres": "sql", "mysql": "sql"}


async def rules(call: Call) -> Response:
    """Every rule, with where it matched."""
    return await _page(call)


async def explain(call: Call) -> Response:
    """The same page with an answer. Nothing is changed and nothing runs: POST because what is asked may be long, and is nobody's URL."""
    form = call.form
    answer: dict[str, Any] = {}
    problem = ""
    try:
        answer = await explained(call, form.get("connection", ""), form)
    except (Denied, Unavailable) as error:
        problem = error.message
    return await _page(call, answer=answer, problem=problem, form=dict(form))


async def explained(call: Call, connection: str, asked: Any) -> dict[str, Any]:
    """What would be decided about `asked` (subject, groups, text, body). Raises Denied, Unavailable."""
    target = call.desk.config.connection(connection)
    if target is None:
        raise Denied(f"there is no connection {connection!r}")
    text, body = str(asked.get("text", "")), str(asked.get("body", ""))
    if len(text) + len(body) > MAX_TEXT:
        raise Denied("the text is too long to be explained here: use `hopgate explain`")
    kind = _KINDS.get(target.kind, target.kind) if text.strip() else "session"
    subject = str(asked.get("subject", "")).strip()
    if not subject:
        raise Denied("whose operation is it? name a subject")
    groups = asked.get("groups", "")
    named = groups.replace(",", " ").split() if isinstance(groups, str) else [str(group) for group in groups]
    return await asking.explain(call.desk.config.path, connection, kind, subject, named, str(asked.get("run", "")), text, body)


async def _page(call: Call, **more: Any) -> Response:
    in_force = call.desk.services.rules
    loaded = in_force.current.rules
    problem = ""
    try:
        statistics = {each.rule: each for each in await call.desk.history.rule_statistics(loaded)}
    except HopgateError as error:
        statistics, problem = {rule.id: RuleStatistics(rule.id, True, rule.effect) for rule in loaded}, error.message
    known = {rule.id: rule for rule in loaded}
    rows = sorted(statistics.values(), key=lambda each: (not each.loaded, -each.matches, each.rule))
    most = max((each.matches for each in rows), default=0) or 1
    values = {"answer": {}, "problem": "", "form": {}, **more}
    return call.page(
        "rules.html",
        400 if values["problem"] else 200,
        rows=[(each, known.get(each.rule), each.matches / most) for each in rows],
        version=in_force.current.version,
        error=in_force.error,
        unread=problem,
        never=sum(each.loaded and not each.matches for each in rows),
        connections=[each.name for each in call.desk.config.connections],
        **values,
    )
