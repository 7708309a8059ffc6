"""`when:` expressions in CEL, over scalar facts and short lists.

CEL has no step limit and holds the GIL, so what an expression may be is bounded when it is loaded (1 KB, one comprehension
macro, known names and functions only) and what it sees is bounded when it runs (string and list lengths, depth).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from rules.model import UNKNOWN, Connection, Operation, Principal, Unknown
from rules.vocabulary import EXPRESSION_SHAPES, FACTS

MAX_EXPRESSION: Final = 1024  # bytes
MAX_LIST: Final = 100
MAX_DEPTH: Final = 32
MAX_TEXT: Final = 64 * 1024  # characters of one string
MAX_NESTING: Final = 64  # brackets in an expression

SCOPES: Final = frozenset({"principal", "connection"})
FUNCTIONS: Final = frozenset(
    {"size", "matches", "contains", "startsWith", "endsWith", "int", "uint", "double", "string", "bool", "type", "max", "min"}
)
_STRING: Final = re.compile(r"""[rRbB]{0,2}(?:\"\"\".*?\"\"\"|'''.*?'''|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')""", re.DOTALL)
_MACRO: Final = re.compile(r"\b(?:all|exists|exists_one|existsOne|map|filter|transformList|transformMap|sortBy)\b")
_VARIABLE: Final = re.compile(r"\b(?:all|exists|exists_one|existsOne|map|filter)\s*\(\s*([A-Za-z_]\w*)\s*,")


class BadExpression(ValueError):
    """An expression that CEL cannot read, or that is beyond the bounds."""


class Expression:
    """One compiled `when:`; `references` names the facts and scopes that it reads."""

    def __init__(self, text: str, known: Iterable[str]) -> None:
        self.text = text
        self._program, self.references = _compile(text, frozenset(known))

    def truth(self, scope: Scope) -> bool | Unknown:
        """True, false, or unknown for an error or a value that is not a boolean."""
        try:
            result = self._program.execute(scope.context)
        except Exception:  # KeyError, ArithmeticError, RuntimeError, ValueError …: CEL has no common base
            return UNKNOWN
        return result if result is True or result is False else UNKNOWN


def _compile(text: str, known: frozenset[str]) -> tuple[Any, frozenset[str]]:
    if len(text.encode("utf-8", "replace")) > MAX_EXPRESSION:
        raise BadExpression(f"an expression has at most {MAX_EXPRESSION} bytes")
    bare = _STRING.sub("''", text)
    if len(_MACRO.findall(bare)) > 1:
        raise BadExpression("an expression has at most one comprehension macro (all, exists, exists_one, map, filter)")
    if sum(bare.count(bracket) for bracket in "([{") > MAX_NESTING:
        raise BadExpression(f"an expression has at most {MAX_NESTING} brackets")
    import cel  # a quarter of a second: its command line comes with it

    try:
        program = cel.compile(text)
        found = program.references()
    except Exception as error:
        reason = str(error).partition("ERROR: ")[2].splitlines() or str(error).splitlines() or [type(error).__name__]
        raise BadExpression(f"not a CEL expression: {reason[0][:200]}") from None
    names = frozenset(found["variables"]) - (frozenset(_VARIABLE.findall(bare)) - known)
    if unknown := sorted(names - known):
        raise BadExpression(f"unknown name `{unknown[0]}` in the expression, expected one of {', '.join(sorted(known))}")
    functions = {name for name in found["functions"] if name[0].isalpha()}
    if foreign := sorted(functions - FUNCTIONS):
        raise BadExpression(f"unknown function `{foreign[0]}` in the expression, expected one of {', '.join(sorted(FUNCTIONS))}")
    return program, names


class Scope:
    """What `when:` sees of one operation. The CEL context is built once, and only when an expression is reached."""

    __slots__ = ("_build", "_context")

    def __init__(self, operation: Operation, principal: Principal, connection: Connection) -> None:
        self._build: Callable[[], dict[str, Any]] = lambda: _variables(operation, principal, connection)
        self._context: Any = None

    @property
    def context(self) -> Any:
        if self._context is None:
            import cel

            self._context = cel.Context(variables=self._build())
        return self._context


def _variables(operation: Operation, principal: Principal, connection: Connection) -> dict[str, Any]:
    """Facts that are unknown or beyond the bounds are left out, so that an expression that reads them is unknown too."""
    variables: dict[str, Any] = {}
    for name, fact in FACTS[operation.kind].items():
        if fact.shape in EXPRESSION_SHAPES and (fact.phase == "request" or operation.phase == "response"):
            _put(variables, name, _fact(operation, name))
    who = {"issuer": principal.issuer, "subject": principal.subject, "groups": sorted(principal.groups), "run": principal.run}
    variables["principal"] = {**_bounded_members(who), "claims": _bounded_members(principal.claims)}
    variables["connection"] = _bounded_members({"name": connection.name, "kind": connection.kind, "labels": connection.labels})
    return variables


def _fact(operation: Operation, name: str) -> Any:
    if name == "complete":
        return operation.complete
    if name == "reason":
        return operation.reason
    try:
        return operation.facts.get(name)
    except Exception:
        return UNKNOWN


def _put(variables: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        return
    try:
        variables[name] = _bounded(value, 0)
    except OverflowError:
        return


def _bounded_members(values: Mapping[str, Any]) -> dict[str, Any]:
    """Each member by itself: one claim beyond the bounds must not hide the others."""
    members: dict[str, Any] = {}
    for name, value in values.items():
        _put(members, name, value)
    return members


def _bounded(value: Any, depth: int) -> Any:
    """A copy of `value` in CEL's types. Raises OverflowError where it is too long, too deep, or of another type."""
    if value is None or value is True or value is False or isinstance(value, float):
        return value
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise OverflowError(f"a string of {len(value)} characters")
        return str(value)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise OverflowError("an integer beyond 64 bits would become a double")
        return value
    if isinstance(value, Decimal):
        raise OverflowError("a decimal would become a double")
    if depth >= MAX_DEPTH:
        raise OverflowError("too deep")
    if isinstance(value, list | tuple | set | frozenset):
        if len(value) > MAX_LIST:
            raise OverflowError(f"a list of {len(value)}")
        return [_bounded(member, depth + 1) for member in value]
    if isinstance(value, Mapping):
        if len(value) > MAX_LIST:
            raise OverflowError(f"a mapping of {len(value)}")
        return {str(key): _bounded(member, depth + 1) for key, member in value.items()}
    raise OverflowError(f"a value of type {type(value).__name__}")
