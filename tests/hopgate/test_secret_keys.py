"""Key files: made once, private, told by their id."""

from __future__ import annotations

import base64
import os
import pickle
import stat
from pathlib import Path

import pytest

from hopgate.errors import Misconfigured, Unavailable
from hopgate.secret_keys import NEXT_VARIABLE, VARIABLE, KeyFiles, SecretKey

RAW = bytes(range(32))
TEXT = base64.b64encode(RAW).decode()


def test_a_key_shows_its_id_and_nothing_else() -> None:
    key = SecretKey(RAW)
    assert repr(key) == f"SecretKey(id={key.id})"
    assert len(key.id) == 16
    assert not any(part in repr(key) for part in (TEXT[:8], RAW.hex()[:8], repr(RAW)))
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_the_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    keys = KeyFiles(tmp_path, {})
    assert keys.current() is None
    made = keys.create()
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.path.parent.stat().st_mode) == 0o700
    assert keys.create().id == made.id
    assert sorted(path.name for path in keys.path.parent.iterdir()) == ["secrets.key"]
    found = keys.find(made.id)
    assert found is not None
    assert found.reveal() == made.reveal()
    assert keys.find("0" * 16) is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610])
def test_a_key_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    keys = KeyFiles(tmp_path, {})
    keys.create()
    keys.path.chmod(mode)
    with pytest.raises(Misconfigured, match=f"mode {mode:04o}.*chmod 600"):
        keys.current()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_key_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    keys = KeyFiles(tmp_path, {})
    keys.create()
    os.chown(keys.path, 65534, 65534)
    with pytest.raises(Misconfigured, match="belongs to somebody else"):
        keys.current()


@pytest.mark.parametrize("text", ["", "short", TEXT[:-4], TEXT + "AAAA", "é" * 44, RAW.hex(), TEXT.replace("A", "!")])
def test_what_is_no_key_is_refused_and_not_quoted(tmp_path: Path, text: str) -> None:
    keys = KeyFiles(tmp_path, {VARIABLE: text} if text else {})
    if not text:
        keys.path.parent.mkdir()
        keys.path.touch(0o600)
    with pytest.raises(Misconfigured, match="is no key") as caught:
        keys.current()
    assert not text or text not in str(caught.value)
    assert caught.value.__suppress_context__


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    in_file = KeyFiles(tmp_path, {}).create()
    keys = KeyFiles(tmp_path, {VARIABLE: f" {TEXT}\n"})
    current = keys.current()
    assert current is not None
    assert (current.reveal(), keys.source) == (RAW, VARIABLE)
    assert keys.find(in_file.id) is not None


def test_the_next_key_comes_from_where_the_key_comes_from(tmp_path: Path) -> None:
    keys = KeyFiles(tmp_path, {})
    keys.create()
    following = keys.prepare()
    assert keys.prepare().id == following.id  # a rotation that was cut short goes on with the same key
    keys.promote()
    current = keys.current()
    assert current is not None
    assert current.id == following.id
    assert not keys.next.exists()
    with pytest.raises(Misconfigured, match=NEXT_VARIABLE):
        KeyFiles(tmp_path, {VARIABLE: TEXT}).prepare()
    assert KeyFiles(tmp_path, {VARIABLE: "x", NEXT_VARIABLE: TEXT}).prepare().reveal() == RAW


def test_a_directory_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("")
    with pytest.raises(Unavailable):
        KeyFiles(tmp_path, {}).create()
    (tmp_path / "x" / "keys" / "secrets.key").mkdir(parents=True)
    with pytest.raises(Misconfigured):
        KeyFiles(tmp_path / "x", {}).current()
