"""A recording as what a person reads in a terminal: its flows in order, as pieces of text with the moment that each belongs to.

Terminals come as they were shown; conversations of relays as a transcript, `>` what the client sent and `<` what it got; HTTP as
requests and responses. Everything that came from outside has only printing characters, cursor movements and colours in it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hopgate.asciicast import CAST, BadCast, Event, Header, read_cast
from hopgate.cli.output import visible
from hopgate.flow_reading import BadFlow
from hopgate.terminal_text import RESET

SHOWN_BODY: Final = 4096  # characters of one body
_TEXTUAL: Final = ("text/", "application/json", "application/x-www-form-urlencoded", "application/xml", "application/problem")


@dataclass(frozen=True, slots=True)
class Piece:
    """Text to write as it is, at a moment (seconds since the epoch)."""

    at: float
    text: str


def pieces(flows: Iterable[Mapping[str, Any]]) -> Iterator[Piece]:
    """What to show of a recording. Raises BadFlow for a flow that is written otherwise than this gateway writes it.

    Terminals are shown one after the other, each at its end: their events stand between those of other channels.
    """
    terminals: dict[Any, list[bytes]] = {}
    for flow in flows:
        try:
            terminal = flow.get("metadata", {}).get(CAST)
            if terminal is not None:
                terminals.setdefault(terminal, []).extend(content for _, content, _ in flow["messages"])
            elif flow["type"] == "tcp":
                yield from _conversation(flow)
            elif flow["type"] == "http":
                yield from _exchange(flow)
            else:
                yield _line(flow.get("timestamp_created") or 0.0, f"({visible(flow['type'])} flow)")
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise BadFlow("a flow that this gateway has not written") from error
    for number, lines in terminals.items():
        yield from _terminal(number, lines)


def cast_lines(flows: Iterable[Mapping[str, Any]]) -> list[list[bytes]]:
    """The asciicast lines of every terminal in a recording."""
    terminals: dict[Any, list[bytes]] = {}
    for flow in flows:
        number = flow.get("metadata", {}).get(CAST)
        if number is not None:
            terminals.setdefault(number, []).extend(content for _, content, _ in flow["messages"])
    return list(terminals.values())


def _line(at: float, text: str) -> Piece:
    return Piece(float(at), f"{text}\n")


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


# --- terminals


def _terminal(number: Any, lines: list[bytes]) -> Iterator[Piece]:
    try:
        began = at = 0.0
        for event in read_cast(lines):
            if isinstance(event, Header):
                began = at = event.timestamp
                yield _line(at, f"--- terminal {visible(number)}, {event.width} columns, {event.height} rows")
            else:
                at = began + event.at
                if (text := _event(event)) is not None:
                    yield Piece(at, text)
        yield _line(at, f"{RESET}\n--- end of terminal {visible(number)}")
    except BadCast as error:
        raise BadFlow(str(error)) from error


def _event(event: Event) -> str | None:
    if event.kind == "o":
        return event.text
    return f"\x1b[7m {event.text} \x1b[0m\r\n" if event.kind == "m" else None


# --- conversations


def _conversation(flow: Mapping[str, Any]) -> Iterator[Piece]:
    for from_client, content, at in flow["messages"]:
        text = visible(content.decode("utf-8", "replace"), lines=True)
        mark = ">" if from_client else "<"
        for line in text.removesuffix("\n").split("\n"):
            yield _line(at, f"{_clock(at)} {mark} {line}")


# --- HTTP


def _exchange(flow: Mapping[str, Any]) -> Iterator[Piece]:
    request, response = flow["request"], flow.get("response")
    began = request["timestamp_start"] or 0.0
    target = f"{_text(request['scheme'])}://{visible(request['host'])}:{request['port']}{_text(request['path'])}"
    yield _line(began, f"{_clock(began)} > {_text(request['method'])} {target}")
    yield from _body(began, ">", request)
    if response is not None:
        at = response["timestamp_start"] or began
        yield _line(at, f"{_clock(at)} < {response['status_code']} {_text(response['reason'])}".rstrip())
        yield from _body(at, "<", response)
    for _, from_client, content, at, *_ in (flow.get("websocket") or {}).get("messages", ()):
        yield _line(at, f"{_clock(at)} {'>' if from_client else '<'} {visible(content.decode('utf-8', 'replace'))[:SHOWN_BODY]}")
    if comment := flow.get("comment"):
        yield _line(began, f"         ({visible(comment)})")


def _body(at: float, mark: str, message: Mapping[str, Any]) -> Iterator[Piece]:
    content = message.get("content")
    if not content:
        return
    kind = next((value.decode("latin-1") for name, value in message["headers"] if name.lower() == b"content-type"), "")
    kind = kind.partition(";")[0].strip().lower()
    if not kind.startswith(_TEXTUAL) and not kind.endswith(("+json", "+xml")):
        yield _line(at, f"         {mark} ({len(content)} bytes of {visible(kind) or 'unknown type'})")
        return
    text = visible(content.decode("utf-8", "replace"), lines=True)
    more = f" … ({len(content)} bytes)" if len(text) > SHOWN_BODY else ""
    for line in f"{text[:SHOWN_BODY]}{more}".removesuffix("\n").split("\n"):
        yield _line(at, f"         {mark} {line}")


def _text(value: bytes) -> str:
    return visible(value.decode("utf-8", "replace"))
