"""A relay's conversation as a script of events and commands, whose failure reads as a diff.

    assert (
        Playbook(relay)
        >> Started()
        >> Bytes(CLIENT, b"hello")
        << Connect()
        >> Answer(None)
        << Send(SERVER, b"hello")
    )

`>>` is what happens, `<<` what the relay must say to it, all of it and in order. An expected command may be a class (any of it), or hold
`ANY` where a value does not matter. `Answer` and `Failure` go to the question asked last, or to the one whose class is named.
"""

from __future__ import annotations

import difflib
import warnings
from dataclasses import dataclass, fields
from typing import Any, Self

from relays.commands import Blocking, Command, Side
from relays.relay import Relay


class _Any:
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "ANY"


ANY: Any = _Any()


class Event:
    """Something that happens to a relay."""


@dataclass
class Started(Event):
    """The client is there."""


@dataclass
class Bytes(Event):
    """A side has sent something."""

    side: Side
    data: bytes


@dataclass
class Answer(Event):
    """The answer to a question."""

    value: Any = None
    to: type[Blocking] = Blocking


@dataclass
class Failure(Event):
    """What a question fails with."""

    error: Exception
    to: type[Blocking] = Blocking


@dataclass
class Held(Event):
    """Reviewers have been asked."""

    decision: Any
    to: type[Blocking] = Blocking


@dataclass
class Lost(Event):
    """A side has ended."""

    side: Side


@dataclass
class Signalled(Event):
    """Another connection has named a key of this relay."""


@dataclass
class Killed(Event):
    """The session was ended from outside."""

    reason: str = "killed"


class Playbook:
    """Events and expected commands. Truth runs it: a playbook that is never asserted warns, which fails the test."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.script: list[Event | Command | type[Command]] = []
        self._questions: list[Blocking] = []
        self._ran = False

    def __rshift__(self, event: Event) -> Self:
        self.script.append(event)
        return self

    def __lshift__(self, command: Command | type[Command]) -> Self:
        self.script.append(command)
        return self

    def __bool__(self) -> bool:
        self._ran = True
        happened: list[Any] = []
        for event in (each for each in self.script if isinstance(each, Event)):
            happened.append(event)
            for command in self._commands(event):
                if isinstance(command, Blocking):
                    self._questions.append(command)
                happened.append(command)
        if len(happened) == len(self.script) and all(map(_fits, self.script, happened)):
            return True
        wanted = [_shown(each) for each in self.script]
        # what fits is shown as it was asked for, so that only what differs stands out
        fitting = [index < len(wanted) and _fits(self.script[index], each) for index, each in enumerate(happened)]
        got = [wanted[index] if fits else _shown(happened[index]) for index, fits in enumerate(fitting)]
        raise AssertionError("\n" + "\n".join(difflib.ndiff(wanted, got)))

    def _commands(self, event: Event) -> list[Command]:
        relay = self.relay
        match event:
            case Started():
                return list(relay.start())
            case Bytes(side, data):
                return list(relay.receive(side, data))
            case Answer(value, to):
                return list(relay.answered(self._question(to), value))
            case Failure(error, to):
                return list(relay.failed(self._question(to), error))
            case Held(decision, to):
                return list(relay.hold(self._question(to, keep=True), decision))
            case Lost(side):
                return list(relay.lost(side))
            case Signalled():
                return list(relay.signal())
            case Killed(reason):
                return list(relay.kill(reason))
        raise TypeError(f"no such event: {event!r}")

    def _question(self, kind: type[Blocking], *, keep: bool = False) -> Blocking:
        found = [each for each in self._questions if isinstance(each, kind)]
        assert found, f"the relay has asked no {kind.__name__}"
        if not keep:
            self._questions.remove(found[-1])
        return found[-1]

    def __del__(self) -> None:
        if not self._ran:
            warnings.warn("a playbook was never asserted", RuntimeWarning, stacklevel=1)


def _fits(wanted: Any, got: Any) -> bool:
    if isinstance(wanted, type):
        return type(got) is wanted
    if type(wanted) is not type(got):
        return False
    if wanted is got:
        return True
    # field by field, the wanted one on the left: ANY is asked first
    return all(_same(getattr(wanted, each.name), getattr(got, each.name)) for each in fields(wanted))


def _same(wanted: Any, got: Any) -> bool:
    return bool(wanted == got)


def _shown(each: Any) -> str:
    if isinstance(each, type):
        return f"<< {each.__name__}(…)"
    return f"{'>>' if isinstance(each, Event) else '<<'} {each!r}"
