"""What the tests of commands share."""

from __future__ import annotations

from typing import Any

from rules.model import UNKNOWN, Operation
from rules.shell.command import operation_of


def read(command: str | bytes, shell: str = "bash") -> Operation:
    return operation_of(command.encode() if isinstance(command, str) else command, shell)


def parts(command: str | bytes, shell: str = "bash") -> tuple[Operation, ...]:
    operation = read(command, shell)
    return operation.parts or (operation,)


def programs(command: str | bytes, shell: str = "bash") -> set[str]:
    """Every program that some part names."""
    named = (part.facts.get("programs") for part in parts(command, shell))
    return {name for names in named if names is not UNKNOWN for name in names}


def argvs(command: str | bytes, shell: str = "bash") -> set[Any]:
    """The words of every part; None where an expansion decides them."""
    return {None if part.facts.get("argv") is UNKNOWN else part.facts.get("argv") for part in parts(command, shell)}


def facets(command: str | bytes, program: str) -> set[str]:
    """The facets of the parts whose last program is this one."""
    found = [part for part in parts(command) if part.facts.get("programs") is not UNKNOWN and part.facts.get("programs")[-1:] == (program,)]
    assert found, f"no part runs {program}"
    return {facet for part in found for facet in part.facts.get("facets")}
