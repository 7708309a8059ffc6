"""The measurements of `scripts/bench postgres`. Each gives lines for the report, and fails when something was not decided or masked."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

from playground.bench import wire_client
from playground.bench.measure import Line, median
from playground.bench.postgres_stage import MASKED, ROWS, SESSIONS, PostgresBench, bouncer_program, scripts
from playground.bench.stage import resident_mib
from playground.demo.stage import Failed
from playground.tables import DATABASE

CLIENTS = 8
_SLOW = "SELECT repeat('x', 1000) FROM generate_series(1, {rows})"
_KIB_ROWS = 1_000_000  # about 1 GB
_SETTLE = 15.0  # seconds until the last lines are on disk
ALL = ("decide", "cached", "cpu", "bulk", "slow", "idle")


def cpu(stage: PostgresBench, transactions: int, rounds: int) -> Iterator[Line]:
    """pgbench -S by every way, alternating: CPU of the process in between for one transaction, and throughput."""
    if not bouncer_program():
        yield Line("pgbouncer is not installed (apt install pgbouncer)", "compared with the forwarder only")
    passed = 0
    for mode in ("simple", "prepared"):
        costs: dict[str, list[float]] = {way: [] for way in stage.ways}
        logins: dict[str, list[float]] = {way: [] for way in stage.ways}  # seconds of CPU of a run that does little else
        rates: dict[str, list[float]] = {way: [] for way in stage.ways}
        for turn in range(rounds + 1):
            for way in stage.ways:
                count = max(1, (transactions if turn else transactions // 10) // CLIENTS)  # the first turn only warms up
                ran, used = stage.pgbench(way, "-S", "-M", mode, "-c", str(CLIENTS), "-j", "1", "-t", str(count))
                passed += ran.transactions if way == "hopgate" else 0
                if turn:
                    short, login = stage.pgbench(way, "-S", "-M", mode, "-c", str(CLIENTS), "-j", "1", "-t", "1")
                    passed += short.transactions if way == "hopgate" else 0
                    logins[way].append(login / ran.transactions * 1e6)
                    costs[way].append(used / ran.transactions * 1e6)
                    rates[way].append(ran.per_second)
        for way, found in costs.items():
            cost = f"{statistics.median(found):.1f} us CPU, " if way != "direct" else ""
            yield Line(f"  {mode}, {way}", f"{cost}{statistics.median(rates[way]):.0f} transactions/s")
        if "pgbouncer" in costs:
            ratio = statistics.median(ours / theirs for ours, theirs in zip(costs["hopgate"], costs["pgbouncer"], strict=True))
            ours, theirs = (statistics.median(costs[way]) - statistics.median(logins[way]) for way in ("hopgate", "pgbouncer"))
            value = f"{ratio:.2f}; without the {CLIENTS} logins of each run {ours / theirs:.2f}"
            yield Line(f"{mode}: CPU a transaction, hopgate / pgbouncer", value, "<= 1.6", ratio <= 1.6)
        ahead = statistics.median(ours / theirs for ours, theirs in zip(rates["hopgate"], rates["forwarder"], strict=True))
        yield Line(f"{mode}: transactions/s, hopgate / stock Twisted forwarder", f"{ahead:.2f}", "> 1", ahead > 1)
    decided, recorded = _settled(stage, passed)
    yield Line(
        "decided, recorded", f"{decided}, {recorded} statements of {passed} transactions and what pgbench asks before", "equal", True
    )


def bulk(stage: PostgresBench, rounds: int) -> Iterator[Line]:
    """Whole tables to a client that throws them away: wall time against direct, and rows masked a second of CPU."""
    files = scripts(stage.agent, bulk="SELECT * FROM bulk", bulk_masked="SELECT * FROM bulk_masked")
    took: dict[str, list[float]] = {way: [] for way in stage.ways}
    for turn in range(rounds + 1):
        for way in stage.ways:
            ran, _ = stage.pgbench(way, "-f", str(files["bulk"]), "-t", "2")
            if turn:
                took[way].append(ran.latency)
    for way, found in took.items():
        yield Line(f"  {ROWS} rows of 100 bytes, {way}", f"{statistics.median(found) * 1e3:.0f} ms")
    ratio = statistics.median(ours / direct for ours, direct in zip(took["hopgate"], took["direct"], strict=True))
    yield Line("wall time, hopgate / direct", f"{ratio:.2f}", "<= 1.3", ratio <= 1.3)
    before, times = stage.done()["masked"], 2
    ran, used = stage.pgbench("hopgate", "-f", str(files["bulk_masked"]), "-t", str(times))
    wanted = times * ROWS * MASKED
    _until(lambda: stage.done()["masked"] - before >= wanted, f"of {wanted} values that had to be masked, the ledger counts fewer")
    rate = times * ROWS / max(used, 1e-9) / 1e6
    value = f"{rate:.2f} million rows a second of CPU, {ran.latency * 1e3:.0f} ms"
    yield Line(f"{MASKED} of 5 columns masked, all {wanted} values counted", value, ">= 0.8 million", rate >= 0.8)


def slow(stage: PostgresBench, rows: int = _KIB_ROWS) -> Iterator[Line]:
    """A client that reads 1 GB slowly: what piles up in the relay."""
    pid = stage.relay_pid()
    stream = wire_client.connect(*_address(stage))
    wire_client.query(stream, _SLOW.format(rows=10_000))
    wire_client.drain(stream)
    first, peak = resident_mib(pid), [0.0]
    wire_client.query(stream, _SLOW.format(rows=rows))
    time.sleep(2)  # nobody reads at all

    def look() -> None:
        peak[0] = max(peak[0], resident_mib(pid) - first)

    look()
    seen, _ = wire_client.drain(stream, pause=0.005, look=look)
    stream.close()
    if seen < rows * 1000:
        raise Failed(f"of {rows} rows only {seen} bytes came")
    yield Line(f"{seen / 1e9:.2f} GB to a slow reader: RSS at most", f"{peak[0]:+.1f} MiB", "< 32 MiB", peak[0] < 32)


def idle(stage: PostgresBench, sessions: int = SESSIONS) -> Iterator[Line]:
    """Sessions that have asked one thing and then do nothing."""
    pid = stage.relay_pid()
    address = _address(stage)
    opened = [wire_client.connect(*address)]
    time.sleep(0.5)
    first = resident_mib(pid)
    started = time.perf_counter()
    for _ in range(sessions):
        stream = wire_client.connect(*address)
        wire_client.query(stream, "SELECT 1")
        wire_client.drain(stream)
        opened.append(stream)
    took = time.perf_counter() - started
    growth = resident_mib(pid) - first
    for stream in opened:
        stream.close()
    yield Line(
        f"{sessions} idle sessions: RSS", f"{growth:+.1f} MiB ({took / sessions * 1e3:.1f} ms each to open)", "<= 80 MiB", growth <= 80
    )


def decide(stage: PostgresBench) -> Iterator[Line]:
    """One statement: read and decided for the first time, and again."""
    from hopgate.sessions import judge
    from playground.bench.postgres_stage import RULES, rules
    from rules.load import load_rules
    from rules.model import Connection, Principal
    from rules.sql.postgres import operation_of
    from rules.sql.session import SessionState

    loaded = load_rules([("bench.yaml", rules())], reviewers=("dba",), issuers=("local",))
    who, where = Principal("local", "agent-7", frozenset({"agents"})), Connection("orders-db", "postgres", {"env": "demo"})
    state, number = SessionState(database=DATABASE), 0

    def cold() -> None:
        nonlocal number
        number += 1
        text = b"SELECT abalance FROM pgbench_accounts WHERE aid = %d;" % number
        assert judge(operation_of(text, state), who, where, loaded).allowed

    took = median(cold) * 1e6
    yield Line(f"cold decision of a short SELECT, {RULES} rules, parser included", f"{took:.1f} us", "<= 60 us", took <= 60)


async def _cached(stage: PostgresBench, times: int = 20_000) -> tuple[float, float]:
    """Seconds of one decision that the session knows: without and with its ledger line."""
    from hopgate.config import load_config
    from hopgate.services import Services
    from rules.sql.postgres import operation_of
    from rules.sql.session import SessionState

    config = load_config(stage.config)
    services = await Services.start(config, process="bench")
    try:
        principal = await services.identity.verify(stage.token_text, peer="127.0.0.1")
        target = config.connection("orders-db")
        assert target is not None
        session = await services.sessions.open(principal, target, peer="127.0.0.1")
        operation = operation_of(b"SELECT abalance FROM pgbench_accounts WHERE aid = 1", SessionState(database=DATABASE))
        known = session.authorize_now(operation)
        assert known is not None
        with_line = await _each(lambda: session.authorize_now(operation, known), times)
        with mock.patch.object(type(session), "_write", _no_line):
            return await _each(lambda: session.authorize_now(operation, known), times), with_line
    finally:
        await services.close()


def _passed() -> Callable[[], object]:
    """One call is one statement of pgbench's, with another number than before, on its way from client to server."""
    from relays.postgres.codec import Query
    from relays.postgres.fast_path import Core, Entry

    text = b"SELECT abalance FROM pgbench_accounts WHERE aid = %d;"
    core = Core({}, lambda: float("inf"), lambda: core.take_record() and None)
    core.learn(text % 1, b"\1", Entry(None, b""))
    core.open = True
    messages = itertools.cycle([Query(text % number).build() for number in range(1, 5_000, 7)])

    def call() -> object:
        passed = core.client(next(messages))
        assert passed is not None
        core.take_pending()
        return passed

    return call


