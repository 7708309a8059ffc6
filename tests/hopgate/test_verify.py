"""Verify: one test for each thing it can find, and no damage that it calls whole."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from hopgate import ledger_format
from hopgate.errors import Misconfigured
from hopgate.flow_format import tnetstring
from hopgate.ledger import Ledger, append_once, ledger_key
from hopgate.ledger_format import Head, link, parse_line
from hopgate.recordings import Recordings
from hopgate.verify import ALTERED, KINDS, Report, verify_state


@dataclasses.dataclass(frozen=True)
class Config:
    retention: float | None = 60.0


def record(text: str) -> bytes:
    return tnetstring({"version": 21, "type": "tcp", "comment": text})


def write(state: Path, process: str = "http-0", sessions: tuple[str, ...] = ("s1", "s2"), flows: int = 5) -> Head | None:
    ledger = Ledger(state / "ledger", process, ledger_key(state))
    recordings = Recordings(state, ledger, Config())
    for session in sessions:
        recording = recordings.open(session, {"principal": "corp:agent-7"})
        for number in range(flows):
            ledger.append("decided", session=session, operation=f"{session}-{number}", effect="allow")
            recording.append(record(f"{session} flow {number}" + "." * number))
            if number == 2:
                recording.attest()
        recording.close()
    ledger.close()
    return ledger.head


@pytest.fixture
def state(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


def file_of(state: Path, session: str) -> Path:
    return next(state.glob(f"recordings/*/*/*/{session}.mitm"))


def found(report: Report) -> list[tuple[str, str]]:
    """(kind, file name) of whatever is not whole."""
    return sorted({(finding.kind, Path(finding.file).name) for finding in report.findings if finding.kind != "whole"})


def edit_lines(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def moved(items: list[bytes], start: int, target: int) -> list[bytes]:
    items = list(items)
    items.insert(target, items.pop(start))
    return items


def flows_of(path: Path) -> list[bytes]:
    data, out = path.read_bytes(), []
    while data:
        length = int(data[: data.index(b":")])
        end = data.index(b":") + length + 2
        out.append(data[:end])
        data = data[end:]
    return out


def rechain(path: Path, process: str, change: Callable[[bytes], bytes]) -> None:
    """What somebody without the key can do: change a line and compute every hash anew."""
    previous, out = ledger_format.genesis(process), []
    for raw in path.read_bytes().splitlines():
        body = change(parse_line(raw).body)
        previous = link(previous, body)
        out.append(body + b',"h":"' + previous.hex().encode() + b'"}\n')
    path.write_bytes(b"".join(out))


def test_what_nobody_touched_is_whole(state: Path) -> None:
    report = verify_state(state)
    assert (report.verdict, report.ledgers, report.recordings) == ("whole", 1, 2)
    assert {finding.kind for finding in report.findings} == {"whole"}
    assert len(report.findings) == 3
    said = "1 ledger and 2 recordings: unaltered unless the gateway's key was used"
    assert report.sentence == f"{said}; an end that was cut off between two runs shows only with the store or an anchor"
    head = Head("http-0", 5, 1, False, parse_line((state / "ledger/http-0.ndjson").read_bytes().splitlines()[4]).h.hex(), "")
    assert verify_state(state, heads=[head]).sentence == said


def test_with_a_head_from_elsewhere_it_says_up_to_where(tmp_path: Path) -> None:
    head = write(tmp_path)
    assert head is not None
    report = verify_state(tmp_path, anchors=[head])
    assert report.anchored == {"http-0": head.i}
    assert report.sentence == f"1 ledger and 2 recordings: unaltered; anchored up to line {head.i + 1} of http-0"


LEDGER_DAMAGE: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "a value edited": (lambda x: [*x[:3], x[3].replace(b"allow", b"ALLOW"), *x[4:]], "edited"),
    "a hash edited": (lambda x: [*x[:3], x[3][:-5] + b"0000" + x[3][-1:], *x[4:]], "edited"),
    "a line made unreadable": (lambda x: [*x[:3], b"{}\n", *x[4:]], "edited"),
    "a blank line put in": (lambda x: [*x[:3], b"\n", *x[3:]], "edited"),
    "a line deleted": (lambda x: x[:3] + x[4:], "deleted"),
    "three lines deleted": (lambda x: x[:3] + x[6:], "deleted"),
    "the first line deleted": (lambda x: x[1:], "deleted"),
    "two lines exchanged": (lambda x: moved(x, 3, 4), "reordered"),
    "a line moved far": (lambda x: moved(x, 3, 9), "reordered"),
    "a line repeated": (lambda x: [*x[:3], x[2], *x[3:]], "reordered"),
    "the last line torn": (lambda x: [*x[:-1], x[-1][:20]], "torn"),
    "the checkpoint deleted": (lambda x: x[:-1], "torn"),
}


@pytest.mark.parametrize("what", LEDGER_DAMAGE)
def test_damage_to_a_ledger_is_named(state: Path, what: str) -> None:
    change, kind = LEDGER_DAMAGE[what]
    edit_lines(state / "ledger/http-0.ndjson", change)
    report = verify_state(state)
    assert report.verdict != "whole"
    assert (kind, "http-0.ndjson") in found(report)
    assert {other for other, file in found(report) if file == "http-0.ndjson"} <= {kind, "torn"}


def test_a_finding_names_the_line(state: Path) -> None:
    edit_lines(state / "ledger/http-0.ndjson", LEDGER_DAMAGE["a value edited"][0])
    finding = next(finding for finding in verify_state(state).findings if finding.kind == "edited")
    assert (finding.line, finding.file) == (4, "ledger/http-0.ndjson")
    assert str(finding).startswith("ledger/http-0.ndjson: line 4, byte ")


@pytest.mark.parametrize("change", [b"allow", b'"i":2'])
def test_a_chain_computed_anew_without_the_key_is_found(state: Path, change: bytes) -> None:
    rechain(state / "ledger/http-0.ndjson", "http-0", lambda body: body.replace(b'"effect":"allow"', b'"effect":"deny"'))
    assert found(verify_state(state)) == [("rechained", "http-0.ndjson")]


def test_a_checkpoint_takes_no_field_that_is_not_signed(state: Path) -> None:
    rechain(state / "ledger/http-0.ndjson", "http-0", lambda body: body.replace(b'"final":true', b'"final":true,"note":"x"'))
    assert found(verify_state(state)) == [("rechained", "http-0.ndjson")]


def test_the_time_of_a_checkpoint_is_signed(state: Path) -> None:
    rechain(state / "ledger/http-0.ndjson", "http-0", lambda body: body.replace(b'"t":1', b'"t":2') if b"checkpoint" in body else body)
    assert found(verify_state(state)) == [("rechained", "http-0.ndjson")]


def test_another_gateways_key_is_found(state: Path) -> None:
    assert ("rechained", "http-0.ndjson") in found(verify_state(state, Ed25519PrivateKey.generate().public_key()))


def test_without_a_public_key_nothing_is_said(state: Path) -> None:
    (state / "keys/ledger.pub").unlink()
    with pytest.raises(Misconfigured, match="no public key"):
        verify_state(state)


def older_head(state: Path) -> Head:
    """The head that the store would remember, then an end that is cut back to an earlier final checkpoint."""
    path = state / "ledger/http-0.ndjson"
    before = path.read_bytes()
    head = write(state, sessions=("s3",))
    path.write_bytes(before)
    shutil.rmtree(file_of(state, "s3").parent / "none", ignore_errors=True)
    file_of(state, "s3").unlink()
    assert head is not None
    return head


def test_an_end_cut_at_a_final_checkpoint_is_seen_only_with_a_head_from_elsewhere(state: Path) -> None:
    head = older_head(state)
    assert verify_state(state).verdict == "whole"
    assert found(verify_state(state, heads=[head])) == [("cut", "http-0.ndjson")]
    assert found(verify_state(state, anchors=[head])) == [("cut", "http-0.ndjson")]


def test_an_end_cut_is_seen_by_the_next_start_of_another_process(state: Path) -> None:
    path = state / "ledger/http-0.ndjson"
    before = path.read_bytes()
    write(state, sessions=())
    write(state, "http-1", sessions=())
    path.write_bytes(before)
    assert found(verify_state(state)) == [("cut", "http-0.ndjson")]


def test_a_ledger_written_anew_with_the_key_contradicts_what_its_neighbour_saw(state: Path) -> None:
    write(state, "http-1", sessions=())
    shutil.rmtree(state / "recordings")
    (state / "ledger/http-0.ndjson").unlink()
    write(state, sessions=("s1", "s2"), flows=9)
    assert found(verify_state(state)) == [("rechained", "http-0.ndjson")]


def test_a_start_that_finds_less_than_the_store_knows_says_so_for_ever(state: Path) -> None:
    head = older_head(state)
    Ledger(state / "ledger", "http-0", ledger_key(state), known=head).close()
    assert found(verify_state(state)) == [("cut", "http-0.ndjson")]


def test_a_head_with_another_hash_is_found(state: Path) -> None:
    key = ledger_key(state)
    other = ledger_format.checkpoint_body("http-0", 3, 5, False, bytes(32), key)[1]
    assert found(verify_state(state, heads=[other])) == [("rechained", "http-0.ndjson")]


def test_heads_of_the_store_have_no_signature_and_vouch_for_nothing(state: Path) -> None:
    head = dataclasses.replace(older_head(state), signature="")
    report = verify_state(state, heads=[head])
    assert (found(report), report.anchored) == ([("cut", "http-0.ndjson")], {})
    assert found(verify_state(state, anchors=[head])) == [("rechained", "http-0.ndjson")]


def test_a_head_that_the_key_has_not_signed_is_found(tmp_path: Path) -> None:
    head = write(tmp_path)
    assert head is not None
    assert found(verify_state(tmp_path, heads=[dataclasses.replace(head, t=1)])) == [("rechained", "http-0.ndjson")]


def test_a_ledger_that_is_gone_is_found_by_its_neighbours(state: Path) -> None:
    write(state, "http-1", sessions=("s9",))
    (state / "ledger/http-0.ndjson").unlink()
    assert found(verify_state(state)) == [("deleted", "http-0.ndjson"), ("unknown", "s1.mitm"), ("unknown", "s2.mitm")]


@pytest.mark.parametrize("instead", ["link", "pipe", "directory"])
def test_what_is_no_file_is_no_ledger(state: Path, tmp_path: Path, instead: str) -> None:
    path = state / "ledger/http-0.ndjson"
    path.rename(tmp_path / "elsewhere")
    if instead == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif instead == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert ("deleted", "http-0.ndjson") in found(verify_state(state))


def test_no_ledger_at_all_is_not_whole(state: Path) -> None:
    shutil.rmtree(state / "ledger")
    report = verify_state(state)
    assert report.verdict == "altered"
    assert ("deleted", "ledger") in found(report)


def test_a_ledger_under_another_name_is_found(state: Path) -> None:
    (state / "ledger/http-0.ndjson").rename(state / "ledger/http-7.ndjson")
    assert ("swapped", "http-7.ndjson") in found(verify_state(state))


FLOW_DAMAGE: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str, int | None]] = {
    "a byte in one flow": (lambda x: [*x[:2], x[2].replace(b"flow", b"FLOW"), *x[3:]], "edited", 3),
    "a flow replaced by a longer one": (lambda x: [*x[:2], record("something much longer than that"), *x[3:]], "edited", 3),
    "the first flow": (lambda x: [x[0].replace(b"flow", b"FLOW"), *x[1:]], "edited", 1),
    "a byte put in": (lambda x: [*x[:2], x[2][:-9] + b"x" + x[2][-9:], *x[3:]], "edited", 3),
    "a length edited": (lambda x: [*x[:2], b"9" + x[2][1:], *x[3:]], "edited", 3),
    "a flow put in": (lambda x: [*x[:2], record("new"), *x[2:]], "edited", 3),
    "a flow behind the end": (lambda x: [*x, record("new")], "edited", 6),
    "a byte behind the end": (lambda x: [*x, b"1"], "edited", 6),
    "a flow repeated": (lambda x: [*x, x[1]], "edited", 6),
    "a flow deleted": (lambda x: x[:2] + x[3:], "deleted", 3),
    "the first flow deleted": (lambda x: x[1:], "deleted", 1),
    "two flows exchanged": (lambda x: moved(x, 1, 3), "reordered", 2),
    "the last flow gone": (lambda x: x[:-1], "cut", 5),
    "the last flow halved": (lambda x: [*x[:-1], x[-1][:15]], "cut", 5),
    "all but the first gone": (lambda x: x[:1], "cut", 2),
    "everything gone": (lambda x: [], "cut", 1),
}


@pytest.mark.parametrize("what", FLOW_DAMAGE)
def test_damage_to_a_recording_is_named(state: Path, what: str) -> None:
    change, kind, flow = FLOW_DAMAGE[what]
    path = file_of(state, "s1")
    path.write_bytes(b"".join(change(flows_of(path))))
    report = verify_state(state)
    assert report.verdict == "altered"
    assert found(report) == [(kind, "s1.mitm")]
    finding = next(finding for finding in report.findings if finding.kind != "whole")
    assert (finding.session, finding.flow) == ("s1", flow)


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (lambda flows: flows[::2], {"deleted"}),
        (lambda flows: flows[::-1], {"reordered"}),
        (lambda flows: [record(f"other {n}") for n in range(len(flows))], {"edited"}),
        (lambda flows: flows[5:], {"deleted"}),
    ],
)
def test_a_long_recording_that_differs_everywhere_takes_no_longer(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], kinds: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hopgate.verify.flows._COMPARABLE", 100)
    write(tmp_path, sessions=("s1",), flows=60)
    path = file_of(tmp_path, "s1")
    path.write_bytes(b"".join(change(flows_of(path))))
    report = verify_state(tmp_path)
    assert {kind for kind, _ in found(report)} == kinds
    assert report.verdict == "altered"
    assert len(report.findings) < 60


def test_a_missing_recording_is_found(state: Path) -> None:
    file_of(state, "s1").unlink()
    assert found(verify_state(state)) == [("recording_missing", "s1.mitm")]


def test_a_link_is_not_followed(state: Path, tmp_path: Path) -> None:
    path = file_of(state, "s1")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert found(verify_state(state)) == [("recording_missing", "s1.mitm")]


def test_exchanged_recordings_are_found(state: Path) -> None:
    one, two = file_of(state, "s1"), file_of(state, "s2")
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    report = verify_state(state)
    assert found(report) == [("swapped", "s1.mitm"), ("swapped", "s2.mitm")]
    assert "session s2" in next(finding.message for finding in report.findings if finding.session == "s1")


def test_one_flow_of_another_session_is_found(state: Path) -> None:
    one, two = flows_of(file_of(state, "s1")), flows_of(file_of(state, "s2"))
    file_of(state, "s1").write_bytes(b"".join([*one[:2], two[2], *one[3:]]))
    assert found(verify_state(state)) == [("swapped", "s1.mitm")]


def test_a_recording_that_no_ledger_knows_is_found(state: Path) -> None:
    shutil.copy(file_of(state, "s1"), file_of(state, "s1").with_name("s7.mitm"))
    assert found(verify_state(state)) == [("unknown", "s7.mitm")]


def test_an_empty_recording_that_no_ledger_knows_is_an_interruption(state: Path) -> None:
    """A full disk takes the file and not the ledger's line: that is no forgery, and there is nothing in it."""
    file_of(state, "s1").with_name("s7.mitm").touch()
    report = verify_state(state)
    assert found(report) == [("interrupted", "s7.mitm")]
    assert report.verdict == "interrupted"


