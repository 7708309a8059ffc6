"""The single measurements. Each gives lines for the report: what, value, target, whether it was met."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from playground.bench.stage import Bench, cpu_seconds, done_by, expected, resident_mib, rules
from playground.demo.stage import Failed


@dataclass(frozen=True, slots=True)
class Line:
    """One result. `met` None = there is no target."""

    what: str
    value: str
    target: str = ""
    met: bool | None = None


def cpu(stage: Bench, requests: int, rounds: int) -> Iterator[Line]:
    """CPU a request of the proxy process, ours against stock mitmdump without addons, runs alternating."""
    token = stage.token("agent-7", "agents")
    (ours,) = stage.worker_pids()
    before = done_by(stage.state)
    sent = 0
    costs: dict[str, list[float]] = {"stock": [], "hopgate": []}
    for turn in range(rounds + 1):
        for name, pid, port, direct in (("stock", stage.stock_pid, stage.stock, True), ("hopgate", ours, stage.proxy, False)):
            count = requests if turn else max(200, requests // 10)  # the first turn only warms up
            start = cpu_seconds(pid)
            answered = stage.load(port, count, token="" if direct else token, direct=direct)
            if answered is None or answered["statuses"] != {"200": count}:
                raise Failed(f"{name}: not every request was answered with 200: {answered}")
            sent += 0 if direct else count
            if turn:
                costs[name].append((cpu_seconds(pid) - start) / count * 1e3)
                yield Line(f"  round {turn}, {name}", f"{costs[name][-1]:.3f} ms CPU, {count / answered['seconds']:.0f} requests/s")
    settled = _settled(stage, before, sent)
    if settled != expected(sent):
        raise Failed(f"of {sent} requests: {settled}, expected {expected(sent)}")
    ratio = statistics.median(ours / stock for ours, stock in zip(costs["hopgate"], costs["stock"], strict=True))
    yield Line("CPU a request, hopgate / stock mitmdump", f"{ratio:.2f}", "<= 0.75", ratio <= 0.75)
    yield Line(
        "decided, recorded, masked",
        f"{settled['decided']}, {settled['recorded']}, {settled['masked']} of {sent} requests: all",
        "all",
        True,
    )


def _settled(stage: Bench, before: dict[str, int], sent: int) -> dict[str, int]:
    """What was done since `before`, once the last lines are on disk."""
    for _ in range(100):
        now = done_by(stage.state)
        found = {name: now[name] - before[name] for name in now}
        if all(found[name] >= count for name, count in expected(sent).items()):
            break
        time.sleep(0.1)
    return found


def decide(_: Bench) -> Iterator[Line]:
    """Time of one decision with 100 rules that apply to the connection."""
    from hopgate.sessions import judge
    from rules.http import HttpFacts, request_operation
    from rules.load import load_rules
    from rules.model import Connection, Principal

    loaded = load_rules([("bench.yaml", rules())], reviewers=("finance",), issuers=("local",))
    who, where = Principal("local", "agent-7", frozenset({"agents"})), Connection("billing", "http", {"env": "demo"})
    headers = [("Host", "billing.internal"), ("Accept", "application/json")]

    def once() -> None:
        facts = HttpFacts("GET", "http", "billing.internal", 80, "/v1/customers?page=2", headers, b"")
        assert judge(request_operation(facts), who, where, loaded).allowed

    def alone() -> None:
        request_operation(HttpFacts("GET", "http", "billing.internal", 80, "/v1/customers?page=2", headers, b""))

    took, facts = median(once) * 1e6, median(alone) * 1e6
    yield Line(
        f"decide with {len(loaded.rules)} rules (facts of the request: {facts:.1f} us more)",
        f"{took - facts:.1f} us",
        "<= 10 us",
        took - facts <= 10,
    )


def mask(_: Bench) -> Iterator[Line]:
    """Masking 1 MB of JSON with `$..password`, against parsing it alone."""
    import orjson

    from rules.masking import compile_plan
    from rules.model import Mask

    record = {"id": 1, "name": "Ada", "password": "correct horse", "tags": ["a", "b"], "nested": {"x": 1.5, "y": None, "z": True}}
    rows = [{**record, "id": number, "email": f"user{number}@customers.example"} for number in range(6500)]
    data = orjson.dumps({"rows": rows})
    plan = compile_plan((Mask("hide", jsonpath=("$..password",)),))
    masked = plan.body("application/json", data)
    if sum(masked.counts.values()) != len(rows):
        raise Failed(f"masked {masked.counts}, expected {len(rows)}")
    parse, whole = median(lambda: orjson.loads(data), 15), median(lambda: plan.body("application/json", data), 15)
    yield Line(
        f"mask {len(data) / 1e6:.2f} MB of JSON / orjson.loads ({parse * 1e3:.1f} ms)",
        f"{whole / parse:.2f}",
        "<= 2.5",
        whole / parse <= 2.5,
    )
    small = orjson.dumps({"rows": rows[:6]})
    yield Line(f"mask {len(small)} bytes of JSON", f"{median(lambda: plan.body('application/json', small), 500) * 1e6:.0f} us")


def memory(stage: Bench, requests: int = 20_000) -> Iterator[Line]:
    """Resident memory of the proxy over many requests."""
    token = stage.token("agent-7", "agents")
    (pid,) = stage.worker_pids()
    stage.load(stage.proxy, 2_000, token=token)
    first = resident_mib(pid)
    answered = stage.load(stage.proxy, requests, token=token)
    if answered is None or answered["statuses"] != {"200": requests}:
        raise Failed(f"not every request was answered with 200: {answered}")
    last = resident_mib(pid)
    growth = (last - first) / first
    yield Line(
        f"RSS after 2000 and {requests} more requests", f"{first:.0f} and {last:.0f} MiB ({growth:+.1%})", "<= +10 %", growth <= 0.10
    )


def approval(stage: Bench, times: int = 15) -> Iterator[Line]:
    """From a decision in this process to the answer of the request that waits in the gateway's."""
    took = asyncio.run(_approvals(stage, times))
    value = f"median {statistics.median(took) * 1e3:.0f} ms, longest {max(took) * 1e3:.0f} ms"
    yield Line(f"an approved request resumes ({times} times, target's answer included)", value, "<= 50 ms", statistics.median(took) <= 0.05)


