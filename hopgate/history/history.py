"""What happened, for people: sessions found, timelines, the graph of hops, what each rule did, approvals with their context."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol, Self

from hopgate.config import Config
from hopgate.errors import Denied
from hopgate.history.projector import Progress, Projector
from hopgate.history.rows import Card, HopNode, Hops, QuorumProgress, RuleStatistics
from hopgate.reviewers import may_review
from hopgate.shared_store import open_index
from hopgate.store import Approval, Store
from hopgate.store.index import Event, Hop, Index, Page, Seen, SessionFound, SessionQuery
from rules.model import Principal

LAST_ACTIONS: Final = 5
_INBOX: Final = 1000  # pending approvals looked at


class LedgerEvent(Protocol):
    """Writes one line of the ledger."""

    def __call__(self, event: str, /, **fields: Any) -> Any: ...


class LoadedRule(Protocol):
    """A rule of the rules in force."""

    @property
    def id(self) -> str: ...
    @property
    def effect(self) -> str: ...


class History:
    """The questions of the console and the command line. Every method raises Unavailable when store or index do not answer."""

    def __init__(self, config: Config, store: Store, index: Index, clock: Callable[[], float] = time.time) -> None:
        self._owners: Mapping[str, str] = config.approvals.owners
        self._store = store
        self._index = index
        self._clock = clock
        self._projector = Projector(config.state / "ledger", index, lambda name: _called(config, name))

    @classmethod
    async def open(cls, config: Config, store: Store) -> Self:
        """Open the index, made if missing. Raises Unavailable, Misconfigured."""
        return cls(config, store, await open_index(config))

    def start(self) -> None:
        """Follow the ledgers in a task of its own: what they tell is found here a moment later."""
        self._projector.start()

    async def close(self) -> None:
        await self._projector.close()
        await self._index.close()

    async def catch_up(self) -> int:
        """Index all that the ledgers hold by now, and wait for it; gives how many events that was."""
        return await self._projector.catch_up()

    @property
    def progress(self) -> Progress:
        """How far the index is behind the ledgers, and what is wrong with either."""
        return self._projector.progress()

    # --- sessions and events

    async def search_sessions(self, query: SessionQuery, after: str = "", limit: int = 50) -> Page[SessionFound]:
        """Sessions that `query` describes, the newest first. Raises ValueError for an `after` that no page gave."""
        return await self._index.search_sessions(query, after, limit)

    async def find_session(self, session: str) -> SessionFound | None:
        """The session with this id, or None."""
        return await self._index.find_session(session)

    async def timeline(self, session: str, *, after: str = "", limit: int = 200, backwards: bool = False) -> Page[Event]:
        """Operations, decisions and whatever else the ledgers tell of a session, the oldest first, or the newest with `backwards`.

        A forward page's `after` is where events that are still to come will be found. Raises ValueError as above.
        """
        return await self._index.timeline(session, after=after, limit=limit, backwards=backwards)

    async def search_events(self, query: SessionQuery, after: str = "", limit: int = 50) -> Page[Event]:
        """Events that `query` describes: where a rule matched, what was denied. Of the newest session first, the newest first."""
        return await self._index.search_events(query, after, limit)

    async def audit(self, after: str = "", limit: int = 100) -> Page[Event]:
        """What belongs to no session: orders to kill, unlocking, rules loaded, tokens and secrets, who looked at what. Newest first."""
        return await self._index.gateway_events(after, limit)

    # --- hops and rules

    async def hops(self, since: float = 0.0, until: float | None = None) -> Hops:
        """Who used which connection between two moments, by the hour; first-seen is ever."""
        end = self._clock() if until is None else until
        edges = await self._index.hops(since, end)
        return Hops(since, end, _nodes(edges, lambda hop: hop.principal), _nodes(edges, lambda hop: hop.connection), edges)

    async def rule_statistics(self, loaded: Iterable[LoadedRule]) -> tuple[RuleStatistics, ...]:
        """Each loaded rule, those that never matched included, and rules that once matched and are gone; by id."""
        found = {each.id: RuleStatistics(each.id, loaded=True, effect=each.effect) for each in loaded}
        for count in await self._index.rule_counts():
            known = found.get(count.rule) or RuleStatistics(count.rule, loaded=False, effect="")
            outcome: dict[str, Any] = {count.outcome: count.number}
            found[count.rule] = replace(
                known,
                **outcome,
                first_matched=count.first_at if known.first_matched is None else min(known.first_matched, count.first_at),
                last_matched=max(known.last_matched or 0.0, count.last_at),
            )
        return tuple(found[rule] for rule in sorted(found))

    # --- approvals

    async def inbox(self, reviewer: Principal | None = None, *, limit: int = 200) -> tuple[Card, ...]:
        """What waits for reviewers, the one with the least time left first; each with whether `reviewer` may decide on it."""
        pending = await self._store.list_approvals("pending", limit=_INBOX)
        return await self._cards(sorted(pending, key=lambda each: (each.deadline, each.id))[:limit], reviewer)

    async def card(self, approval: str, reviewer: Principal | None = None) -> Card | None:
        """One approval of any state, by its id or the start of it. Raises Denied when several start so."""
        found = await self._store.find_approval(approval)
        return None if found is None else (await self._cards([found], reviewer))[0]

    async def _cards(self, approvals: list[Approval], reviewer: Principal | None) -> tuple[Card, ...]:
        if not approvals:
            return ()
        # the request itself is among the last actions too: held, and perhaps held again
        actions = await self._index.latest_operations({each.session for each in approvals}, LAST_ACTIONS + 2)
        seen = await self._index.seen({each.fingerprint for each in approvals})
        return tuple(self._card(each, reviewer, actions.get(each.session, ()), seen.get(each.fingerprint, Seen())) for each in approvals)

    def _card(self, approval: Approval, reviewer: Principal | None, actions: tuple[Event, ...], seen: Seen) -> Card:
        others = tuple(event for event in actions if event.approval != approval.id)[:LAST_ACTIONS]
        why_not = "" if approval.pending else f"it is {approval.state} already"
        if reviewer is not None and not why_not:
            try:
                may_review(approval, reviewer, self._owners)
                if any((vote.issuer, vote.subject) == reviewer.identity for vote in approval.votes):
                    why_not = "you have decided on this already"
            except Denied as error:
                why_not = error.message
        return Card(
            approval,
            approval.deadline - self._clock(),
            quorum_progress(approval),
            others,
            replace(seen, requested=max(0, seen.requested - 1)),
            may_decide=not why_not and reviewer is not None,
            why_not=why_not,
        )


def _called(config: Config, ledger: str) -> str:
    """Processes that name themselves after their gateway keep that name; `cli` gets it here."""
    return ledger if ledger.startswith(config.process_name("")) else config.process_name(ledger)


def quorum_progress(approval: Approval) -> tuple[QuorumProgress, ...]:
    """For each hold rule, who has approved that counts for it, and how many more people it takes."""
    votes = [vote for vote in approval.votes if vote.verdict == "approve"]
    found = []
    for each in approval.requirements:
        people = tuple(dict.fromkeys(vote.identity for vote in votes if not vote.groups.isdisjoint(each.reviewers)))
        found.append(QuorumProgress(each.rule, each.reviewers, each.quorum, people, max(0, each.quorum - len(people))))
    return tuple(found)


def view(ledger: LedgerEvent, who: Principal, what: str, *, session: str = "", **about: Any) -> None:
    """Note in the ledger that somebody looks at a recording, a timeline, an export …, before it is shown. Raises Unavailable."""
    ledger("viewed", by=str(who), what=what, **({"session": session} if session else {}), **about)


def _nodes(edges: Iterable[Hop], name: Callable[[Hop], str]) -> tuple[HopNode, ...]:
    nodes: dict[str, HopNode] = {}
    for hop in edges:
        node = nodes.get(name(hop)) or HopNode(name(hop), hop.first_seen, hop.last_seen, 0, 0, 0)
        nodes[node.name] = HopNode(
            node.name,
            min(node.first_seen, hop.first_seen),
            max(node.last_seen, hop.last_seen),
            node.sessions + hop.sessions,
            node.operations + hop.operations,
            node.denied + hop.denied,
        )
    return tuple(sorted(nodes.values(), key=lambda node: node.name))
