"""A real mitmdump with the gateway's script, as a subprocess, and a client that sends exactly the bytes it is given."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hopgate.config import load_config
from hopgate.tokens import issue_token
from playground.postgres import free_port

SECRET = "injected-credential-0123456789"
PASSWORD = b"hunter2-secret"
SCRIPT = str(find_spec("addons.gateway").origin)  # type: ignore[union-attr]


@dataclass
class Reply:
    """One HTTP/1.1 response, or what came before the connection was closed."""

    raw: bytes
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers.get("content-type") == "application/problem+json", self.raw
        found: dict[str, Any] = json.loads(self.body)
        assert found["status"] == self.status
        return found


class Client:
    """A connection to the gateway."""

    def __init__(self, port: int, timeout: float = 20.0) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._rest = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read_all(self) -> bytes:
        """Everything until the gateway closes, or the time-out passes."""
        data, self._rest = self._rest, b""
        try:
            while part := self.sock.recv(65536):
                data += part
        except (TimeoutError, OSError):
            pass
        return data

    def read(self) -> Reply:
        """One response. Status 0: closed without one."""
        data = self._rest
        while b"\r\n\r\n" not in data:
            try:
                part = self.sock.recv(65536)
            except ConnectionError:
                part = b""
            if not part:
                return Reply(data, 0, {}, b"")
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        status = int(lines[0].split(" ")[1])
        if "content-length" in headers:
            length = int(headers["content-length"])
            while len(body) < length:
                part = self.sock.recv(65536)
                if not part:
                    break
                body += part
            self._rest = body[length:]
            body = body[:length]
        elif "transfer-encoding" in headers:
            while not body.endswith(b"0\r\n\r\n"):
                part = self.sock.recv(65536)
                if not part:
                    break
                body += part
        return Reply(data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body, status, headers, body)


class Gateway:
    """A running gateway in a directory of its own."""

    def __init__(self, directory: Path, configuration: str, rules: str, *, options: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "rules.yaml").write_text(rules)
        self.port = free_port()
        (directory / "hopgate.yaml").write_text(
            f"version: 1\nstate: ./var\nrules: [rules.yaml]\nidentity:\n  issuers: [{{name: local, local: true}}]\n"
            f"listen: {{http: '127.0.0.1:{self.port}'}}\n{configuration}"
        )
        self.script = directory / "addons" / "gateway.py"
        self.script.parent.mkdir(exist_ok=True)
        shutil.copy(SCRIPT, self.script)
        self.options = dict(options or {})
        self.process: subprocess.Popen[bytes] | None = None
        self._token = ""

    @property
    def config(self) -> Any:
        return load_config(self.directory / "hopgate.yaml")

    def token(self, subject: str = "agent-1", *groups: str, ttl: float = 600, peer: str | None = None) -> str:
        return issue_token(self.config, subject, groups or ("agents",), ttl, peer=peer)

    def command(self, *more: str) -> list[str]:
        settings = [f"hopgate={self.directory / 'hopgate.yaml'}", *(f"{name}={value}" for name, value in self.options.items())]
        arguments = [part for setting in settings for part in ("--set", setting)]
        listen = ["--listen-host", "127.0.0.1", "--listen-port", str(self.port)]
        mitmdump = [sys.executable, "-c", "import sys; from mitmproxy.tools.main import mitmdump; sys.exit(mitmdump())"]
        return [*mitmdump, "-q", "-s", str(self.script), *listen, *arguments, *more]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "API_KEY": SECRET, "HOME": str(self.directory), "PYTHONPATH": str(Path(SCRIPT).parent.parent)}

    def start(self, *more: str) -> Gateway:
        self.log = (self.directory / "log.txt").open("ab")
        self.process = subprocess.Popen(self.command(*more), cwd="/", env=self.environment(), stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the gateway ended: {self.output()}")
            try:
                with Client(self.port, timeout=1) as client:
                    client.send(b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                    if client.read().status in (404, 503):
                        break
            except OSError:
                pass
            time.sleep(0.05)
        else:
            raise AssertionError(f"the gateway does not start: {self.output()}")
        # the services come up a moment after the port
        while time.monotonic() < deadline:
            if self.get("http://nowhere.test/").status != 503:
                return self
            time.sleep(0.05)
        raise AssertionError(f"the gateway does not get ready: {self.output()}")

    def output(self) -> str:
        return (self.directory / "log.txt").read_text()

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    # --- requests

    @property
    def credential(self) -> bytes:
        if not self._token:
            self._token = self.token()
        return b"Proxy-Authorization: Bearer " + self._token.encode() + b"\r\n"

    def connect(self, timeout: float = 20.0) -> Client:
        return Client(self.port, timeout)

    def request(self, method: str, url: str, *, headers: bytes = b"", body: bytes = b"", credential: bytes | None = None) -> Reply:
        """One plain proxy request on a connection of its own."""
        host = url.split("/")[2]
        length = b"Content-Length: %d\r\n" % len(body) if body else b""
        head = f"{method} {url} HTTP/1.1\r\nHost: {host}\r\n".encode("latin-1")
        with self.connect() as client:
            client.send(head + (self.credential if credential is None else credential) + headers + length + b"\r\n" + body)
            return client.read()

    def get(self, url: str, *, headers: bytes = b"", credential: bytes | None = None) -> Reply:
        return self.request("GET", url, headers=headers, credential=credential)

    def raw(self, data: bytes, timeout: float = 2.0) -> bytes:
        """Send these bytes, with `{auth}` replaced, and give everything that comes back."""
        with self.connect(timeout) as client:
            client.send(data.replace(b"{auth}", self.credential))
            return client.read_all()

    def tunnel(self, authority: str, timeout: float = 20.0) -> Client:
        client = self.connect(timeout)
        client.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n".encode() + self.credential + b"\r\n")
        data = b""
        while b"\r\n\r\n" not in data:
            data += client.sock.recv(4096)
        assert b" 200 " in data.split(b"\r\n")[0], data
        return client

    # --- what is left behind

    def recordings(self) -> list[Path]:
        return sorted((self.directory / "var" / "recordings").rglob("*.mitm"))

    def ledger(self) -> list[dict[str, Any]]:
        return [json.loads(line) for path in (self.directory / "var" / "ledger").glob("*.ndjson") for line in path.read_text().splitlines()]

    @staticmethod
    def eventually(found: Callable[[], bool], seconds: float = 30.0) -> bool:
        """Whether it becomes true: reads reach the disk a moment after their answer."""
        deadline = time.monotonic() + seconds
        while not found():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.03)
        return True

    def everything_written(self) -> bytes:
        files = [
            path for path in (self.directory / "var").rglob("*") if path.is_file() and "keys" not in path.parts and "ca" not in path.parts
        ]
        return b"".join(path.read_bytes() for path in files) + self.output().encode()


def quiet(sock: socket.socket, seconds: float = 0.3) -> bool:
    """Nothing comes within that time."""
    return not select.select([sock], [], [], seconds)[0]