def test_only_the_sessions_asked_for_are_read(state: Path) -> None:
    file_of(state, "s1").write_bytes(b"")
    assert verify_state(state, sessions=["s2"]).verdict == "whole"
    assert found(verify_state(state, sessions=["s1"])) == [("cut", "s1.mitm")]
    assert found(verify_state(state, sessions=["s4"])) == [("recording_missing", "recordings")]


async def test_while_it_is_written_it_is_open(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "http-0", ledger_key(tmp_path))
    recordings = Recordings(tmp_path, ledger, Config())
    recording = recordings.open("s1", {})
    recording.append(record("one"))
    recording.attest()
    recording.append(record("two"))
    await ledger.durable()
    report = verify_state(tmp_path)
    assert (report.verdict, found(report)) == ("whole", [("open", "http-0.ndjson"), ("open", "s1.mitm")])
    await recordings.close()
    ledger.close()
    assert found(verify_state(tmp_path)) == []


async def test_what_retention_deleted_is_expired_not_missing(state: Path) -> None:
    ledger = Ledger(state / "ledger", "http-0", ledger_key(state))
    recordings = Recordings(state, ledger, Config(retention=60))
    last = file_of(state, "s1").stat().st_mtime
    assert await recordings.expire(last + 10) == ()
    assert await recordings.expire(last + 120) == ("s1", "s2")
    ledger.close()
    report = verify_state(state)
    assert (report.verdict, found(report)) == ("whole", [("expired", "s1.mitm"), ("expired", "s2.mitm")])


