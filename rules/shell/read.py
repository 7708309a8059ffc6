"""A command line -> its simple commands. Iterative: a tree is as deep as its caller makes it.

Every kind of node is named here; what is not leaves the whole incomplete, and the walk goes on, so that rules see what was
found. Between the children of a node stands nothing but blanks, and the words are read again from the source: a command
that the grammar takes for something else cannot pass unseen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from tree_sitter import Node

from rules.shell.bounds import MAX_DEPTH, MAX_NODES, MAX_PARTS, MAX_READ, Exceeded, check
from rules.shell.grammar import HOLES, check_hole, holes_in, only_bash, parse
from rules.shell.plain import Plain, plain_commands
from rules.shell.redirections import Redirection, file_redirection, heredoc
from rules.shell.words import Misread, Word, whole_word
from rules.shell.wrappers import meaningful

_NO_FACETS: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Context:
    """What encloses a command: facets, the wrappers' words, its standard input, and the text that it stands in."""

    facets: frozenset[str] = _NO_FACETS
    chain: tuple[str, ...] = ()
    stdin: str = "channel"  # "channel", "pipe", "file", "null", "text", "code" (the rest of the text that it stands in itself)
    text: bytes | None = None  # of "text", where it is known
    depth: int = 0
    bash: bool = True  # False: what only bash has is not understood
    after: tuple[Redirection, ...] = ()  # redirections behind the command

    def within(self, *facets: str) -> Context:
        if not self.after and self.facets.issuperset(facets):
            return self
        return replace(self, facets=self.facets.union(facets), after=())

    def redirected(self, found: tuple[Redirection, ...]) -> Context:
        """With the facets and the standard input of redirections, for all that stands in this context."""
        if not found and not self.after:
            return self
        context = replace(self, facets=self.facets.union(*(one.facets for one in found)), after=())
        for one in found:
            if one.stdin:
                context = replace(context, stdin=one.stdin, text=one.text)
        return context


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# facets of what stands inside, by kind of node
COMPOUND: Final = {
    "program": (),
    "list": (),
    "subshell": (),
    "compound_statement": (),
    "do_group": (),
    "negated_command": (),
    "if_statement": ("control",),
    "elif_clause": ("control",),
    "else_clause": ("control",),
    "while_statement": ("control",),
    "for_statement": ("control",),
    "case_statement": ("control",),
    "case_item": ("control",),
    "function_definition": ("function",),
    "pipeline": (),
    "redirected_statement": (),
}
COMMANDS: Final = _words("command declaration_command unset_command test_command variable_assignment variable_assignments")
STATEMENTS: Final = (frozenset(COMPOUND) | COMMANDS) - {"do_group", "elif_clause", "else_clause", "case_item", "program"}
WORDS: Final = _words(
    """word number string raw_string ansi_c_string translated_string concatenation simple_expansion expansion arithmetic_expansion
    command_substitution process_substitution extglob_pattern brace_expression"""
)
_AFTER_BRACE: Final = frozenset(b" \t\n;&|()<>")
LASTING: Final = frozenset({"list", "pipeline", "negated_command"})
WORDED: Final = frozenset({"for_statement", "case_statement", "case_item", "function_definition"})
REDIRECTS: Final = frozenset({"file_redirect", "herestring_redirect", "heredoc_redirect"})
SEPARATORS: Final = frozenset({";", "&", ";;", ";&", ";;&", "&&", "||", "|", "|&", "\n"})
TOKENS: Final = SEPARATORS | _words("( ) { } ! if then elif else fi while until for select in do done case esac function")
BASH_TOKENS: Final = frozenset({";&", ";;&", "|&", "select", "function"})


