"""A model of what PostgreSQL does with a conversation: when names are looked up, what a transaction undoes, what COPY and errors skip.

There is one table `t` in each of two schemas. `touched` says in which one a statement that ran has found it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from relays.postgres import codec, state

DESCRIPTION = codec.RowDescription((codec.Column(b"a"),)).build()
NOTHING = codec.CommandComplete(b"SELECT 0").build()
ERROR = codec.report(b"ERROR", b"22012", "no").build()
_STATE = ["orders", "app", "app", ["public"], "on", "UTF8", "off", "on", "safe_encoding", "on", "origin"]


class Failed(Exception):
    """The statement fails."""


@dataclass
class Portal:
    text: bytes
    path: bytes  # when it was bound
    done: bool = False


class Database:
    """`answer` gives what comes back for bytes that a relay sent."""

    def __init__(self) -> None:
        self.status, self.path, self.before = b"I", b"public", b"public"
        self.statements: dict[bytes, bytes] = {}
        self.portals: dict[bytes, Portal] = {}
        self.skipping = self.copying = False
        self.touched: list[tuple[bytes, bytes]] = []
        self._unread = b""
        self._rest: Iterator[bytes] | None = None  # what runs when COPY data have ended

    def answer(self, data: bytes) -> bytes:
        data = self._unread + data
        out, at = [], 0
        while at + 5 <= len(data) and (stop := at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")) <= len(data):
            out.append(self._one(chr(data[at]), data[at + 5 : stop]))
            at = stop
        self._unread = data[at:]
        return b"".join(out)

    def _one(self, kind: str, body: bytes) -> bytes:
        if self.copying:
            assert kind in "dcfSH", "the server would end the connection"
            if kind in "dSH":
                return b""
            self.copying = False
            rest, self._rest = self._rest, None
            assert rest is not None
            return self._end(rest, failed=kind == "f")
        if kind in "dcfX" or (self.skipping and kind != "S"):
            return b""
        if kind == "Q":
            self._begin()
            for names in (self.statements, self.portals):
                names.pop(b"", None)
            return self._end(self._query(body[:-1]))
        if kind == "S":
            self.skipping = False
            return self._ready()
        if kind == "H":
            return b""
        return self._end(self._extended(kind, body))

    def _end(self, steps: Iterator[bytes], *, failed: bool = False) -> bytes:
        """Run what a message asks for, up to its end or to the COPY data that it waits for."""
        out = b""
        try:
            if failed:
                steps.throw(Failed())  # type: ignore[attr-defined]
            for step in steps:
                out += step
                if self.copying:
                    self._rest = steps
                    break
        except Failed:
            out += ERROR
            self.skipping = True
            if self.status != b"I":
                self.status = b"E"
            else:
                self._undo()
            if steps.__name__ == "_query":  # type: ignore[attr-defined]
                self.skipping = False
                out += self._ready()
        return out

    def _begin(self) -> None:
        if self.status == b"I":
            self.before = self.path

    def _undo(self) -> None:
        self.path = self.before
        self.portals.clear()

    def _ready(self) -> bytes:
        if self.status == b"I":
            self.portals.clear()
            self.before = self.path
        return codec.ReadyForQuery(self.status).build()

    def _query(self, text: bytes) -> Iterator[bytes]:
        if text == state.SQL:
            found = json.dumps([*_STATE[:3], [self.path.decode()], *_STATE[4:]]).encode()
            yield DESCRIPTION + codec.DataRow((found,)).build() + codec.CommandComplete(b"SELECT 1").build()
        else:
            for one in text.split(b"; "):
                if _described(self._resolved(one)):
                    yield DESCRIPTION
                yield from self._run(one, self.path)
        yield self._ready()

    def _extended(self, kind: str, body: bytes) -> Iterator[bytes]:
        if kind == "P":
            parse = codec.Parse.parse(body)
            if (parse.name and parse.name in self.statements) or (self.status == b"E" and parse.sql not in (b"COMMIT", b"ROLLBACK")):
                raise Failed
            if parse.sql.startswith(b"hopgate") or b"; " in parse.sql:
                raise Failed
            self.statements[parse.name] = parse.sql
            yield codec.PARSE_COMPLETE
        elif kind == "B":
            bind = codec.Bind.parse(body)
            text = self.statements.get(bind.statement)
            if (
                text is None
                or (bind.portal and bind.portal in self.portals)
                or (self.status == b"E" and text not in (b"COMMIT", b"ROLLBACK"))
            ):
                raise Failed
            self._resolved(text)
            self.portals[bind.portal] = Portal(text, self.path)
            yield codec.BIND_COMPLETE
        elif kind == "C":
            close = codec.CloseTarget.parse(body)
            names: dict[bytes, object] = self.statements if close.what == b"S" else self.portals  # type: ignore[assignment]
            names.pop(close.name, None)
            yield codec.CLOSE_COMPLETE
        elif kind == "D":
            describe = codec.Describe.parse(body)
            if self.status == b"E":
                raise Failed
            if describe.what == b"S":
                found = self.statements.get(describe.name)
                yield codec.ParameterDescription(()).build() if found is not None else b""
            else:
                portal = self.portals.get(describe.name)
                found = None if portal is None else portal.text
            if found is None:
                raise Failed
            yield DESCRIPTION if _described(self._resolved(found)) else codec.NO_DATA
        else:
            yield from self._execute(codec.Execute.parse(body))

    def _execute(self, message: codec.Execute) -> Iterator[bytes]:
        portal = self.portals.get(message.portal)
        if portal is None:
            raise Failed
        if portal.done:
            if not _described(portal.text):
                raise Failed
            yield NOTHING
            return
        portal.done = True
        planned = portal.text.startswith(b"SELECT")
        for step in self._run(portal.text, portal.path if planned else self.path):
            row = 1 + int.from_bytes(step[1:5], "big")
            yield step[:row] + codec.PORTAL_SUSPENDED if message.rows == 1 and step.startswith(b"D") else step

    # --- statements

    def _resolved(self, text: bytes) -> bytes:
        """The text that EXECUTE runs."""
        if not text.startswith(b"EXECUTE "):
            return text
        found = self.statements.get(text[8:])
        if found is None or found.startswith(b"EXECUTE "):
            raise Failed
        return found

    def _run(self, text: bytes, path: bytes) -> Iterator[bytes]:
        word, _, rest = text.partition(b" ")
        if self.status == b"E" and word not in (b"COMMIT", b"ROLLBACK"):
            raise Failed
        done = codec.CommandComplete(word).build()
        if word == b"EXECUTE":
            yield from self._run(self._resolved(text), self.path)
            return
        if word in (b"SELECT", b"DROP", b"COPY") and b" t" in text:
            self.touched.append((word, path))
        if word == b"SELECT":
            if b"/" in text:
                raise Failed
            yield codec.DataRow((path + b" " + text,)).build() + done
            return
        if word == b"COPY":
            if text.endswith(b"STDIN"):
                self.copying = True
                yield codec.message(b"G", b"\0\0\0")
            else:
                yield codec.message(b"H", b"\0\0\0") + codec.message(b"d", path + b"\n") + codec.message(b"c", b"")
        elif word == b"SET":
            self.path = rest.rpartition(b" ")[2]
        elif word == b"BEGIN":
            self.status = b"T"
        elif word in (b"COMMIT", b"ROLLBACK"):
            if self.status == b"E" or (word == b"ROLLBACK" and self.status == b"T"):
                self._undo()
            self.status = b"I"
            self.portals.clear()
            self.before = self.path
        elif word == b"PREPARE":
            name, _, found = rest.partition(b" AS ")
            if name in self.statements:
                raise Failed
            self.statements[name] = found
        elif word == b"DEALLOCATE" and rest == b"ALL":
            self.statements.clear()
        elif (word == b"DEALLOCATE" and self.statements.pop(rest, None) is None) or word not in (b"DEALLOCATE", b"DROP"):
            raise Failed
        yield done


def _described(text: bytes) -> bool:
    return text.startswith(b"SELECT")
