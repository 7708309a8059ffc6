"""`scripts/bench http`: what the gate costs. Fails when a request was not decided, recorded or masked, or was answered otherwise."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console

from playground.bench import measure
from playground.bench.measure import Line
from playground.bench.stage import Bench
from playground.demo.stage import Failed, free_ports

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
        for name in only:
            console.print(f"[bold]{name}[/]")
            for line in runs[name]():
                mark = {True: "[green]met[/]", False: "[bold red]missed[/]", None: ""}[line.met]
                console.print(f"  {line.what:<70} {line.value}   {line.target} {mark}".rstrip())
    except Failed as error:
        console.print(f"[bold red]failed:[/] {error}")
        return 1
    finally:
        stage.close()
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="measure; fails unless everything was decided, recorded and masked")
    parser.add_argument("what", choices=["http"])
    parser.add_argument("--requests", type=int, default=3000, help="in each round (default 3000)")
    parser.add_argument("--rounds", type=int, default=5, help="of both proxies, alternating (default 5)")
    parser.add_argument("--only", choices=ALL, action="append", help="one measurement; give it again for more")
    options = parser.parse_args(arguments)
    only = set(options.only or ALL)
    return http(options.requests, options.rounds, [name for name in ALL if name in only])  # workers last: it starts several processes


if __name__ == "__main__":
    sys.exit(main())