async def test_what_a_kill_left_is_not_expired_before_it_is_recovered(state: Path) -> None:
    ledger = Ledger(state / "ledger", "http-0", ledger_key(state))
    recordings = Recordings(state, ledger, Config(retention=60))
    (recordings.markers / "s1").touch()
    assert await recordings.expire(file_of(state, "s1").stat().st_mtime + 120) == ("s2",)
    assert await Recordings(state, ledger, Config(retention=None)).expire(1e12) == ()
    ledger.close()
    assert found(verify_state(state)) == [("expired", "s2.mitm")]


def test_every_flipped_byte_of_a_recording_is_found(tmp_path: Path) -> None:
    write(tmp_path, sessions=("s1",), flows=3)
    path = file_of(tmp_path, "s1")
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes((whole[at] ^ (1 << at % 8),)) + whole[at + 1 :])
        assert found(verify_state(tmp_path)) == [("edited", "s1.mitm")], at


def test_every_flipped_byte_of_a_ledger_is_found(tmp_path: Path) -> None:
    write(tmp_path, sessions=("s1",), flows=1)
    path = tmp_path / "ledger/http-0.ndjson"
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes((whole[at] ^ (1 << at % 8),)) + whole[at + 1 :])
        report = verify_state(tmp_path)
        if at == len(whole) - 1:  # the line end: as if the last write had been torn
            assert found(report) == [("torn", "http-0.ndjson")]
            continue
        assert report.verdict == "altered", at
        assert any(finding.kind in ALTERED and finding.file == "ledger/http-0.ndjson" for finding in report.findings), at