class Reader:
    """Reads one exec; `commands` collects what was found, `reasons` why it is not all."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.reasons: dict[str, None] = {}
        self.work: list[tuple[bytes, Node | Plain, Context]] = []
        self.nodes = 0
        self.parsed = 0
        self.count = 0

    def doubt(self, reason: str) -> None:
        self.reasons.setdefault(reason)

    def read(self, text: bytes, context: Context) -> None:
        """Put the statements of a text before what is left to do."""
        if context.depth > MAX_DEPTH:
            self.doubt("commands in commands nest too deep")
            return
        self.parsed += len(text)
        try:
            if context.depth:
                check(text)
            if self.parsed > MAX_READ:
                raise Exceeded("the commands in the command are too long")
            plain = plain_commands(text.decode())
            if plain is not None:
                self.work.extend((text, command, context) for command in reversed(plain))
                return
            root = parse(text)
        except Exceeded as error:
            self.doubt(str(error))
            return
        if root.has_error:
            self.doubt("the command could not be parsed")
        self.work.append((text, root, context))

    def run(self) -> None:
        """Do what is left. Never raises Misread: it becomes a reason."""
        while self.work:
            source, node, context = self.work.pop()
            self.nodes += 1
            if self.nodes > MAX_NODES or self.count > MAX_PARTS:
                self.doubt("the command has too many parts")
                return
            if isinstance(node, tuple):
                self.count += 1
                self.judge.plain(self, *node, context)
                continue
            try:
                self._visit(source, node, context)
            except Misread as error:
                self.doubt(str(error))
                if node.type in COMMANDS:
                    self.judge.misread(context, str(error))
                self._salvage(source, node, context)

    def _salvage(self, source: bytes, node: Node, context: Context) -> None:
        """Find commands inside what was misread: deny rules see them."""
        plain = replace(context, after=())
        self.work.extend((source, child, plain) for child in reversed(node.children) if child.is_named)

    def _visit(self, source: bytes, node: Node, context: Context) -> None:
        kind = node.type
        if kind in COMMANDS:
            self.count += 1
            self.judge.command(self, source, node, context)
        elif kind in COMPOUND:
            self._compound(source, node, context)
        elif kind in ("command_substitution", "process_substitution"):
            self._sequence(source, node, context.within("substitution"), self._inner_stdin(node, context))
        elif kind == "comment":
            self._comment(source, node)
        elif kind in REDIRECTS:
            self.judge.opened(self, source, node, context)
        elif kind in WORDS or kind in ("variable_name", "command_name", "string_content", "special_variable_name", "subscript"):
            self._salvage(source, node, context)
        else:
            self.doubt(f"the shell's {kind.replace('_', ' ').lower()} is not understood")
            self._salvage(source, node, context)

    def _inner_stdin(self, node: Node, context: Context) -> Context:
        opening = node.children[0].type if node.children else ""
        if opening == ">(":
            return replace(context, stdin="pipe", text=None)
        return context

    def _comment(self, source: bytes, node: Node) -> None:
        before = source[node.start_byte - 1] if node.start_byte else 0x0A
        if before not in b" \t\n;&|()" or b"\n" in source[node.start_byte : node.end_byte]:
            raise Misread("a comment where the shell sees none")

    def _compound(self, source: bytes, node: Node, context: Context) -> None:
        if node.type == "redirected_statement":
            self._redirected(source, node, context)
            return
        after = context.after
        if node.type in LASTING:
            self._sequence(source, node, context, context, after)
            return
        if any(one.words for one in after):
            raise Misread("words behind a redirection")
        context = context.redirected(after).within(*COMPOUND[node.type])
        self._sequence(source, node, context, context)

    def _sequence(self, source: bytes, node: Node, context: Context, inner: Context, after: tuple[Redirection, ...] = ()) -> None:
        """The children of a compound: statements, keywords, words. Checks that nothing stands between them."""
        if context is not inner or inner.after:
            inner = replace(inner, facets=context.facets | inner.facets, after=())
        children = node.children
        self._between(source, node, children)
        if node.type == "compound_statement" and source[node.start_byte + 1] not in _AFTER_BRACE:
            raise Misread("a brace where the shell sees a word")
        found: list[tuple[bytes, Node, Context]] = []
        words: list[Node] = []
        piped = False
        for index, child in enumerate(children):
            kind = child.type
            if not child.is_named:
                if not inner.bash and kind in BASH_TOKENS:
                    self.doubt("only bash reads this as it was read")
                if kind not in TOKENS and kind not in ("$(", "`", "<(", ">("):
                    raise Misread(f"`{kind[:20]}` is not understood")
                piped = piped or kind in ("|", "|&")
                continue
            if kind in WORDS or kind in ("variable_name", "special_variable_name"):
                if kind == "variable_name" and meaningful(source[child.start_byte : child.end_byte].decode(errors="replace")):
                    self.doubt(f"it sets {source[child.start_byte : child.end_byte].decode(errors='replace')}")
                words.append(child)
                continue
            following = children[index + 1].type if index + 1 < len(children) else ""
            at = inner.within("background") if following == "&" else inner
            if piped and node.type == "pipeline":
                at = replace(at, stdin="pipe", text=None)
            found.append((source, child, at))
        if len(found) > 1:
            # what one of them reads of a text is not there for the next: nobody knows with which part that begins
            found = [(text, child, replace(at, stdin="file", text=None) if at.stdin == "text" else at) for text, child, at in found]
        if after:  # the grammar puts what stands behind a list or a pipeline around it; the shell, at its last command
            if not found or found[-1][1].type not in STATEMENTS:
                raise Misread("a redirection of nothing")
            found[-1] = (source, found[-1][1], replace(found[-1][2], after=after))
        self.work.extend(reversed(found))
        if words:
            if node.type not in WORDED:
                raise Misread("a word where a command is expected")
            self.words(source, words, inner)

    def words(self, source: bytes, nodes: list[Node], context: Context) -> dict[int, tuple[int, str]]:
        """Check words of a compound command (of `for`, patterns of `case`) and queue what is substituted in them."""
        holes = self.holes(source, nodes, context)
        for node in nodes:
            whole_word(source, node.start_byte, node.end_byte, holes)
        return holes

    def holes(self, source: bytes, nodes: list[Node], context: Context) -> dict[int, tuple[int, str]]:
        """Where expansions are under `nodes`; the commands substituted in them are queued."""
        holes: dict[int, tuple[int, str]] = {}
        if not context.bash and only_bash(nodes):
            self.doubt("only bash reads this as it was read")
        found = holes_in(nodes, source)
        inner = context.within("substitution") if found else context
        for start, end, node in found:
            holes[start] = (end, HOLES[node.type])
            reason = check_hole(start, end, node, source)
            if reason:
                self.doubt(reason)
            if node.type in ("command_substitution", "process_substitution"):
                self.work.append((source, node, inner))
            else:
                self._inside(source, node, inner)
                if any(child.type in ("command_substitution", "process_substitution") for child in node.children):
                    holes[start] = (end, "substitution")
        return holes

    def _inside(self, source: bytes, node: Node, context: Context) -> None:
        """Substitutions anywhere inside an expansion."""
        stack = list(node.children)
        while stack:
            one = stack.pop()
            if one.type in ("command_substitution", "process_substitution"):
                self.work.append((source, one, context))
            else:
                stack.extend(one.children)

    def _between(self, source: bytes, node: Node, children: list[Node]) -> None:
        """Nothing but blanks between children, and a separator between two statements. Raises Misread."""
        at = node.start_byte
        before: Node | None = None
        for child in children:
            gap = source[at : child.start_byte]
            if gap and gap.strip(b" \t\n"):
                self._continued(gap)
            if (
                before is not None
                and child.type in STATEMENTS
                and before.type in STATEMENTS
                and b"\n" not in gap
                and not _ends_line(before)
            ):
                raise Misread("two commands without a separator")
            if child.type != "comment":
                before = child
            at = child.end_byte
        rest = source[at : node.end_byte]
        if rest.strip(b" \t\n"):
            raise Misread("text that the grammar leaves out")

    def _continued(self, gap: bytes) -> None:
        joined = gap.replace(b"\\\n", b"")
        if not joined or joined.strip(b" \t\n"):
            raise Misread("text that the grammar leaves out")

    def _redirected(self, source: bytes, node: Node, context: Context) -> None:
        body = [child for child in node.children if child.type not in REDIRECTS]
        self._between(source, node, node.children)
        found = [self.redirection(source, child, context) for child in node.children if child.type in REDIRECTS]
        if len(body) != 1:
            if body or any(one.words for one in found):
                raise Misread("words behind a redirection")
            self.judge.opened(self, source, node, context.redirected((*found, *context.after)), checked=True)
        else:
            self.work.append((source, body[0], replace(context, after=(*found, *context.after))))

    def redirection(self, source: bytes, node: Node, context: Context) -> Redirection:
        """What one redirection does; commands in it are queued. Raises Misread."""
        if not context.bash and (node.type == "herestring_redirect" or any(child.type in ("&>", "&>>") for child in node.children)):
            self.doubt("only bash reads this as it was read")
        if node.type != "heredoc_redirect":
            return file_redirection(node, source, self.holes(source, node.children, context))
        bodies = [child for child in node.children if child.type == "heredoc_body"]
        holes = self.holes(source, bodies, context)
        found, _, _ = heredoc(node, source, holes)
        at = node.start_byte
        for child in node.children:
            if child.type in ("heredoc_body", "heredoc_end"):
                break
            if source[at : child.start_byte].strip(b" \t"):
                raise Misread("text that the grammar leaves out")
            at = child.end_byte
            if child.type in REDIRECTS:
                other = self.redirection(source, child, context)
                found = replace(found, facets=found.facets | other.facets, words=found.words + other.words)
                if other.stdin:
                    found = replace(found, stdin=other.stdin, text=other.text)
            elif child.type == "pipeline":
                self.work.append((source, child, replace(context, stdin="pipe", text=None, after=())))
            elif child.type in STATEMENTS:
                self.work.append((source, child, replace(context, after=())))
            elif child.type not in ("<<", "<<-", "heredoc_start", "&&", "||"):
                raise Misread("a here-document whose line is not understood")
        return found


def _ends_line(node: Node) -> bool:
    """Whether a statement ends with a here-document, whose last line is a separator."""
    last = node
    while last.children:
        last = last.children[-1]
    return last.type == "heredoc_end"


class Judge:
    """What is done with a simple command, and with a redirection that has none."""

    def command(self, reader: Reader, source: bytes, node: Node, context: Context) -> None:
        raise NotImplementedError

    def plain(self, reader: Reader, words: tuple[Word, ...], stdin: str, context: Context) -> None:
        raise NotImplementedError

    def opened(self, reader: Reader, source: bytes, node: Node, context: Context, checked: bool = False) -> None:
        raise NotImplementedError

    def misread(self, context: Context, reason: str) -> None:
        raise NotImplementedError