async def _approvals(stage: Bench, times: int) -> list[float]:
    import base64

    from hopgate.approvals import Approvals
    from hopgate.config import load_config
    from hopgate.store import Store
    from rules.model import Principal

    config = load_config(stage.config)
    store = await Store.open(stage.state)
    basic = base64.b64encode(f"agent:{stage.token('agent-7', 'agents')}".encode()).decode()
    reviewer = Principal("local", "alice", frozenset({"finance"}), expires_at=time.time() + 600)
    took = []
    for number in range(times):
        body = json.dumps({"customer": 1, "amount": number}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.proxy)
        head = f"POST http://billing.internal/v1/refunds HTTP/1.1\r\nHost: billing.internal\r\nProxy-Authorization: Basic {basic}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        while not (pending := await store.list_approvals("pending")):  # noqa: ASYNC110 another process writes it
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        await Approvals(store, config.approvals).decide(pending[0].id, reviewer, "approve")
        decided = time.perf_counter()
        answer = await reader.readuntil(b"\r\n")
        took.append(time.perf_counter() - decided)
        if b" 200 " not in answer:
            raise Failed(f"the approved request was answered with {answer.decode().strip()}")
        writer.close()
    await store.close()
    return took


def median(call: Callable[[], object], times: int = 3000) -> float:
    """Seconds of one call. Short ones are measured one by one: the median does not see the collector."""
    call()
    took = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        took.append(time.perf_counter() - start)
    return statistics.median(took)
