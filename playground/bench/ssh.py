"""The measurements of `scripts/bench ssh`. Each gives lines for the report, and fails when something was not decided or masked."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from playground.bench.measure import Line, median
from playground.bench.placing import apart
from playground.bench.ssh_stage import CIPHER, SECRETS, SshBench, Way
from playground.bench.stage import cpu_seconds, resident_mib
from playground.demo.stage import Failed

PARALLEL: Final = 8
_SLOW: Final = 1_000_000_000
ALL = ("decide", "bulk", "shared", "exec", "parallel", "slow")
PLAIN: Final = b"cat /var/log/syslog 2>/dev/null | grep -c 'error x' | sort | uniq -c | head -n 20"
NESTED: Final = b"bash -c 'cd /srv && bash -c \"ls -l | wc -l\"'"


def _compared(stage: SshBench, rounds: int, measured: Callable[[Way], float]) -> tuple[float, float, float, float]:
    """Both ways in turn, after one turn that only warms up: medians of direct / hopgate, of each in seconds, and of the relay's CPU."""
    took: dict[str, list[float]] = {way.name: [] for way in stage.ways}
    pid, used = stage.relay_pid(), []
    for turn in range(rounds + 1):
        for way in stage.ways if turn % 2 else reversed(stage.ways):
            before = cpu_seconds(pid)
            seconds = measured(way)
            if turn:
                took[way.name].append(seconds)
                if way.name == "hopgate":
                    used.append(cpu_seconds(pid) - before)
    ratio = statistics.median(direct / ours for direct, ours in zip(took["direct"], took["hopgate"], strict=True))
    return ratio, statistics.median(took["direct"]), statistics.median(took["hopgate"]), statistics.median(used)


def bulk(stage: SshBench, rounds: int) -> Iterator[Line]:
    """Big files, where the gateway has a core that the two ends do not use: as on a machine of its own."""
    with apart(stage.host.pid, stage.gateway_process.pid) as placed:
        if placed:
            yield from _files(stage, rounds, "the two ends on one core, direct as well; the gateway on another")
        else:
            yield Line("big files with a core for the gateway", "skipped: there is one core only")


def shared(stage: SshBench, rounds: int) -> Iterator[Line]:
    """Big files, where all three processes take what cores they find: on two of them the gateway's work is taken from the ends'."""
    yield from _files(stage, rounds, "all processes on all cores")


def _files(stage: SshBench, rounds: int, where: str) -> Iterator[Line]:
    """Big files, down and up: by exec (masked and recorded), by sftp and by scp."""
    size, big = stage.mebibytes, str(stage.big)
    yield Line(f"{size} MiB with {CIPHER} on both legs, {rounds} alternating rounds; {where}", "")

    def exec_down(way: Way) -> float:
        _count(stage, way, execs=1, secrets=SECRETS)
        return stage.timed(way, ["ssh", *way.options, way.address, f"cat {big}"])

    def exec_up(way: Way) -> float:
        _count(stage, way, execs=1)
        with stage.big.open("rb") as file:
            return stage.timed(way, ["ssh", *way.options, way.address, "cat >/dev/null"], file)

    def sftp_down(way: Way) -> float:
        _count(stage, way, downloads=1)
        return stage.timed(way, ["scp", "-s", "-q", *way.options, f"{way.address}:{big}", "/dev/null"])

    def sftp_up(way: Way) -> float:
        _count(stage, way, uploads=1)
        return stage.timed(way, ["scp", "-s", "-q", *way.options, big, f"{way.address}:{stage.host.srv}/up"])

    def scp_down(way: Way) -> float:
        _count(stage, way, execs=1)
        return stage.timed(way, ["scp", "-O", "-q", *way.options, f"{way.address}:{big}", "/dev/null"])

    runs: tuple[tuple[str, Callable[[Way], float], float], ...] = (
        ("download by exec, masked and recorded", exec_down, 0.9),
        ("upload by exec", exec_up, 0.8),
        ("download by sftp", sftp_down, 0.9),
        ("upload by sftp", sftp_up, 0.8),
        ("download by scp -O", scp_down, 0.9),
    )
    for what, measured, target in runs:
        ratio, direct, ours, used = _compared(stage, rounds, measured)
        value = f"{ratio:.2f} ({size / ours:.0f} of {size / direct:.0f} MiB/s; relay CPU {used:.2f} s)"
        yield Line(f"{what} / direct", value, f">= {target}", ratio >= target)
    stage.check()
    yield Line("decided and masked", f"{stage.done()}: all", "all", True)


def execs(stage: SshBench, rounds: int, times: int = 10) -> Iterator[Line]:
    """Commands over fresh connections."""

    def fresh(way: Way) -> float:
        _count(stage, way, execs=times)
        return sum(stage.timed(way, ["ssh", *way.options, way.address, "true"]) for _ in range(times))

    ratio, direct, ours, used = _compared(stage, rounds, fresh)
    value = f"{ratio:.2f} ({ours / times * 1e3:.0f} ms and {direct / times * 1e3:.0f} ms each; relay CPU {used / times * 1e3:.1f} ms)"
    yield Line("a command over a fresh connection / direct", value, ">= 0.9", ratio >= 0.9)
    stage.check()