def test_every_cut_of_a_ledger_is_found(tmp_path: Path) -> None:
    write(tmp_path, sessions=("s1",), flows=1)
    path = tmp_path / "ledger/http-0.ndjson"
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at])
        assert verify_state(tmp_path).verdict != "whole", at


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """One to three cuts, insertions, repetitions and exchanges of stretches."""
    data = whole
    for _ in range(draw(st.integers(1, 3))):
        a, b = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        c = draw(st.integers(b, len(data)))
        first, second = data[a:b], data[b:c]
        put = draw(
            st.sampled_from(
                [b"", first + first, second + first, draw(st.binary(max_size=3)) + first, b"\n" + first, first.lower(), first.upper()]
            )
        )
        data = data[:a] + put + (b"" if put == second + first else second) + data[c:]
    return data


@functools.cache
def damaged_state(which: str) -> tuple[Path, Path, bytes]:
    """A state directory for one search, the file to damage in it, and its bytes."""
    state = Path(tempfile.mkdtemp(prefix="hopgate-test-"))
    atexit.register(shutil.rmtree, state)
    write(state, flows=3)
    path = next(state.glob(which))
    return state, path, path.read_bytes()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["ledger/http-0.ndjson", "recordings/*/*/*/s1.mitm"]), st.data())
