"""`scripts/bench http|postgres|ssh|console`: what it costs. Fails when something was not decided, recorded or masked, or went wrong."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich.console import Console

from playground.bench import measure, postgres, ssh
from playground.bench.console import EVENTS, ConsoleBench
from playground.bench.console import measured as console_measured
from playground.bench.measure import Line
from playground.bench.postgres_stage import PostgresBench
from playground.bench.ssh_stage import SshBench
from playground.bench.stage import Bench
from playground.demo.database import relay_missing
from playground.demo.stage import Failed, free_ports
from playground.sshd import Unavailable, missing

ALL = ("decide", "mask", "cpu", "approval", "memory", "workers")


def workers(stage: Bench, requests: int) -> Iterator[Line]:
    """Throughput of one and of several processes on one port."""
    rates = []
    counts = sorted({1, 2, min(4, os.cpu_count() or 1)})
    for count in counts:
        stage.stop_gateway()
        stage.start_gateway(count)
        token = stage.token("agent-7", "agents")
        stage.load(stage.proxy, 400, token=token, connections=32)
        answered = stage.load(stage.proxy, requests, token=token, connections=32)
        if answered is None or answered["statuses"] != {"200": requests}:
            raise Failed(f"{count} processes: not every request was answered with 200: {answered}")
        rates.append(requests / answered["seconds"])
        yield Line(f"{count} process{'es' if count > 1 else ''}", f"{rates[-1]:.0f} requests/s ({rates[-1] / rates[0]:.2f} times one)")
    yield Line("", f"on {os.cpu_count()} cores that target and load generator use too")


def http(requests: int, rounds: int, only: Sequence[str]) -> int:
    console, stage = Console(highlight=False, soft_wrap=True), Bench()
    runs: dict[str, Callable[[], Iterator[Line]]] = {
        "decide": lambda: measure.decide(stage),
        "mask": lambda: measure.mask(stage),
        "cpu": lambda: measure.cpu(stage, requests, rounds),
        "approval": lambda: measure.approval(stage),
        "memory": lambda: measure.memory(stage),
        "workers": lambda: workers(stage, requests),
    }
    try:
        if set(only) & {"cpu", "approval", "memory", "workers"}:
            stage.open()
        if "cpu" in only:
            stage.start_stock(free_ports(1)[0])
        measured(console, runs, only)
    except Failed as error:
        console.print(f"[bold red]failed:[/] {error}")
        return 1
    finally:
        stage.close()
    return 0


def measured(console: Console, runs: Mapping[str, Callable[[], Iterator[Line]]], only: Sequence[str]) -> None:
    """Each measurement's lines, as they come. Raises Failed."""
    for name in only:
        console.print(f"[bold]{name}[/]")
        for line in runs[name]():
            mark = {True: "[green]met[/]", False: "[bold red]missed[/]", None: ""}[line.met]
            console.print(f"  {line.what:<70} {line.value}   {line.target} {mark}".rstrip())


def over_postgres(transactions: int, rounds: int, only: Sequence[str]) -> int:
    console = Console(highlight=False, soft_wrap=True)
    if missing := relay_missing():
        console.print(f"skipped: {missing}")
        return 0
    stage = PostgresBench()
    try:
        stage.open()
        measured(console, postgres.runs(stage, transactions, rounds), only)
    except Failed as error:
        console.print(f"[bold red]failed:[/] {error}")
        return 1
    finally:
        stage.close()
    return 0


def over_ssh(mebibytes: int, rounds: int, only: Sequence[str]) -> int:
    console = Console(highlight=False, soft_wrap=True)
    if reason := missing():
        console.print(f"skipped: {reason}")
        return 0
    stage = SshBench(mebibytes)
    try:
        stage.open()
        measured(console, ssh.runs(stage, rounds), only)
    except (Failed, Unavailable) as error:
        console.print(f"[bold red]failed:[/] {error}")
        return 1
    finally:
        stage.close()
    return 0


def over_console(events: int, rounds: int, only: Sequence[str]) -> int:
    console, bench = Console(highlight=False, soft_wrap=True), ConsoleBench(events)
    try:
        runs: dict[str, Callable[[], Iterator[Line]]] = {"past": bench.fill, "console": lambda: _started(bench)}
        measured(console, runs, list(runs))
    except Failed as error:
        console.print(f"[bold red]failed:[/] {error}")
        return 1
    finally:
        bench.close()
    return 0


def _started(bench: ConsoleBench) -> Iterator[Line]:
    bench.start()
    yield from console_measured(bench)


# name -> what can be measured, its default number for --requests and for --rounds, the run
type Run = Callable[[int, int, Sequence[str]], int]
BENCHES: dict[str, tuple[tuple[str, ...], int, int, Run]] = {
    "http": (ALL, 3_000, 5, http),
    "postgres": (postgres.ALL, 80_000, 3, over_postgres),  # a login costs as much as 500 transactions: enough of them to count those
    "ssh": (ssh.ALL, 256, 5, over_ssh),
    "console": ((), EVENTS, 1, over_console),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="measure; fails unless everything was decided, recorded and masked")
    parser.add_argument("what", choices=list(BENCHES))
    parser.add_argument(
        "--requests",
        type=int,
        help="in each round: requests (3000), transactions (80000), MiB of ssh (256); ledger events of console (1000000)",
    )
    parser.add_argument("--rounds", type=int, help="of all that is compared, alternating (default 5; postgres 3)")
    parser.add_argument(
        "--only",
        choices=list(dict.fromkeys(name for names, *_ in BENCHES.values() for name in names)),
        action="append",
        help="one measurement; give it again for more",
    )
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopping it any way stops what it started
    names, requests, rounds, run = BENCHES[options.what]
    if options.only and not set(options.only) <= set(names):
        parser.error(f"{options.what} measures {', '.join(names) if names else 'everything in one go'}")
    try:
        # in their own order, workers last: it starts several processes
        return run(
            options.requests or requests, options.rounds or rounds, [name for name in names if not options.only or name in options.only]
        )
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
