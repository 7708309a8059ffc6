"""A target on loopback that keeps every byte it gets, to prove what it did not get."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import h2.config
import h2.connection
import h2.events
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

type Answer = bytes | Callable[["Connection"], None]


def response(body: bytes = b"ok", *, status: str = "200 OK", headers: bytes = b"Content-Type: text/plain\r\n") -> bytes:
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status.encode(), headers, len(body), body)


def json_response(body: bytes, headers: bytes = b"") -> bytes:
    return response(body, headers=b"Content-Type: application/json\r\n" + headers)


class Connection:
    """One accepted connection: what an answer that is a function gets to write to."""

    def __init__(self, origin: Origin, sock: socket.socket) -> None:
        self.origin, self.sock = origin, sock
        self._buffer = b""
        self.closing = False  # the client asked for it

    def read(self) -> bytes:
        data = self.sock.recv(65536)
        with self.origin.lock:
            self.origin.seen += data
        return data

    def read_request(self) -> tuple[str, bytes] | None:
        """Target and whole bytes of the next request; None at the end."""
        while b"\r\n\r\n" not in self._buffer:
            data = self.read()
            if not data:
                return None
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        self.closing = b"\r\nconnection: close" in head.lower()
        if not self.origin.reads_bodies:
            return head.split(b" ")[1].decode("latin-1"), head + b"\r\n\r\n"
        length = 0
        chunked = False
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            chunked = chunked or (name.lower() == b"transfer-encoding" and b"chunked" in value.lower())
        if chunked:
            while b"0\r\n\r\n" not in self._buffer:
                self._buffer += self.read()
            body, _, self._buffer = self._buffer.partition(b"0\r\n\r\n")
        else:
            while len(self._buffer) < length:
                self._buffer += self.read()
            body, self._buffer = self._buffer[:length], self._buffer[length:]
        return head.split(b" ")[1].decode("latin-1"), head + b"\r\n\r\n" + body


class Origin:
    """HTTP/1.1 on a free port, with or without TLS; `answers` by path, `ok` for the rest."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, Answer] = {}
        self.http2_answers: dict[str, tuple[list[tuple[str, str]], bytes, list[tuple[str, str]]]] = {}  # fields, body, trailers
        self.reads_bodies = True  # many a small server answers without looking at the body, and finds its next request in it
        self.seen = bytearray()
        self.requests: list[tuple[str, bytes]] = []
        self.connections = 0
        self.lock = threading.Lock()
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def clear(self) -> None:
        with self.lock:
            self.seen.clear()
            self.requests.clear()
            self.connections = 0

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with self.lock:
            self.connections += 1
        try:
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
                if sock.selected_alpn_protocol() == "h2":  # type: ignore[attr-defined]
                    self._serve_h2(sock)
                    return
            connection = Connection(self, sock)
            while not connection.closing and (request := connection.read_request()) is not None:
                with self.lock:
                    self.requests.append(request)
                answer = self.answers.get(request[0].partition("?")[0], response())
                if callable(answer):
                    answer(connection)
                else:
                    sock.sendall(answer)
        except OSError:
            pass
        finally:
            sock.close()

    def _serve_h2(self, sock: socket.socket) -> None:
        http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        http2.initiate_connection()
        sock.sendall(http2.data_to_send())
        while data := sock.recv(65536):
            with self.lock:
                self.seen += data
            for event in http2.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    fields = dict(event.headers)
                    lines = b"\r\n".join(b"%b: %b" % field for field in event.headers)
                    with self.lock:
                        self.seen += lines
                        self.requests.append((fields[b":path"].decode(), lines))
                    usual = [(":status", "200"), ("content-type", "application/json")], b'{"h2":true,"password":"hunter2-secret"}', []
                    head, body, trailers = self.http2_answers.get(fields[b":path"].decode(), usual)
                    http2.send_headers(event.stream_id, head)
                    if body:
                        http2.send_data(event.stream_id, body, end_stream=not trailers)
                    if trailers:
                        http2.send_headers(event.stream_id, trailers, end_stream=True)
            sock.sendall(http2.data_to_send())


def make_certificate(directory: Path, *names: str) -> tuple[Path, Path]:
    """A self-signed certificate for names and addresses: (certificate, certificate with key), both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    cert_file, both_file = directory / f"{names[0]}.crt", directory / f"{names[0]}.pem"
    cert_file.write_bytes(public)
    both_file.write_bytes(private + public)
    return cert_file, both_file


def tls_context(pem: Path, *alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context
