"""`hopgate approvals`: what waits for a reviewer, and the reviewers' decisions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args

import typer

from hopgate.cli.common import CONFIG, ConfigOption, JsonOption, Misuse, TokenOption, given_token, load, opened, verified
from hopgate.cli.output import emit, moment, say, span, table, visible
from hopgate.errors import Denied

if TYPE_CHECKING:
    from hopgate.store import Approval, Verdict

IdArgument = Annotated[str, typer.Argument(help="The approval's id, or the start of it.", metavar="ID")]
CommentOption = Annotated[str, typer.Option("--comment", help="Why; the caller and the ledger get it.", metavar="TEXT")]


def list_approvals(
    state: Annotated[str, typer.Option("--state", help="pending, approved, denied, consumed …, or all.")] = "pending",
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
) -> None:
    """What waits for a decision; other states with --state."""

    async def work() -> None:
        from hopgate.store import ApprovalState

        states = get_args(ApprovalState.__value__)
        if state not in (*states, "all"):
            raise Misuse(f"--state must be {', '.join(states)} or all")
        async with opened(load(config)) as store:
            found = await store.list_approvals(None if state == "all" else state)  # type: ignore[arg-type]
        if as_json:
            emit([_told(each) for each in found])
        else:
            rows = [(each.id[:12], each.state, each.requester, each.connection, each.title, _when(each)) for each in found]
            table(("ID", "STATE", "REQUESTER", "CONNECTION", "WHAT", "TIME"), rows, "nothing is waiting" if state == "pending" else "none")

    asyncio.run(work())


def show(approval: IdArgument, config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """The exact operation, who asks, whose decision it takes, and the votes so far."""

    async def work() -> None:
        async with opened(load(config)) as store:
            found = _found(await store.find_approval(approval), approval)
        if as_json:
            emit(_told(found))
        else:
            _card(found)

    asyncio.run(work())


def approve(
    approval: IdArgument,
    scope: Annotated[str, typer.Option("--scope", help="once, or another that the rule offers.", metavar="SCOPE")] = "once",
    comment: CommentOption = "",
    token: TokenOption = "",
    config: ConfigOption = CONFIG,
) -> None:
    """Let the operation pass, as a reviewer who is not its requester."""
    _decide(approval, "approve", scope, comment, token, config)


def deny(approval: IdArgument, comment: CommentOption = "", token: TokenOption = "", config: ConfigOption = CONFIG) -> None:
    """Refuse the operation, as a reviewer."""
    _decide(approval, "deny", "once", comment, token, config)


def watch(
    config: ConfigOption = CONFIG,
    as_json: JsonOption = False,
    once: Annotated[bool, typer.Option("--once", help="End when the first one comes.")] = False,
) -> None:
    """Print approvals as they begin to wait, until interrupted."""

    async def work() -> None:
        shown: set[str] = set()
        async with opened(load(config)) as store:
            while True:
                for each in reversed(await store.list_approvals("pending")):
                    if each.id not in shown:
                        shown.add(each.id)
                        emit(_told(each)) if as_json else say(visible(f"{each.id}  {each.requester}  {each.connection}  {each.title}"))
                if once and shown:
                    return
                await asyncio.sleep(0.1)

    asyncio.run(work())


def _decide(approval: str, verdict: Verdict, scope: str, comment: str, token: str, config: Any) -> None:
    proof = given_token(token)

    async def work() -> None:
        from hopgate.approvals import Approvals
        from hopgate.ledger import append_once

        loaded = load(config)
        async with opened(loaded) as store:
            reviewer = await verified(loaded, store, proof)
            found = _found(await store.find_approval(approval), approval)

            def write(event: str, /, **fields: Any) -> None:
                append_once(loaded.state, event, **fields)

            decided = await Approvals(store, loaded.approvals, ledger_event=write).decide(
                found.id, reviewer, verdict, scope=scope, comment=comment, fingerprint=found.fingerprint, version=found.version
            )
        missing = "" if decided.state != "pending" else "; more reviewers are needed"
        say(visible(f"{decided.id[:12]}: {decided.state} as {reviewer}{missing}"))

    asyncio.run(work())


def _found(found: Approval | None, wanted: str) -> Approval:
    if found is None:
        raise Denied(f"there is no approval {visible(wanted)}")
    return found


def _when(approval: Approval) -> str:
    now = time.time()
    return (
        f"{span(approval.deadline - now)} left" if approval.pending else f"{span(now - (approval.decided_at or approval.created_at))} ago"
    )


def _told(approval: Approval) -> dict[str, Any]:
    import dataclasses

    return {**{each.name: getattr(approval, each.name) for each in dataclasses.fields(approval)}, "requester": approval.requester}


def _card(approval: Approval) -> None:
    needs = [f"{each.rule}: {each.quorum} of {', '.join(each.reviewers)}" for each in approval.requirements]
    lines: list[tuple[str, object]] = [
        ("approval", approval.id),
        ("state", f"{approval.state}, {_when(approval)}"),
        ("requester", f"{approval.requester}  groups {', '.join(approval.groups) or '-'}{f'  run {approval.run}' if approval.run else ''}"),
        ("connection", approval.connection),
        ("session", approval.session),
        ("asked", moment(approval.created_at)),
        *(("needs", text) for text in needs),
        ("scopes", ", ".join(approval.scopes)),
        ("fingerprint", approval.fingerprint),
        *((f"vote {each.verdict}", f"{each.identity} {moment(each.at)} {each.comment}") for each in approval.votes),
        *((f"header {name}", value) for name, value in approval.headers.items()),
    ]
    for name, value in lines:
        say(f"{visible(name):<12} {visible(value)}")
    say()
    say(visible(approval.text, lines=True))


COMMANDS: Final[Mapping[str, Callable[..., object]]] = {
    "list": list_approvals,
    "show": show,
    "approve": approve,
    "deny": deny,
    "watch": watch,
}
