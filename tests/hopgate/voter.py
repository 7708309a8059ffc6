"""Another process on the same store. For each line on stdin, a JSON list, it opens the store, says that it is ready, waits for another
line, does one thing, and prints how it ended as JSON.

[STATE, "decide", APPROVAL, REVIEWER, VERDICT]
[STATE, "spend"]
[STATE, "wait", APPROVAL]               waits for no other line
[STATE, "lock", KIND, VALUE]
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from hopgate.approvals import Approvals
from hopgate.errors import HopgateError
from hopgate.store import Store
from tests.hopgate.people import AGENT, ALICE, BOB, CAROL, EXACT, Clock, Settings

REVIEWERS = {"alice": ALICE, "bob": BOB, "carol": CAROL}


async def act(approvals: Approvals, store: Store, what: str, words: list[str]) -> Any:
    match what, *words:
        case "decide", approval, reviewer, verdict:
            return (await approvals.decide(approval, REVIEWERS[reviewer], verdict)).state  # type: ignore[arg-type]
        case "spend", *_:
            spent = await approvals.spend(AGENT, "orders", EXACT)
            return spent.state if spent else None
        case "wait", approval:
            return (await approvals.wait(approval)).state
        case "lock", kind, value:
            await store.lock(kind, value, "corp:ops", "test")  # type: ignore[arg-type]
            return "locked"
    raise ValueError(what)


async def main(state: str, what: str, *words: str) -> None:
    store = await Store.open(state if state.startswith("postgresql") else Path(state))
    approvals = Approvals(store, Settings(), Clock(), process=f"voter-{what}")
    await approvals.start()
    print("ready", flush=True)
    if what != "wait":
        await asyncio.to_thread(sys.stdin.readline)
    try:
        result = await act(approvals, store, what, list(words))
    except HopgateError as error:
        result = type(error).__name__
    await approvals.close()
    await store.close()
    print(json.dumps({"result": result}), flush=True)


if __name__ == "__main__":
    for line in iter(sys.stdin.readline, ""):
        asyncio.run(main(*json.loads(line)))