def parallel(stage: SshBench, rounds: int, times: int = 10) -> Iterator[Line]:
    """Commands of one connection, `PARALLEL` at a time."""
    masters = [_master(stage, way) for way in stage.ways]

    def shared(way: Way) -> float:
        _count(stage, way, execs=PARALLEL * times)
        words = ["ssh", "-o", f"ControlPath={stage.agent}/{way.name}", *way.options, way.address, "true"]

        def several() -> None:
            for _ in range(times):
                stage.timed(way, words)

        started = time.perf_counter()
        with ThreadPoolExecutor(PARALLEL) as pool:
            for done in [pool.submit(several) for _ in range(PARALLEL)]:
                done.result()
        return time.perf_counter() - started

    try:
        ratio, direct, ours, used = _compared(stage, rounds, shared)
    finally:
        for master in masters:
            master.terminate()
            master.wait()
    count = PARALLEL * times
    value = f"{ratio:.2f} ({count / ours:.0f} of {count / direct:.0f} a second; relay CPU {used / count * 1e3:.1f} ms each)"
    yield Line(f"{PARALLEL} parallel commands on one connection / direct", value, ">= 0.6", ratio >= 0.6)
    stage.check()


def slow(stage: SshBench) -> Iterator[Line]:
    """A client that reads 1 GB slowly: what piles up in the relay."""
    pid, way = stage.relay_pid(), stage.through
    _count(stage, way, execs=1)
    first, peak, seen = resident_mib(pid), 0.0, 0
    words = ["ssh", *way.options, way.address, f"head -c {_SLOW} /dev/zero"]
    process = subprocess.Popen(words, env=dict(way.environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)  # noqa: S603
    assert process.stdout is not None
    time.sleep(3)  # nobody reads at all
    while data := process.stdout.read(1 << 20):
        seen += len(data)
        if seen % (64 << 20) < 1 << 20:
            peak = max(peak, resident_mib(pid) - first)
            time.sleep(0.1)
    process.wait()
    if seen != _SLOW:
        raise Failed(f"of {_SLOW} bytes only {seen} came")
    yield Line(f"{seen / 1e9:.2f} GB to a slow reader: RSS at most", f"{peak:+.1f} MiB", "< 32 MiB", peak < 32)


def decide(stage: SshBench) -> Iterator[Line]:
    """Commands: read and decided for the first time, and again."""
    from hopgate.sessions import judge
    from rules.load import load_rules
    from rules.model import Connection, Principal
    from rules.shell.command import operation_of

    loaded = load_rules([("bench.yaml", stage.rules)], reviewers=("ops",), issuers=("local",))
    who, where = Principal("local", "agent-7", frozenset({"agents"})), Connection("build-host", "ssh", {"env": "demo"})
    for what, command in (("uptime", b"uptime"), ("a pipeline of 5", PLAIN), ("bash -c in bash -c", NESTED)):
        alone = median(lambda command=command: operation_of(command)) * 1e6  # type: ignore[misc]
        whole = median(lambda command=command: judge(operation_of(command), who, where, loaded)) * 1e6  # type: ignore[misc]
        value = f"{alone:.0f} us, {whole:.0f} us with the decision"
        yield Line(f"{what}, cold, {len(loaded.rules)} rules", value, "<= 150 us", alone <= 150)
    took = median(lambda: _remembered(PLAIN)) * 1e6
    yield Line("the same again", f"{took:.2f} us", "<= 2 us", took <= 2)


def _remembered(command: bytes) -> object:
    """What the relay does with a command that it knows, before the ledger: its facts, and the decision kept with them."""
    from functools import lru_cache

    from rules.shell.command import operation_of

    global _CACHE
    if _CACHE is None:
        _CACHE = (lru_cache(maxsize=16)(operation_of), {(command, b""): object()})
    read, known = _CACHE
    return read(command, "bash", b""), known.get((command, b""))


_CACHE: tuple[Callable[..., object], dict[tuple[bytes, bytes], object]] | None = None


def _master(stage: SshBench, way: Way) -> subprocess.Popen[bytes]:
    """A connection that others share. Raises Failed."""
    path = stage.agent / way.name
    words = ["ssh", "-M", "-N", "-o", f"ControlPath={path}", *way.options, way.address]
    process = subprocess.Popen(words, env=dict(way.environment), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603
    deadline = time.monotonic() + 30
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"{way.name}: no shared connection")
        time.sleep(0.05)
    return process


def _count(stage: SshBench, way: Way, *, execs: int = 0, uploads: int = 0, downloads: int = 0, secrets: int = 0) -> None:
    """Remember what must be in the ledger."""
    if way.name == "hopgate":
        stage.execs += execs
        stage.uploads += uploads
        stage.downloads += downloads
        stage.secrets += secrets


def runs(stage: SshBench, rounds: int) -> dict[str, Callable[[], Iterator[Line]]]:
    """The measurements by name."""
    return {
        "decide": lambda: decide(stage),
        "bulk": lambda: bulk(stage, rounds),
        "shared": lambda: shared(stage, rounds),
        "exec": lambda: execs(stage, rounds),
        "parallel": lambda: parallel(stage, rounds),
        "slow": lambda: slow(stage),
    }
