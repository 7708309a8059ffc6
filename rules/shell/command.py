"""The raw bytes of an exec and the shell that reads them -> an operation, one part a simple command. Nothing in here raises for a text.

The parts are those of the whole tree: pipelines, lists, subshells, substitutions, bodies of functions, and the commands that
wrappers, `sh -c`, `eval`, `trap`, `find -exec`, `xargs` and here-documents hand on. A wrapper is a part too.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from tree_sitter import Node

from rules.model import UNKNOWN, Exact, Operation
from rules.printable import visible
from rules.shell.bounds import Exceeded, check
from rules.shell.facts import ShellFacts, shell_facts
from rules.shell.programs import READS_NOTHING, RESERVED
from rules.shell.read import REDIRECTS, WORDS, Context, Judge, Reader
from rules.shell.redirections import Redirection
from rules.shell.runs import Runs
from rules.shell.transfers import PROGRAMS as TRANSFERRING
from rules.shell.transfers import Transfer, transfer_of
from rules.shell.words import Holes, Misread, Word, whole_word, words_of
from rules.shell.wrappers import basename, meaningful, runs

SHELLS: Final = {"bash": True, "sh": False, "dash": False, "ash": False}  # those that are read, and whether they have all that bash has
_NETWORK: Final = frozenset({"network"})
CODE_FROM_CHANNEL: Final = "it runs what it reads from the channel"

_ASSIGNMENT: Final = re.compile(rb"([A-Za-z_][A-Za-z0-9_]*)(?:\[([0-9]+)\])?\+?=")
_AFTER: Final = frozenset(b" \t\n;&|()<>`")
_TESTS: Final = frozenset({"-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-v", "-R"})


def operation_of(command: bytes, shell: str = "bash", context: bytes = b"", stdin: bytes | None = None) -> Operation:
    """The operation of an exec. `shell` is what the account's login shell is said to be (`shell:` of the connection).

    `context` is what else changes its meaning (account, environment) for the fingerprint. `stdin` is all that the channel will give it,
    where that is known: the code of a command that `takes_code_from_channel`. Never raises.
    """
    parts, reason = _found(command, shell, stdin)

    def exact() -> Exact:
        return _exact(command, shell, context, stdin)

    if reason:
        parts = [facts if facts.get("reason") else _doubtful(facts, reason) for facts in parts]
        parts = parts or [shell_facts(UNKNOWN, UNKNOWN, reason=reason)]
    title = visible(" ; ".join(" ".join(_programs(facts)) for facts in parts[:8]))[:256]
    if len(parts) == 1:
        return _operation(parts[0], exact, title)
    return Operation(
        kind="ssh",
        facts=_union(parts, reason),
        complete=not reason,
        reason=reason,
        writes=True,
        parts=tuple(_operation(facts) for facts in parts),
        exact=exact,
        title=title,
    )


def takes_code_from_channel(operation: Operation) -> bool:
    """Whether some part is a shell or an interpreter that runs what the client sends as standard input."""
    return any(part.reason == CODE_FROM_CHANNEL for part in (operation, *operation.parts))


def is_file_transfer(operation: Operation) -> bool:
    """Whether an exec is nothing but the far end of scp, rsync or git: what it sends is no text to mask, but somebody's copy."""
    return operation.complete and isinstance(operation.facts, ShellFacts) and operation.facts.transfer is not None


def _found(command: bytes, shell: str, stdin: bytes | None) -> tuple[list[ShellFacts], str]:
    """The facts of every command, and why they are not all."""
    judge = _Commands()
    try:
        check(command)
        reader = Reader(judge)
        context = Context(bash=SHELLS.get(shell, True))
        if stdin is not None:
            check(stdin)
            if not _one_reader(_found(command, shell, None)[0]):
                reader.doubt("more than one command could read the code from the channel")
            context = replace(context, stdin="text", text=stdin)
        reader.read(command, context)
        reader.run()
        if shell not in SHELLS:
            named = f"the command lines of the shell `{visible(shell)[:40]}` are not read"
            reader.doubt(named if shell else "it is not known which shell reads it")
    except Exceeded as error:
        return judge.parts, str(error)
    except Exception as error:  # a tree of a shape that no table foresaw
        return judge.parts, f"the gateway could not read it ({type(error).__name__})"
    if not judge.parts and not reader.reasons:
        return [shell_facts((), "")], ""
    return judge.parts, next(iter(reader.reasons), "")


