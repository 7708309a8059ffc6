"""Sealing: nothing readable at rest, nothing opened with a wrong key or from an altered row, nothing ever empty."""

from __future__ import annotations

import asyncio
import base64
import copy
import pickle
import sqlite3
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from hopgate.errors import Misconfigured, Unavailable
from hopgate.secret_keys import NEXT_VARIABLE, VARIABLE, SecretKey
from hopgate.secret_store import Secret, SecretStore
from hopgate.store import SealedSecret
from tests.hopgate.people import opened

VALUE = "sk-live-hunter2-hunter2-hunter2"


def alter(state: Path, statement: str, *values: Any) -> None:
    with sqlite3.connect(state / "state.db") as connection:
        connection.execute(statement, values)
    connection.close()


async def test_a_secret_is_sealed_and_opened(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        secrets = SecretStore(store, tmp_path, {})
        assert await secrets.set("billing", VALUE, by="corp:ops") == 1
        assert await secrets.set("billing", VALUE + "é\n", by="corp:ops") == 2
        assert (await secrets.get("billing")).reveal() == VALUE + "é\n"
        assert [(each.name, each.version, each.by) for each in await secrets.list()] == [("billing", 2, "corp:ops")]
        assert await secrets.delete("billing")
        assert not await secrets.delete("billing")
        with pytest.raises(Misconfigured, match="there is no secret 'billing'"):
            await secrets.get("billing")


def files(state: Path) -> bytes:
    return b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())


