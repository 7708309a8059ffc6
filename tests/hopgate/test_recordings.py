"""Recordings: what is appended is readable, what cannot be written ends the session, what a kill leaves is recovered."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from mitmproxy.io import FlowReader
from mitmproxy.test import tflow

from hopgate import recordings as module
from hopgate.errors import Misconfigured, Unavailable
from hopgate.flow_format import ShownRequest, encode_http_flow
from hopgate.ledger import Ledger, ledger_key
from hopgate.recordings import Recording, Recordings
from hopgate.verify import verify_state

from .test_verify import Config, file_of, found


def flow(size: int = 10) -> bytes:
    return encode_http_flow(tflow.tflow(), request=ShownRequest(b"/", [], b"." * size), response=None, metadata={"session": "s1"})


def read(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return list(FlowReader(file).stream())


def events(state: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (state / "ledger/http-0.ndjson").read_bytes().splitlines()]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger", "http-0", ledger_key(tmp_path))
    yield ledger
    ledger.close()


@pytest.fixture
def recordings(tmp_path: Path, ledger: Ledger) -> Recordings:
    return Recordings(tmp_path, ledger, Config())


def test_a_record_is_in_the_file_when_append_returns(tmp_path: Path, recordings: Recordings) -> None:
    recording = recordings.open("s1", {})
    assert recording.append(flow()) == 0
    assert recording.append(flow()) > 0
    assert len(read(recording.path)) == 2
    recording.close()
    assert recording.path == file_of(tmp_path, "s1")
    with pytest.raises(Unavailable, match="is closed"):
        recording.append(flow())
    recording.close()


def test_nobody_else_may_read_recordings(tmp_path: Path, recordings: Recordings) -> None:
    recordings.open("s1", {}).close()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "recordings").rglob("*")}
    assert modes.pop("s1.mitm") == 0o600
    assert set(modes.values()) == {0o700, 0o600}
    assert (tmp_path / "recordings").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("session", ["", "../s1", "a/b", "a.b", "-a", "é", "a" * 129, ".open"])
def test_a_session_id_cannot_name_another_place(recordings: Recordings, session: str) -> None:
    with pytest.raises(ValueError, match="is no id for a session"):
        recordings.open(session, {})


def test_a_session_has_one_recording(tmp_path: Path, recordings: Recordings) -> None:
    recording = recordings.open("s1", {})
    recording.append(flow())
    with pytest.raises(Unavailable, match="cannot be made"):
        recordings.open("s1", {})
    recording.close()
    assert len(read(file_of(tmp_path, "s1"))) == 1


def test_big_segments_are_attested_at_once(tmp_path: Path, ledger: Ledger, recordings: Recordings) -> None:
    recording = recordings.open("s1", {})
    for _ in range(9):
        recording.append(flow(100_000))
    recording.close()
    ledger.close()
    segments = [event for event in events(tmp_path) if event["event"] == "segment"]
    assert [len(segment["records"]) for segment in segments] == [3, 3, 3]
    assert [segment["offset"] for segment in segments] == [0, segments[0]["length"], segments[0]["length"] * 2]


async def test_a_segment_is_attested_soon_without_anybody_asking(
    tmp_path: Path, recordings: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    monkeypatch.setattr(module, "SEGMENT_SECONDS", 0.02)
    recording = recordings.open("s1", {})
    recording.append(flow())
    for _ in range(300):
        if any(event["event"] == "segment" for event in events(tmp_path)):
            break
        await asyncio.sleep(0.02)
    else:
        pytest.fail("no segment in the ledger")
    recording.close()


async def test_markers_go_when_the_close_is_durable(tmp_path: Path, recordings: Recordings) -> None:
    recordings.open("s1", {})
    assert [path.name for path in recordings.markers.iterdir()] == ["s1"]
    await recordings.close()
    assert list(recordings.markers.iterdir()) == []


def test_flows_are_on_the_disk_before_their_digests(
    tmp_path: Path, recordings: Recordings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = recordings.open("s1", {})
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.fstat(fd).st_ino))
    recording.append(flow())
    recording.attest()
    ledger.close()
    assert synced == [path.stat().st_ino for path in (recording.path.parent, recording.path, ledger.path)]


def test_another_flow_format_is_refused(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLOW_FORMAT_VERSION", 22)
    with pytest.raises(Misconfigured, match="has flow format 22, hopgate writes 21"):
        Recordings(tmp_path, ledger, Config())


def refuse(recording: Recording, monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
    """Writes to this recording end after `after` bytes: the disk is full."""
    real, fd = os.write, recording._fd
    left = [after]

    def write(to: int, data: bytes) -> int:
        if to != fd:
            return real(to, data)
        if not left or not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(to, data[: left.pop()])

    monkeypatch.setattr(os, "write", write)


@pytest.mark.parametrize("after", [0, 1, 50])
def test_a_full_disk_ends_the_recording_at_its_last_whole_record(
    tmp_path: Path, ledger: Ledger, recordings: Recordings, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    recording = recordings.open("s1", {})
    recording.append(flow())
    refuse(recording, monkeypatch, after=after)
    with pytest.raises(Unavailable, match="recording s1 cannot be written: no space left on device"):
        recording.append(flow())
    monkeypatch.undo()
    with pytest.raises(Unavailable, match="no space left on device"):
        recording.append(flow())  # a flow is missing: no later one may hide that
    assert len(read(recording.path)) == 1
    recording.close()
    ledger.close()
    report = verify_state(tmp_path)
    assert found(report) == [("interrupted", "s1.mitm")]
    assert "no space left" in str(report.findings)


def test_a_disk_that_does_not_even_let_cut_leaves_a_torn_end(
    tmp_path: Path, ledger: Ledger, recordings: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = recordings.open("s1", {})
    recording.append(flow())
    refuse(recording, monkeypatch, after=50)
    monkeypatch.setattr(os, "ftruncate", lambda fd, size: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
    with pytest.raises(Unavailable, match="nor cut back to its last whole record"):
        recording.append(flow())
    monkeypatch.undo()
    recording.close()
    ledger.close()
    assert found(verify_state(tmp_path)) == [("interrupted", "s1.mitm"), ("torn", "s1.mitm")]


def test_a_ledger_that_fails_ends_recordings(
    tmp_path: Path, recordings: Recordings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = recordings.open("s1", {})
    recording.append(flow())
    ledger.failed = "ledger http-0 cannot be written: no space left on device"
    with pytest.raises(Unavailable):
        recording.attest()
    with pytest.raises(Unavailable, match="cannot be attested"):
        recording.append(flow())
    with pytest.raises(Unavailable):
        recordings.open("s2", {})
    assert not list((tmp_path / "recordings").rglob("s2*"))
    with pytest.raises(Unavailable):
        recording.close()


CHILD = textwrap.dedent(
    """
    import asyncio, os, resource, signal, sys
    from pathlib import Path
    from hopgate.errors import Unavailable
    from hopgate.ledger import Ledger, ledger_key
    from hopgate.recordings import Recordings
    from tests.hopgate.test_recordings import flow
    from tests.hopgate.test_verify import Config

    async def main(state, what):
        ledger = Ledger(state / "ledger", "http-0", ledger_key(state))
        recordings = Recordings(state, ledger, Config())
        recording = recordings.open("s1", {})
        if what == "full":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
        for n in range(4 if what != "full" else 1000):
            recording.append(flow(n if what != "full" else 10))
        if what == "attested":
            recording.attest()
        if what != "early":
            await ledger.durable()
        if what == "torn":
            recording.append(flow(3000))
            os.write(recording._fd, flow(5000)[:1234])
        print("ready", flush=True)
        signal.pause()

    try:
        asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
    except Unavailable as error:
        print(error, flush=True)
    """,
)


def killed(state: Path, what: str) -> str:
    """Run a writer in another process until it says something, and kill it without warning."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(state), what], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert child.stdout
    said = child.stdout.readline().strip()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    return said


