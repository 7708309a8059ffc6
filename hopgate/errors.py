"""Errors that end an operation or a start, each with the sentence that a person reads."""

from __future__ import annotations


class HopgateError(Exception):
    """One line, lower case: what was wrong, where, what to do. Never a secret."""

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else ""


class Denied(HopgateError):
    """The caller is known or not, and may not. `rules` names the rules that said so."""

    def __init__(self, message: str, *, rules: tuple[str, ...] = (), session: str = "", operation: str = "") -> None:
        super().__init__(message)
        self.rules = rules
        self.session = session
        self.operation = operation


class Unauthenticated(Denied):
    """No token, or one that proves nothing."""


class Expired(Unauthenticated):
    """The token, session or approval was good once."""


class Conflict(HopgateError):
    """What was to be changed has changed meanwhile, or is settled: look again. HTTP 409."""


class Unavailable(HopgateError):
    """Something that the decision needs (provider, store, ledger, disk) does not answer: nothing passes."""


class Misconfigured(HopgateError):
    """The configuration, a rule file or a key is wrong. `problems` holds one line each, with file and line."""

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems or (message,)

    def __str__(self) -> str:
        return "\n".join(self.problems)