async def test_nothing_on_disk_or_in_words_holds_the_value(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        secrets = SecretStore(store, tmp_path, {})
        await secrets.set("billing", VALUE)
        raw = files(tmp_path)  # the write-ahead log too
        told = f"{await secrets.get('billing')!r} {await secrets.get('billing')!s} {await secrets.list()} {await store.list_sealed()}"
    raw += files(tmp_path)
    for shape in (VALUE.encode(), base64.b64encode(VALUE.encode())[:-4], VALUE.encode().hex().encode(), VALUE.encode()[4:20]):
        assert shape not in raw
        assert shape.decode() not in told
    sealed_bytes = [field.name for field in fields(SealedSecret) if field.type == "bytes"]
    assert len(sealed_bytes) == 4
    assert not any(name in told for name in sealed_bytes)


def test_a_secret_is_not_shown_copied_or_stored() -> None:
    secret = Secret(VALUE)
    assert VALUE not in f"{secret} {secret!r} {[secret]} {secret.__dir__()}"
    assert secret == Secret(VALUE)
    assert secret != Secret("another")
    assert secret != VALUE
    for make in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            make(secret)


@pytest.mark.parametrize("value", ["", "abc", "a\0bcd", "\ud800abc", "x" * 65537])
async def test_a_value_that_is_no_secret_is_refused(tmp_path: Path, value: str) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(Misconfigured) as caught:
            await SecretStore(store, tmp_path, {}).set("billing", value)
        assert not value or value not in str(caught.value)
        assert await store.list_sealed() == ()


@pytest.mark.parametrize("name", ["", "a b", "../x", "a}", "é", "x" * 129, "-a"])
async def test_a_name_that_no_reference_can_say_is_refused(tmp_path: Path, name: str) -> None:
    async with opened(tmp_path) as store:
        with pytest.raises(Misconfigured, match="is no name"):
            await SecretStore(store, tmp_path, {}).set(name, VALUE)


async def test_a_missing_key_is_an_error_and_is_not_made_anew(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        secrets = SecretStore(store, tmp_path, {})
        await secrets.set("billing", VALUE)
        (tmp_path / "keys" / "secrets.key").unlink()
        for use in (secrets.get("billing"), secrets.set("other", VALUE), secrets.set("billing", VALUE), secrets.rotate_key()):
            with pytest.raises(Misconfigured, match=r"there is none: put .*secrets\.key back"):
                await use
        assert not (tmp_path / "keys" / "secrets.key").exists()


async def test_a_wrong_key_is_named(tmp_path: Path) -> None:
    right, wrong = SecretKey.generate(), SecretKey.generate()
    async with opened(tmp_path) as store:
        await SecretStore(store, tmp_path, {VARIABLE: right.text()}).set("billing", VALUE)
        secrets = SecretStore(store, tmp_path, {VARIABLE: wrong.text()})
        for use in (secrets.get("billing"), secrets.set("other", VALUE)):
            with pytest.raises(Misconfigured, match=f"sealed with the key {right.id}, and {VARIABLE} holds {wrong.id}") as caught:
                await use
            assert wrong.text() not in str(caught.value)
        assert (await SecretStore(store, tmp_path, {VARIABLE: right.text()}).get("billing")).reveal() == VALUE


async def test_a_readable_key_file_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        secrets = SecretStore(store, tmp_path, {})
        await secrets.set("billing", VALUE)
        (tmp_path / "keys" / "secrets.key").chmod(0o644)
        with pytest.raises(Misconfigured, match="chmod 600"):
            await secrets.get("billing")


@pytest.mark.parametrize("column", ["ciphertext", "nonce", "wrapped_key", "wrap_nonce"])
async def test_an_altered_row_does_not_open(tmp_path: Path, column: str) -> None:
    async with opened(tmp_path) as store:
        secrets = SecretStore(store, tmp_path, {})
        await secrets.set("billing", VALUE)
        sealed = await store.find_sealed("billing")
        assert sealed is not None
        raw = bytearray(getattr(sealed, column))
        for spoiled in (bytes([raw[0] ^ 1]) + raw[1:], raw[:-1] + bytes([raw[-1] ^ 128]), raw[:-1], b""):
            alter(tmp_path, f"UPDATE secrets SET {column} = ?", bytes(spoiled))
            for use in (secrets.get("billing"), secrets.rotate_key()) if "wrap" in column else (secrets.get("billing"),):
                with pytest.raises(Misconfigured, match="was altered") as caught:
                    await use
                assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "columns",
    [("ciphertext", "nonce"), ("wrapped_key", "wrap_nonce"), ("ciphertext", "nonce", "wrapped_key", "wrap_nonce"), ("version",), ("name",)],
)
async def test_rows_of_two_secrets_cannot_be_mixed(tmp_path: Path, columns: tuple[str, ...]) -> None:
    async with opened(tmp_path) as store:
        secrets = SecretStore(store, tmp_path, {})
        await secrets.set("a", VALUE)
        await secrets.set("b", VALUE + "-b")
        await secrets.set("b", VALUE + "-b")
        if columns == ("name",):
            alter(tmp_path, "DELETE FROM secrets WHERE name = 'b'")
            alter(tmp_path, "UPDATE secrets SET name = 'b' WHERE name = 'a'")
        else:
            for column in columns:
                alter(tmp_path, f"UPDATE secrets SET {column} = (SELECT {column} FROM secrets WHERE name = 'a') WHERE name = 'b'")
        with pytest.raises(Misconfigured, match="'b' does not open"):
            await secrets.get("b")


async def test_a_new_key_wraps_every_secret(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        secrets = SecretStore(store, tmp_path, {})
        for name in ("a", "b"):
            await secrets.set(name, VALUE + name)
        old = (tmp_path / "keys" / "secrets.key").read_text()
        before = {each.name: (each.version, each.ciphertext) for each in await store.list_sealed()}
        assert await secrets.rotate_key() == 2
        assert (tmp_path / "keys" / "secrets.key").read_text() != old
        assert {each.name: (each.version, each.ciphertext) for each in await store.list_sealed()} == before
        assert (await secrets.get("a")).reveal() == VALUE + "a"
        with pytest.raises(Misconfigured, match="put the right key back"):
            await SecretStore(store, tmp_path / "elsewhere", {VARIABLE: old}).get("a")


async def test_a_rotation_through_the_environment_takes_both_keys(tmp_path: Path) -> None:
    old, new = SecretKey.generate().text(), SecretKey.generate().text()
    async with opened(tmp_path) as store:
        await SecretStore(store, tmp_path, {VARIABLE: old}).set("a", VALUE)
        with pytest.raises(Misconfigured, match=NEXT_VARIABLE):
            await SecretStore(store, tmp_path, {VARIABLE: old}).rotate_key()
        assert await SecretStore(store, tmp_path, {VARIABLE: old, NEXT_VARIABLE: new}).rotate_key() == 1
        assert (await SecretStore(store, tmp_path, {VARIABLE: new}).get("a")).reveal() == VALUE
        with pytest.raises(Misconfigured):
            await SecretStore(store, tmp_path, {VARIABLE: old}).get("a")


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_rotation_that_was_cut_short_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str) -> None:
    async with opened(tmp_path) as store:
        secrets = SecretStore(store, tmp_path, {})
        await secrets.set("a", VALUE)

        async def no(*_: object) -> bool:
            raise Unavailable("power is gone")

        def nor(*_: object) -> None:
            raise Unavailable("power is gone")

        with monkeypatch.context() as patch:
            if cut == "before":
                patch.setattr(store, "replace_sealed", no)
            else:
                patch.setattr("hopgate.secret_keys.KeyFiles.promote", nor)
            with pytest.raises(Unavailable, match="power is gone"):
                await secrets.rotate_key()
        assert (await secrets.get("a")).reveal() == VALUE
        await secrets.set("b", VALUE)
        assert await secrets.rotate_key() == 2
        assert not (tmp_path / "keys" / "secrets.key.next").exists()
        assert [(await secrets.get(name)).reveal() for name in ("a", "b")] == [VALUE, VALUE]


async def test_several_who_set_at_once_do_not_lose_a_version(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        versions = await asyncio.gather(*(SecretStore(store, tmp_path, {}).set("a", VALUE + str(number)) for number in range(5)))
        assert sorted(versions) == [1, 2, 3, 4, 5]


async def test_a_secret_that_changed_since_it_was_read_is_not_replaced(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await SecretStore(store, tmp_path, {}).set("a", VALUE)
        sealed = await store.find_sealed("a")
        assert sealed is not None
        assert not await store.replace_sealed([(replace(sealed, version=2), None)])
        assert not await store.replace_sealed([(replace(sealed, version=2), replace(sealed, key_id="0"))])
        assert await store.replace_sealed([(replace(sealed, version=2), sealed)])