def test_a_killed_writer_is_interrupted_and_what_was_attested_is_good(tmp_path: Path) -> None:
    assert killed(tmp_path, "attested") == "ready"
    assert len(read(file_of(tmp_path, "s1"))) == 4
    report = verify_state(tmp_path)
    assert report.verdict == "interrupted"
    assert found(report) == [("interrupted", "http-0.ndjson"), ("interrupted", "s1.mitm")]


async def recover(state: Path) -> tuple[str, ...]:
    ledger = Ledger(state / "ledger", "http-0", ledger_key(state))
    recordings = Recordings(state, ledger, Config())
    recovered = await recordings.recover()
    ledger.close()
    return recovered


async def test_a_torn_end_is_cut_and_the_rest_attested_at_the_next_start(tmp_path: Path) -> None:
    assert killed(tmp_path, "torn") == "ready"
    assert found(verify_state(tmp_path)) == [("interrupted", "http-0.ndjson"), ("interrupted", "s1.mitm"), ("torn", "s1.mitm")]
    assert await recover(tmp_path) == ("s1",)
    assert len(read(file_of(tmp_path, "s1"))) == 5
    assert [path.stat().st_size for path in (tmp_path / "recordings").rglob("*.torn")] == [1234]
    report = verify_state(tmp_path)
    assert found(report) == [("interrupted", "http-0.ndjson"), ("interrupted", "s1.mitm")]
    assert "5 flows were attested only after the restart, 1234 torn bytes moved away" in str(report.findings)
    assert await recover(tmp_path) == ()