def _one_reader(parts: list[ShellFacts]) -> bool:
    """Whether each command only hands on to the next (`sudo bash`): then the last one gets all of the standard input."""
    chains = sorted((_programs(facts) for facts in parts), key=len)
    return all(len(after) > len(before) and after[: len(before)] == before for before, after in itertools.pairwise(chains))


class _Commands(Judge):
    """Collects the facts of simple commands."""

    def __init__(self) -> None:
        self.parts: list[ShellFacts] = []

    def command(self, reader: Reader, source: bytes, node: Node, context: Context) -> None:
        end = node.end_byte
        if end < len(source) and source[end] not in _AFTER:
            raise Misread("the words of the command could not be told apart")
        kind = node.type
        if kind == "test_command":
            self._test(reader, source, node, context)
        elif kind in ("variable_assignment", "variable_assignments"):
            assigned = _assignments(reader, source, [node] if kind == "variable_assignment" else list(node.children), context)
            context = context.redirected(context.after)
            self._add(reader, assigned, context.within("environment"), ())
        else:
            self._simple(reader, source, node, context)

    def plain(self, reader: Reader, words: tuple[Word, ...], stdin: str, context: Context) -> None:
        if stdin:
            context = Context(context.facets, context.chain, stdin, None, context.depth, context.bash, context.after)
        self._add(reader, [], context, words)

    def opened(self, reader: Reader, source: bytes, node: Node, context: Context, checked: bool = False) -> None:
        """A redirection without a command opens, and may empty, files."""
        if not checked:
            found = reader.redirection(source, node, context)
            if found.words:
                raise Misread("words behind a redirection")
            context = context.redirected((found,))
        raw = source[node.start_byte : node.end_byte].decode(errors="replace")
        self.parts.append(shell_facts((), raw, context.facets))

    def misread(self, context: Context, reason: str) -> None:
        self.parts.append(shell_facts(UNKNOWN, UNKNOWN, context.facets, reason))

    def _simple(self, reader: Reader, source: bytes, node: Node, context: Context) -> None:
        """A command, its assignments and redirections, wherever they stand among its words."""
        children = node.children
        start = 0
        while start < len(children) and children[start].type in ("variable_assignment", *REDIRECTS):
            start += 1
        assignments = [child for child in children[:start] if child.type == "variable_assignment"]
        redirects = [child for child in children if child.type in REDIRECTS]
        _gaps(source, node, children[: start + 1])
        begin = children[start].start_byte if start < len(children) else node.end_byte
        words: list[Word] = []
        found: list[Redirection] = []
        run: list[Node] = []
        assigned = _assignments(reader, source, assignments, context) if assignments else []
        for child in children[start:]:
            if child.type not in REDIRECTS:
                run.append(child)
                continue
            words += _run(reader, source, run, context, child.start_byte)
            run = []
            one = reader.redirection(source, child, context)
            found.append(one)
            words += one.words
        words += _run(reader, source, run, context, node.end_byte)
        leading = [reader.redirection(source, child, context) for child in redirects if child.start_byte < begin]
        if any(one.words for one in leading):
            raise Misread("words behind a redirection")
        found = leading + found
        words += [word for one in context.after for word in one.words]
        context = context.redirected((*found, *context.after))
        if assigned:
            context = context.within("environment")
        self._add(reader, assigned, context, tuple(words))

    def _test(self, reader: Reader, source: bytes, node: Node, context: Context) -> None:
        holes = reader.holes(source, node.children, context)
        double = node.children[0].type == "[["
        breaks = frozenset(b"()<>&|\n") if double else frozenset[int]()
        first, last = node.children[0], node.children[-1]
        words = words_of(source, first.end_byte, last.start_byte, holes, breaks)
        if double and not context.bash:
            reader.doubt("only bash reads this as it was read")
        if double and any(word.value in _TESTS for word in words):
            reader.doubt("a test that may evaluate what it is given")
        program = Word(first.type, first.type)
        behind = [word for one in context.after for word in one.words]
        if behind:
            raise Misread("words behind a redirection")
        context = context.redirected(context.after)
        self._add(reader, [], context, (program, *words, Word(last.type, last.type)))

    def _add(self, reader: Reader, assigned: list[Word], context: Context, words: tuple[Word, ...]) -> None:
        """The part of one command, and those of what it runs."""
        facets = context.facets.union(*(word.facets for word in (*assigned, *words)))
        if not words:
            self.parts.append(shell_facts((*context.chain,), _joined(assigned), facets))
            return
        name = words[0].value
        if name is None or not name:
            reason = "an expansion decides which command this is"
            reader.doubt(reason)
            self.parts.append(shell_facts(UNKNOWN, UNKNOWN, facets, reason))
            return
        if name in RESERVED and not words[0].quoted and name not in ("[[", "{}"):
            reader.doubt(f"`{name}` where the shell may see a keyword")
        if name == "exec" and len(words) == 1 and context.stdin != "channel":
            reader.doubt("`exec` changes what later commands read")
        if _ASSIGNMENT.match(words[0].raw.encode()):
            reader.doubt("an assignment that the grammar takes for a command")
        if context.stdin == "code" and name not in READS_NOTHING:
            reader.doubt(f"`{visible(name)[:40]}` could read the code that follows it")
        found = runs(words)
        facets |= found.facets
        reason = found.reason or self._inner(reader, found, context, facets, name)
        if reason:
            reader.doubt(reason)
        transfer = None if reason or context.chain or not facets <= _NETWORK else _transfer(name, words)
        self.parts.append(shell_facts((*context.chain, name), _joined(words), facets, reason, transfer))

    def _inner(self, reader: Reader, found: Runs, context: Context, facets: frozenset[str], name: str) -> str:
        """Queue what a command runs; why it is not known, or nothing."""
        if not found.commands and found.text is None and not found.code_from_input:
            return ""
        inner = Context(facets, (*context.chain, name), context.stdin, context.text, context.depth + 1, context.bash)
        if inner.depth > 40:
            return "commands in commands nest too deep"
        if basename(name) == "xargs":
            inner = replace(inner, stdin="null", text=None)
        for command in found.commands:
            self._add(reader, [], inner, command)
        shell = found.shell
        if found.text is not None:
            bash = context.bash if not shell else SHELLS[shell]
            reader.read(found.text.encode(), inner if bash is inner.bash else replace(inner, bash=bash))
        if not found.code_from_input or context.stdin == "null":
            return ""
        if context.stdin == "channel":
            return CODE_FROM_CHANNEL
        if context.stdin == "text" and context.text is not None:
            if not shell:
                return ""  # code of another language, in full in the command
            if shell in SHELLS:
                # a shell reads code from its standard input line by line, and leaves the rest to what it runs
                follows = b"\n" in context.text.strip()
                reader.read(context.text, replace(inner, bash=SHELLS[shell], stdin="code" if follows else "null", text=None))
                return ""
        return "it runs what another command or a file gives it"