def test_no_damage_is_called_whole(which: str, data: st.DataObject) -> None:
    state, path, whole = damaged_state(which)
    broken = data.draw(damaged(whole))
    path.write_bytes(broken)
    report = verify_state(state)
    path.write_bytes(whole)
    assert (report.verdict == "whole") == (broken == whole)


def test_a_ledger_that_says_nonsense_over_the_key_is_no_crash(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "http-0", ledger_key(tmp_path))
    for event, fields in [
        ("recording_opened", {"session": "s1", "file": "../../etc/passwd"}),
        ("recording_opened", {"session": 7}),
        ("recording_opened", {"session": "s1", "file": "2026/01/01/s2.mitm"}),
        ("segment", {"session": "s1", "offset": "x", "records": [[1, "zz"]]}),
        ("segment", {"session": "s1", "offset": 0, "records": 4}),
        ("recording_closed", {"session": "s1", "length": "many", "records": 1, "failed": ""}),
        ("recording_recovered", {"session": "s2"}),
    ]:
        ledger.append(event, **fields)
    ledger.close()
    report = verify_state(tmp_path)
    assert sum(finding.kind == "edited" for finding in report.findings) == 7


def test_every_kind_is_explained() -> None:
    assert set(KINDS) > ALTERED
    assert all(KINDS.values())


def test_programs_of_a_moment_verify(tmp_path: Path) -> None:
    append_once(tmp_path, "secret_set", name="a")
    append_once(tmp_path, "secret_set", name="b")
    assert verify_state(tmp_path).verdict == "whole"


def test_lines_are_what_json_readers_read(state: Path) -> None:
    events = [orjson.loads(line)["event"] for line in (state / "ledger/http-0.ndjson").read_bytes().splitlines()]
    assert events[:3] == ["started", "recording_opened", "decided"]
    assert events.count("segment") == 4