async def test_a_recording_that_no_ledger_line_had_reached_is_recovered(tmp_path: Path) -> None:
    assert killed(tmp_path, "early") == "ready"
    assert ("unknown", "s1.mitm") in found(verify_state(tmp_path))
    assert await recover(tmp_path) == ("s1",)
    assert found(verify_state(tmp_path)) == [("interrupted", "s1.mitm")]
    assert len(read(file_of(tmp_path, "s1"))) == 4


@pytest.mark.parametrize("damage", ["edited", "behind"])
async def test_recovery_does_not_launder_what_was_attested(tmp_path: Path, damage: str) -> None:
    assert killed(tmp_path, "attested") == "ready"
    path = file_of(tmp_path, "s1")
    await recover(tmp_path) if damage == "behind" else None
    path.write_bytes(path.read_bytes().replace(b"session", b"SESSION", 1) if damage == "edited" else path.read_bytes() + b"1:x,")
    await recover(tmp_path)
    assert ("edited", "s1.mitm") in found(verify_state(tmp_path))


async def test_recovery_leaves_alone_what_is_being_written(tmp_path: Path, recordings: Recordings) -> None:
    recording = recordings.open("s1", {})
    recording.append(flow())
    other = Ledger(tmp_path / "ledger", "http-1", ledger_key(tmp_path))
    assert await Recordings(tmp_path, other, Config()).recover() == ()
    other.close()
    assert recordings.markers.joinpath("s1").exists()
    recording.append(flow())
    recording.close()


async def test_a_marker_cannot_name_another_file(tmp_path: Path, recordings: Recordings) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"not a flow")
    recordings.open("s0", {}).close()
    (recordings.markers / "s1").write_bytes(orjson.dumps({"session": "s1", "file": "../precious"}))
    (recordings.markers / "s2").write_bytes(b"{")
    stranger = tmp_path / "recordings/2026/01/01/s9.mitm"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"torn")
    (recordings.markers / "s3").write_bytes(orjson.dumps({"session": "s3", "file": "2026/01/01/s9.mitm"}))
    assert await recordings.recover() == ()
    assert (precious.read_bytes(), stranger.read_bytes()) == (b"not a flow", b"torn")


def test_a_disk_quota_ends_the_session_and_the_recording_stays_readable(tmp_path: Path) -> None:
    assert killed(tmp_path, "full") == "recording s1 cannot be written: file too large"
    assert len(read(file_of(tmp_path, "s1"))) > 10


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, check=False).returncode
    ):
        pytest.skip("mounting a file system is not permitted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


async def test_a_disk_that_is_really_full(tiny: Path) -> None:
    ledger = Ledger(tiny / "ledger", "http-0", ledger_key(tiny))
    recordings = Recordings(tiny, ledger, Config())
    recording = recordings.open("s1", {})
    await ledger.durable()
    written = 0
    with pytest.raises(Unavailable, match="no space left on device"):
        for _ in range(1000):
            recording.append(flow(1000))
            written += 1
    assert 50 < written < 1000
    assert len(read(recording.path)) == written
    with pytest.raises(Unavailable, match="no space left on device"):
        for _ in range(10_000):
            ledger.append("decided", filler="." * 1000)
            await ledger.durable()
    with pytest.raises(Unavailable, match="no space left on device"):
        ledger.append("decided")
    with pytest.raises(Unavailable):
        recording.close()
    ledger.close()
    report = verify_state(tiny)
    assert report.verdict == "interrupted"
    assert len(read(recording.path)) == written