def _transfer(name: str, words: tuple[Word, ...]) -> Transfer | None:
    if basename(name) not in TRANSFERRING or any(word.value is None for word in words):
        return None
    return transfer_of([word.value or "" for word in words])


def _run(reader: Reader, source: bytes, nodes: list[Node], context: Context, end: int) -> list[Word]:
    """The words of a command between two redirections."""
    if not nodes:
        return []
    holes = reader.holes(source, nodes, context) if any(child.child_count or child.type in WORDS for child in nodes) else {}
    return words_of(source, nodes[0].start_byte, min(end, max(node.end_byte for node in nodes)), holes)


def _gaps(source: bytes, node: Node, children: list[Node]) -> None:
    """Blanks, and at least one, between assignments and redirections and the command."""
    at = node.start_byte
    for child in children:
        gap = source[at : child.start_byte]
        if gap.replace(b"\\\n", b"").strip(b" \t") or (not gap.replace(b"\\\n", b"") and child.start_byte != node.start_byte):
            raise Misread("the words of the command could not be told apart")
        at = child.end_byte


def _assignments(reader: Reader, source: bytes, nodes: list[Node], context: Context) -> list[Word]:
    """`NAME=value …` before a command or alone. Raises Misread."""
    found = []
    for node in nodes:
        name = _ASSIGNMENT.match(source, node.start_byte, node.end_byte)
        if node.type != "variable_assignment" or name is None:
            raise Misread("an assignment that is not understood")
        if not context.bash and (name[2] is not None or b"+=" in name.group()):
            reader.doubt("only bash reads this as it was read")
        if meaningful(name[1].decode()):
            reader.doubt(f"it sets {name[1].decode()}")
        holes = reader.holes(source, node.children, context)
        value = _value(source, name.end(), node.end_byte, holes)
        raw = source[node.start_byte : node.end_byte].decode(errors="replace")
        found.append(Word(raw, None if value.value is None else name.group().decode() + value.value, value.facets))
    return found


