"""The ledger: append, durable, continue, fail."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hopgate import ledger as module
from hopgate.errors import Misconfigured, Unavailable
from hopgate.ledger import Ledger, append_once, ledger_key
from hopgate.ledger_format import Head, link
from hopgate.ledger_keys import public_key


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_events_are_numbered_and_chained_and_the_close_is_signed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    assert ledger.append("decided", effect="allow", rules={"b", "a"}) == 1
    ledger.close()
    written = lines(ledger.path)
    assert [(line["i"], line["event"]) for line in written] == [(0, "started"), (1, "decided"), (2, "checkpoint")]
    assert written[1]["rules"] == ["a", "b"]
    assert written[2]["final"] is True
    assert all(list(line)[-1] == "h" for line in written)


async def test_durable_returns_when_the_line_is_in_the_file(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    ledger.append("decided")
    await ledger.durable()
    assert [line["event"] for line in lines(ledger.path)] == ["started", "decided", "checkpoint"]
    ledger.close()


async def test_callers_that_come_together_share_checkpoints(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))

    async def one() -> None:
        await ledger.durable(ledger.append("decided"))

    await asyncio.gather(*(one() for _ in range(50)))
    ledger.close()
    written = [line["event"] for line in lines(ledger.path)]
    assert written.count("decided") == 50
    assert written.count("checkpoint") <= 4


async def test_what_nobody_waits_for_is_written_soon(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    ledger.append("decided")
    for _ in range(200):
        if any(line["event"] == "decided" for line in lines(ledger.path)):
            break
        await asyncio.sleep(0.02)
    assert lines(ledger.path)[-1]["event"] == "checkpoint"
    ledger.close()


def test_a_ledger_has_one_writer(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    with pytest.raises(Unavailable, match="another process writes this ledger"):
        Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    ledger.close()
    Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path)).close()


def test_a_look_at_the_lock_does_not_keep_a_gateway_from_starting(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path)).close()
    with (tmp_path / "ledger/gateway-0.ndjson").open("rb") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_SH)
        threading.Timer(0.03, fcntl.flock, (file.fileno(), fcntl.LOCK_UN)).start()
        Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path)).close()


def test_another_key_does_not_continue_a_ledger(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path)).close()
    with pytest.raises(Misconfigured, match="not signed with"):
        Ledger(tmp_path / "ledger", "gateway-0", Ed25519PrivateKey.generate())


def test_programs_of_a_moment_continue_one_chain(tmp_path: Path) -> None:
    append_once(tmp_path, "secret_set", name="a")
    append_once(tmp_path, "secret_set", name="b")
    assert [(line["i"], line["event"]) for line in lines(tmp_path / "ledger" / "cli.ndjson")] == [
        (0, "secret_set"),
        (1, "checkpoint"),
        (2, "secret_set"),
        (3, "checkpoint"),
    ]


async def test_heads_are_reported_once_a_second_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_SECONDS", 0.05)
    heads: list[Head] = []
    key = ledger_key(tmp_path)
    ledger = Ledger(tmp_path / "ledger", "gateway-0", key, on_head=heads.append)
    for _ in range(5):
        await ledger.durable(ledger.append("decided"))
    for _ in range(100):
        if heads:
            break
        await asyncio.sleep(0.01)
    assert heads == [ledger.head]
    assert heads[0].signed_by(key.public_key())
    assert not heads[0].signed_by(Ed25519PrivateKey.generate().public_key())
    ledger.close()
    assert ledger.head
    assert ledger.head.final


@pytest.mark.parametrize("step", ["write", "fdatasync"])
@pytest.mark.parametrize("short", [False, True])
async def test_a_disk_that_refuses_ends_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, short: bool) -> None:
    reasons: list[str] = []
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path), on_failure=reasons.append)
    await ledger.durable()
    size = ledger.path.stat().st_size
    real = os.write

    def fail(fd: int, data: bytes = b"") -> int:
        if short and len(data) > 20:
            return real(fd, data[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, fail)
    ledger.append("decided")
    waiting = [asyncio.ensure_future(ledger.durable()) for _ in range(3)]
    for waiter in waiting:
        with pytest.raises(Unavailable, match="ledger gateway-0 cannot be written: no space left on device"):
            await waiter
    monkeypatch.undo()
    for again in (lambda: ledger.append("decided"), lambda: asyncio.run(ledger.durable())):
        with pytest.raises(Unavailable, match="no space left"):
            await asyncio.to_thread(again)
    assert reasons == ["ledger gateway-0 cannot be written: no space left on device"]
    ledger.close()
    assert ledger.path.stat().st_size == size  # no half batch


def test_a_disk_that_refuses_at_the_close_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    monkeypatch.setattr(os, "fdatasync", lambda fd: (_ for _ in ()).throw(OSError(errno.EIO, os.strerror(errno.EIO))))
    with pytest.raises(Unavailable, match="input/output error"):
        ledger.close()


async def test_nothing_is_written_behind_a_batch_that_was_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    await ledger.durable()
    size, real, calls = ledger.path.stat().st_size, os.write, [0]

    def fail_once(fd: int, data: bytes) -> int:
        if data.startswith(b'{"i":') and not calls[0]:
            calls[0] += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data)

    monkeypatch.setattr(os, "write", fail_once)
    waiting = asyncio.ensure_future(ledger.durable(ledger.append("decided")))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="no space left"):
        ledger.close()  # before the loop has heard of the refusal
    with pytest.raises(Unavailable, match="no space left"):
        await waiting
    assert (ledger.path.stat().st_size, calls) == (size, [1])


async def test_a_cancelled_waiter_disturbs_nobody(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    ledger.append("decided")
    first, second = asyncio.ensure_future(ledger.durable()), asyncio.ensure_future(ledger.durable())
    await asyncio.sleep(0)
    first.cancel()
    await second
    ledger.close()


async def test_close_answers_those_who_wait(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    await ledger.durable()
    waiting = asyncio.ensure_future(ledger.durable(ledger.append("decided")))
    await asyncio.sleep(0)
    ledger.close()
    await waiting
    assert [line["event"] for line in lines(ledger.path)][-1] == "checkpoint"
    with pytest.raises(Unavailable, match="is closed"):
        ledger.append("decided")
    ledger.close()


TORN = [
    b"x",
    b'{"i":2,"t":1,"event":"forged"',
    b'{"i":2,"t":1,"event":"forged","h":"' + b"0" * 64 + b'"}\n',
    b"\n\n\n",
    b"x" * 200_000 + b"\n",
]


@pytest.mark.parametrize("junk", TORN)
def test_what_was_never_signed_is_moved_away_at_the_next_start(tmp_path: Path, junk: bytes) -> None:
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    ledger.close()
    with ledger.path.open("ab") as file:
        file.write(junk)
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    ledger.close()
    written = lines(ledger.path)
    assert [line["i"] for line in written] == [0, 1, 2, 3]
    assert written[2]["torn"]["bytes"] == len(junk)
    assert [path.read_bytes() for path in ledger.path.parent.glob("gateway-0.*.torn")] == [junk]


@pytest.mark.parametrize("left", [0, 1, 100])
def test_a_first_batch_that_was_torn_begins_again(tmp_path: Path, left: int) -> None:
    Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path)).close()
    path = tmp_path / "ledger/gateway-0.ndjson"
    os.truncate(path, left)
    Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path)).close()
    assert [line["i"] for line in lines(path)] == [0, 1]


def test_a_forged_checkpoint_is_not_continued(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    ledger.close()
    last = lines(ledger.path)[-1]
    body = json.dumps({"i": 2, "t": 1, "event": "checkpoint", "final": True, "signature": last["signature"]}, separators=(",", ":"))[
        :-1
    ].encode()
    with ledger.path.open("ab") as file:
        file.write(body + b',"h":"' + link(bytes.fromhex(str(last["h"])), body).hex().encode() + b'"}\n')
    with pytest.raises(Misconfigured, match="not signed with"):
        Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))


def test_a_long_batch_before_the_last_checkpoint_is_found_over(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    for _ in range(50):
        ledger.append("decided", filler="." * 5000)
    ledger.close()
    with ledger.path.open("ab") as file:
        file.write(b"y" * 100_000)
    Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path)).close()
    assert [line["i"] for line in lines(ledger.path)] == list(range(54))


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"b", "a"}, ["a", "b"]),
        (("a", 1), ["a", 1]),
        (b"\xff", "\\xff"),
        ("a\udcff", "a\\udcff"),
        (2**70, str(2**70)),
        ({1: {2}}, {"1": [2]}),
        (None, None),
    ],
)
def test_any_value_can_be_written(tmp_path: Path, value: Any, written: Any) -> None:
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    ledger.append("decided", value=value)
    ledger.close()
    assert lines(ledger.path)[1]["value"] == written


@pytest.mark.parametrize("name", ["i", "t", "h"])
def test_a_field_cannot_stand_in_for_one_of_the_chain(tmp_path: Path, name: str) -> None:
    ledger = Ledger(tmp_path / "ledger", "gateway-0", ledger_key(tmp_path))
    with pytest.raises(TypeError, match="a name that every line uses"):
        ledger.append("decided", **{name: 1})
    ledger.close()
    assert [line["i"] for line in lines(ledger.path)] == [0, 1]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "x" * 65])
def test_a_process_name_cannot_name_another_place(tmp_path: Path, name: str) -> None:
    with pytest.raises(Misconfigured, match="is no name for a process"):
        Ledger(tmp_path / "ledger", name, ledger_key(tmp_path))


def test_a_new_ledger_names_the_heads_of_the_others(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "ledger", "http-0", ledger_key(tmp_path))
    first.close()
    Ledger(tmp_path / "ledger", "http-1", ledger_key(tmp_path)).close()
    last = lines(first.path)[-1]
    assert lines(tmp_path / "ledger/http-1.ndjson")[0]["heads"] == {"http-0": [last["i"], last["h"]]}


def test_a_ledger_in_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("")
    with pytest.raises(Unavailable, match="cannot open the ledger"):
        Ledger(tmp_path / "ledger", "http-0", Ed25519PrivateKey.generate())


def test_keys_are_made_once_and_private(tmp_path: Path) -> None:
    key = ledger_key(tmp_path)
    assert ledger_key(tmp_path).private_bytes_raw() == key.private_bytes_raw()
    assert (tmp_path / "keys/ledger.pem").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert public_key(tmp_path / "keys/ledger.pub").public_bytes_raw() == key.public_key().public_bytes_raw()
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["ledger.pem", "ledger.pub"]


def damage_key(state: Path, what: str) -> None:
    pem = state / "keys/ledger.pem"
    if what == "readable":
        pem.chmod(0o644)
    elif what == "missing":
        pem.unlink()
    elif what == "broken":
        pem.write_text("not a key")
    else:
        (state / "keys/ledger.pub").unlink()
        other = Ed25519PrivateKey.generate().public_key()
        (state / "keys/ledger.pub").write_bytes(
            other.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        )


@pytest.mark.parametrize(
    ("what", "message"),
    [("readable", "chmod 600"), ("missing", "put it back"), ("broken", "no private key"), ("other public half", "not the public half")],
)
def test_a_key_that_is_not_right_is_refused(tmp_path: Path, what: str, message: str) -> None:
    Ledger(tmp_path / "ledger", "http-0", ledger_key(tmp_path)).close()
    damage_key(tmp_path, what)
    with pytest.raises(Misconfigured, match=message):
        ledger_key(tmp_path)


def test_a_recording_is_synced_before_the_line_about_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "ledger", "http-0", ledger_key(tmp_path))
    other = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT, 0o600)
    inode, order = os.fstat(other).st_ino, []
    real = os.fdatasync

    def watch(fd: int) -> None:
        order.append("other" if os.fstat(fd).st_ino == inode else "ledger")
        real(fd)

    monkeypatch.setattr(os, "fdatasync", watch)
    ledger.sync_first(other)
    os.close(other)
    ledger.append("segment")
    ledger.close()
    assert order == ["other", "ledger"]
