"""What a relay says is done, on real sockets with real services; whatever breaks, both sides end and nothing more passes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from hopgate.approvals import Approval
from hopgate.errors import HopgateError, Unavailable
from relays import driver as driver_module
from relays.commands import CLIENT, SERVER, Close, Command, Commands, Connect, Read, Run, Send, Side, Start, Work
from relays.relay import Relay
from relays.wire import ProtocolError
from rules.model import Principal
from tests.relays.plain import PlainRelay
from tests.relays.world import PASSWORD, Target, World, Writer, configure, gateway

DBA = Principal("local", "dora", frozenset({"dba"}), expires_at=4e9, token_id="d" * 64)


async def pending(world: World) -> Approval:
    while not (found := await world.services.store.list_approvals(state="pending")):  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    return found[0]


async def settled(world: World, approval: Approval) -> None:
    """The card is gone, and it is the relay that has taken it back."""
    while (found := await world.services.store.find_approval(approval.id)) is None or found.state == "pending":  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    assert found.state == "withdrawn"


async def until(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


# --- going through


async def test_lines_go_there_and_back_and_are_recorded(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (world, target):
        reader, writer = await world.login()
        for line in (b"get 1\n", b"put 2\n"):
            writer.write(line)
            assert await reader.readline() == b"did " + line
        assert target.lines[1:] == [b"get 1\n", b"put 2\n"]
        writer.close()
        await world.quiet()
        events = await world.ledger()
        titles = [(each["title"], each["effect"]) for each in events if each["event"] == "decided"]
        assert titles == [("open orders", "allow"), ("get", "allow"), ("put", "allow")]
        (recording,) = (world.config.state / "recordings").rglob("*.mitm")
        kept = recording.read_bytes()
        assert b"get 1" in kept
        assert b"put 2" in kept
        assert PASSWORD.encode() not in kept
        assert [each["reason"] for each in events if each["event"] == "session_closed"] == ["the client closed the connection"]


async def test_pipelined_lines_keep_their_order_through_both_ways(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (world, target):
        reader, writer = await world.login()
        lines = [f"{'put' if number % 3 else 'get'} {number}\n".encode() for number in range(60)]
        for line in lines:
            writer.write(line)
        assert [await reader.readline() for _ in lines] == [b"did " + line for line in lines]
        assert target.lines[1:] == lines


async def test_a_denied_line_never_reaches_the_target(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (world, target):
        reader, writer = await world.login()
        writer.write(b"drop all\nget 1\n")
        assert b"nothing is dropped here" in await reader.readline()
        assert await reader.readline() == b"did get 1\n"
        assert target.lines[1:] == [b"get 1\n"]


# --- who and where


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"orders nonsense\n", b"error "),
        (b"orders \n", b"error no token was sent\n"),
        (b"forbidden %s\n", b"error no rule allows this\n"),
        (b"absent %s\n", b"error no rule allows this\n"),
    ],
)
async def test_who_may_not_start_reaches_nothing(tmp_path: Path, line: bytes, said: bytes) -> None:
    async with gateway(tmp_path) as (world, target):
        reader, writer = await world.connect()
        writer.write(line % world.token().encode() if b"%s" in line else line)
        assert (await reader.read()).startswith(said)
        writer.close()
        await world.quiet()
        assert target.writers == []


async def test_a_connection_of_another_kind_is_not_reached(tmp_path: Path) -> None:
    more = [{"name": "nowhere", "kind": "mysql", "target": "127.0.0.1:1", "tls": "disable"}]
    async with gateway(tmp_path, more=more) as (world, _):
        reader, writer = await world.connect()
        writer.write(f"nowhere {world.token()}\n".encode())
        assert await reader.read() == b"error no rule allows this\n"
        assert [each["name"] for each in await world.ledger() if each["event"] == "connection_unknown"] == ["nowhere"]


async def test_a_target_that_does_not_answer_is_told(tmp_path: Path) -> None:
    more = [{"name": "nowhere", "kind": "postgres", "target": "127.0.0.1:1", "tls": "disable"}]
    async with gateway(tmp_path, more=more) as (world, _):
        reader, writer = await world.connect()
        writer.write(f"nowhere {world.token()}\n".encode())
        said = await reader.read()
        assert said.startswith(b"error connection nowhere: ")
        assert b"127.0.0.1" not in said
        writer.close()
        await world.quiet()
        closed = [each["reason"] for each in await world.ledger() if each["event"] == "session_closed"]
        assert closed
        assert closed[0].startswith("connection nowhere: ")


async def test_a_name_that_leads_to_the_metadata_service_is_not_dialled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = [{"name": "nowhere", "kind": "postgres", "target": "db.example:5432", "tls": "disable"}]
    async with gateway(tmp_path, more=more) as (world, _):
        loop = asyncio.get_running_loop()

        async def resolve(*_: object, **__: object) -> list[Any]:
            return [(2, 1, 6, "", ("169.254.169.254", 5432))]

        monkeypatch.setattr(loop, "getaddrinfo", resolve)
        reader, writer = await world.connect()
        writer.write(f"nowhere {world.token()}\n".encode())
        assert b"link-local" in await reader.read()


async def test_a_client_that_never_finishes_start_up_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "STARTUP_SECONDS", 0.1)
    async with gateway(tmp_path) as (world, _):
        reader, writer = await world.connect()
        writer.write(b"orders")
        assert await reader.read() == b"error the client did not finish its start-up in time\n"


async def test_a_target_that_never_finishes_start_up_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "STARTUP_SECONDS", 0.3)
    kept: list[object] = []
    silent = await asyncio.start_server(lambda *ends: kept.extend(ends), "127.0.0.1", 0)
    more = [{"name": "nowhere", "kind": "postgres", "target": f"127.0.0.1:{silent.sockets[0].getsockname()[1]}", "tls": "disable"}]
    async with gateway(tmp_path, more=more) as (world, _):
        reader, writer = await world.connect()
        writer.write(f"nowhere {world.token()}\n".encode())
        assert await reader.read() == b"error the target did not finish the start-up in time\n"
    silent.close()


# --- holds


async def test_a_held_line_runs_once_it_is_approved(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (world, target):
        reader, writer = await world.login()
        writer.write(b"ask 1\nget 2\n")
        approval = await pending(world)
        assert await reader.readline() == f"held {approval.id}\n".encode()
        assert target.lines[1:] == []
        await world.services.approvals.decide(approval.id, DBA, "approve")
        assert [await reader.readline(), await reader.readline()] == [b"did ask 1\n", b"did get 2\n"]


async def test_a_held_line_whose_client_leaves_is_withdrawn_and_never_runs(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (world, target):
        _, writer = await world.login()
        writer.write(b"ask 1\n")
        approval = await pending(world)
        writer.close()
        await world.quiet()
        await settled(world, approval)
        assert target.lines[1:] == []


async def test_a_client_that_fills_the_line_behind_a_hold_and_leaves_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "WATCH_SECONDS", 0.02)
    async with gateway(tmp_path) as (world, target):
        _, writer = await world.login()
        writer.write(b"ask 1\n")
        approval = await pending(world)
        writer.write(b"put 2\n" * 20_000)
        (driver,) = world.outside.drivers
        await until(lambda: driver.pair.legs[CLIENT].paused)  # type: ignore[union-attr]
        assert driver.relay.unread(CLIENT) < 1 << 20
        writer.transport.abort()
        await world.quiet()
        await settled(world, approval)
        assert target.lines[1:] == []


async def test_another_connection_cancels_a_held_line(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (world, target):
        reader, writer = await world.login()
        writer.write(b"ask 1\n")
        approval = await pending(world)
        await reader.readline()
        other, signaller = await world.connect()
        (session,) = world.services.sessions._live
        signaller.write(f"signal {session.id}\n".encode())
        assert await other.read() == b""
        assert await reader.readline() == b"withdrawn\n"
        writer.write(b"get 2\n")
        assert await reader.readline() == b"did get 2\n"
        assert target.lines[1:] == [b"get 2\n"]
        await settled(world, approval)


async def test_a_held_session_is_told_and_starts_when_approved(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (world, target):
        reader, writer = await world.connect()
        writer.write(f"asked {world.token()}\n".encode())
        approval = await pending(world)
        assert await reader.readline() == f"held {approval.id}\n".encode()
        assert target.writers == []
        await world.services.approvals.decide(approval.id, DBA, "approve")
        assert await reader.readline() == b"ready\n"


# --- ends


async def test_a_killed_session_ends_both_sides_and_says_why(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (world, target):
        reader, writer = await world.login()
        (session,) = world.services.sessions._live
        await session.close("killed by an operator")
        assert await reader.read() == b"killed killed by an operator\n"
        await target.ended.wait()
        writer.close()
        await world.quiet()


async def test_a_session_killed_while_its_line_is_held_never_runs_it(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (world, target):
        reader, writer = await world.login()
        writer.write(b"ask 1\n")
        approval = await pending(world)
        (session,) = world.services.sessions._live
        await session.close("killed")
        assert (await reader.read()).endswith(b"killed killed\n")
        await settled(world, approval)
        assert target.lines[1:] == []


async def test_a_token_that_expires_between_two_lines_ends_the_session_before_the_second(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (world, target):
        reader, writer = await world.login()
        now = world.services.sessions.clock()
        world.services.sessions.clock = lambda: now + 7200
        writer.write(b"get 1\n")
        assert b"killed the token has expired\n" in await reader.read()
        assert target.lines[1:] == []


async def test_what_the_target_said_last_arrives_when_it_closes(tmp_path: Path) -> None:
    async def reply(line: bytes, writer: Writer) -> None:
        writer.write(b"x" * 3_000_000 + b"bye\n")
        writer.close()

    async with gateway(tmp_path) as (world, target):
        target.reply = reply
        reader, writer = await world.login()
        writer.write(b"get 1\n")
        assert (await reader.read()).endswith(b"xbye\n")


async def test_a_closed_client_that_never_leaves_is_aborted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "LINGER_SECONDS", 0.1)
    async with gateway(tmp_path) as (world, target):
        reader, _writer = await world.login()
        target.writers[0].transport.abort()
        assert await reader.read() == b""  # and our own direction stays open
        await world.quiet()


# --- failing closed


@pytest.mark.parametrize("way", [b"pass", b"slow"])
async def test_a_defect_in_the_relay_ends_both_sides(tmp_path: Path, way: bytes) -> None:
    async def reply(line: bytes, writer: Writer) -> None:
        writer.write(b"crash " + way + b"\n")

    async with gateway(tmp_path) as (world, target):
        target.reply = reply
        reader, writer = await world.login()
        writer.write(b"get 1\n")
        assert await reader.read() == b"error the gateway failed to relay this\n"
        await target.ended.wait()
        assert target.lines[1:] == [b"get 1\n"]


@pytest.mark.parametrize("gate", ["authorize_now", "authorize"])
async def test_a_gate_that_raises_lets_nothing_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: str) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise ZeroDivisionError("secret in the text")

    async with gateway(tmp_path) as (world, target):
        reader, writer = await world.login()
        monkeypatch.setattr(f"hopgate.sessions.session.Session.{gate}", broken)
        writer.write(b"get 1\n" if gate == "authorize_now" else b"put 1\n")
        said = await reader.read()
        assert said == b"error the gateway failed to relay this\n"
        assert target.lines[1:] == []


async def test_a_recording_that_cannot_be_written_ends_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise Unavailable("recording: no space left on device")

    monkeypatch.setattr("relays.transcript.FLUSH_BYTES", 1)
    async with gateway(tmp_path) as (world, target):
        reader, writer = await world.login()
        monkeypatch.setattr("hopgate.recordings.Recording.append", full)
        writer.write(b"get 1\nget 2\n")
        assert b"killed recording: no space left on device\n" in await reader.read()
        assert target.lines[1:] in ([], [b"get 1\n"])


async def test_a_refusal_that_cannot_be_said_still_ends_both_sides(tmp_path: Path) -> None:
    class Silent(PlainRelay):
        def refused(self, error: ProtocolError | HopgateError) -> Iterable[Command]:
            raise ZeroDivisionError

    async def reply(line: bytes, writer: Writer) -> None:
        writer.write(b"crash slow\n")

    async with Target() as target, World(configure(tmp_path, target.port), Silent) as world:
        target.reply = reply
        reader, writer = await world.login()
        writer.write(b"get 1\n")
        with contextlib.suppress(ConnectionError):  # closed or reset: both are an end
            assert await reader.read() == b""
        await target.ended.wait()


# --- beside


class Beside(PlainRelay):
    """`get beside` is asked on a connection of its own; `get work` runs a function."""

    def pass_client(self, data: bytes) -> bytes | None:
        return None

    def _operation(self, line: bytes) -> Commands:
        if line == b"get beside":
            try:
                answer = yield Run(Question())
            except (HopgateError, ProtocolError) as error:
                answer = error.message.encode() + b"\n"
            yield Send(CLIENT, answer)
        elif line == b"get started":
            yield Start(Question())
        elif line.startswith(b"get work"):
            try:
                result = yield Work(lambda: 1 // int(line[8:]))
            except ZeroDivisionError:
                result = "nothing"
            yield Send(CLIENT, f"{result}\n".encode())
        else:
            yield from super()._operation(line)


class Question(Relay):
    """Logs in and asks one thing."""

    def conversation(self) -> Commands:
        yield Connect()
        yield Send(SERVER, f"login app:{PASSWORD}\n".encode())
        yield Read(SERVER)
        yield Send(SERVER, b"question\n")
        answer = yield Read(SERVER)
        if not answer:
            raise Unavailable("the target left")
        return answer

    def received(self, side: Side, data: bytes) -> Commands:
        yield Close()


async def test_conversations_beside_have_a_connection_of_their_own(tmp_path: Path) -> None:
    async with Target() as target, World(configure(tmp_path, target.port), Beside) as world:
        reader, writer = await world.login()
        writer.write(b"get beside\nget work1\nget work0\nget 1\n")
        lines = [await reader.readline() for _ in range(4)]
        assert lines == [b"did question\n", b"1\n", b"nothing\n", b"did get 1\n"]
        assert len(target.writers) == 2
        writer.write(b"get started\n")
        await until(lambda: target.lines.count(b"question\n") == 2)
        await until(lambda: len(world.outside.drivers) == 1)


async def test_a_conversation_beside_that_is_cut_off_fails(tmp_path: Path) -> None:
    async def reply(line: bytes, writer: Writer) -> None:
        writer.close()

    async with Target() as target, World(configure(tmp_path, target.port), Beside) as world:
        reader, writer = await world.login()
        target.reply = reply
        writer.write(b"get beside\n")
        assert await reader.readline() == b"the target left\n"