def _no_line(*_: object) -> int:
    return 0


async def _each(call: Callable[[], object], times: int) -> float:
    took = []
    for _ in range(times // 1000):
        started = time.perf_counter()
        for _ in range(1000):
            assert call() is not None
        took.append((time.perf_counter() - started) / 1000)
        await asyncio.sleep(0.01)  # for what else runs in the process, the ledger above all
    return statistics.median(took)


def cached(stage: PostgresBench) -> Iterator[Line]:
    """A statement again: recognised by its bytes, as most are; and decided by the session, as those that cannot pass so are."""
    passing = median(_passed())
    yield Line("known statement, to its permit, count and record", f"{passing * 1e6:.1f} us", "<= 2 us", passing <= 2e-6)
    with ThreadPoolExecutor(1) as pool:
        alone, with_line = pool.submit(lambda: asyncio.run(_cached(stage))).result()
    yield Line("decided again by the session", f"{alone * 1e6:.1f} us, {with_line * 1e6:.1f} us with its ledger line")


def _address(stage: PostgresBench) -> tuple[int, str, str, str]:
    port, user, password = stage.ways["hopgate"]
    return port, user, password, DATABASE


def _settled(stage: PostgresBench, transactions: int) -> tuple[int, int]:
    """How many statements were decided and recorded. Raises Failed unless that is all, and the same: pgbench asks a little beforehand."""
    _until(
        lambda: stage.done()["decided"] == stage.recorded() >= transactions,
        lambda: f"of {transactions} transactions, {stage.done()['decided']} statements were decided and {stage.recorded()} recorded",
    )
    return stage.done()["decided"], stage.recorded()


def _until(condition: Callable[[], bool], otherwise: Callable[[], str] | str, seconds: float | None = None) -> None:
    deadline = time.monotonic() + (_SETTLE if seconds is None else seconds)
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(otherwise if isinstance(otherwise, str) else otherwise())
        time.sleep(0.2)


def runs(stage: PostgresBench, transactions: int, rounds: int) -> dict[str, Callable[[], Iterator[Line]]]:
    """The measurements by name."""
    return {
        "decide": lambda: decide(stage),
        "cached": lambda: cached(stage),
        "cpu": lambda: cpu(stage, transactions, rounds),
        "bulk": lambda: bulk(stage, rounds),
        "slow": lambda: slow(stage),
        "idle": lambda: idle(stage),
    }
