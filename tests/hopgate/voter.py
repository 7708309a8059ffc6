"""Another process on the same store: waits for a line on stdin, does one thing, and prints how it ended as JSON.

python -m tests.hopgate.voter STATE decide APPROVAL REVIEWER VERDICT
python -m tests.hopgate.voter STATE spend
python -m tests.hopgate.voter STATE wait APPROVAL
python -m tests.hopgate.voter STATE lock KIND VALUE
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
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
    print(json.dumps({"result": result, "at": time.monotonic()}), flush=True)
    await approvals.close()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