def _value(source: bytes, start: int, end: int, holes: Holes) -> Word:
    if source[start:end].startswith(b"("):
        if source[end - 1 : end] != b")":
            raise Misread("an array that is not understood")
        words = words_of(source, start + 1, end - 1, holes, frozenset(b"\n"))
        if any(word.raw.startswith("[") for word in words):
            raise Misread("an array that is not understood")
        return Word("", None, frozenset({"expansion"}).union(*(word.facets for word in words)))
    return whole_word(source, start, end, holes) if start < end else Word("", "")


def _joined(words: tuple[Word, ...] | list[Word]) -> Any:
    values = [word.value for word in words]
    return UNKNOWN if None in values else " ".join(value for value in values if value is not None)


# --- operations


def _operation(facts: ShellFacts, exact: Callable[[], Exact] | None = None, title: str = "") -> Operation:
    reason = facts.get("reason")
    title = title or visible(" ".join(_programs(facts)))[:256]
    return Operation(kind="ssh", facts=facts, complete=not reason, reason=reason, writes=True, exact=exact, title=title)


def _programs(facts: ShellFacts) -> tuple[str, ...]:
    programs = facts.get("programs")
    return ("?",) if programs is UNKNOWN else programs


def _doubtful(facts: ShellFacts, reason: str) -> ShellFacts:
    return shell_facts(facts.get("programs"), facts.get("argv"), frozenset(facts.get("facets")), reason)


def _union(parts: list[ShellFacts], reason: str) -> ShellFacts:
    programs: Any = tuple(dict.fromkeys(name for facts in parts for name in _programs(facts)))
    if any(facts.get("programs") is UNKNOWN for facts in parts):
        programs = UNKNOWN
    return shell_facts(programs, UNKNOWN, frozenset[str]().union(*(facts.get("facets") for facts in parts)), reason)


def _exact(command: bytes, shell: str, context: bytes, stdin: bytes | None) -> Exact:
    text = command.decode(errors="backslashreplace")
    fields: tuple[bytes, ...] = (b"exec", shell.encode(), command, context)
    if stdin is not None:
        text += f"\n\nits standard input:\n{stdin.decode(errors='backslashreplace')}"
        fields += (stdin,)
    payload = b"".join(len(field).to_bytes(8, "big") + field for field in fields)
    title = visible(text.partition("\n")[0])
    return Exact(title=title[:200], text=text, payload=payload)
