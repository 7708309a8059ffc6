"""Rule files -> RuleSet: every problem at once, each with file, line, column and what was expected."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from rules.conditions import Conditions, Matched
from rules.document import MAX_PROBLEMS, Node, Problem, Reader, RuleErrors, nearest
from rules.expressions import SCOPES, BadExpression, Expression
from rules.grammar import Grammar
from rules.jsonpath import compile_find
from rules.match import Truth, any_of, compile_member, describe
from rules.model import Connection, Hold, Kind, Limits, Mask, Phase, Principal, Strategy
from rules.patterns import BadPattern, any_matcher, compile_name, compile_text
from rules.quantities import parse_duration, parse_size
from rules.rule import Restriction, Rule
from rules.ruleset import RuleSet
from rules.vocabulary import DETECTORS, EFFECTS, EXPRESSION_SHAPES, KINDS, STRATEGIES, Fact, Shape, shared_facts

__all__ = ["Problem", "RuleErrors", "RuleSet", "load_rules"]

RULE_KEYS: Final = ("id", "on", "who", "where", "match", "not", "when", "effect", "message", "hold", "mask", "limits")
WHO_KEYS: Final = ("groups", "subjects", "issuers", "claims")
WHERE_KEYS: Final = ("connections", "labels")
HOLD_KEYS: Final = ("reviewers", "quorum", "timeout", "scopes")
MASK_KEYS: Final = ("jsonpath", "columns", "headers", "query", "detect", "strategy", "keep", "value", "predicates")
LIMIT_KEYS: Final = ("rows", "bytes", "operations_per_minute")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SCOPE: Final = re.compile(r"fingerprint-([0-9]{1,6}(?:s|m|h))")
_LONGEST_SCOPE: Final = 24 * 3600.0
_LONGEST_HOLD: Final = 7 * 24 * 3600.0
_LONGEST_MESSAGE: Final = 500
_WHOLE: Final = 2**53
_VALUE: Final = Fact("claims", Shape.VALUE)


def load_rules(sources: Sequence[tuple[str, str]], *, reviewers: Sequence[str] = (), issuers: Sequence[str] = ()) -> RuleSet:
    """The rules of all `sources`, pairs of a name for messages and YAML text.

    `reviewers` are the configuration's, for holds that name none; `issuers` are the names of the configured issuers.
    Raises RuleErrors with every problem of every source.
    """
    loader = _Loader(tuple(reviewers), tuple(issuers))
    for source, text in sources:
        loader.file(source, text)
    if loader.problems:
        raise RuleErrors(loader.problems[:MAX_PROBLEMS])
    return RuleSet(loader.rules, _version(sources))


def _version(sources: Sequence[tuple[str, str]]) -> str:
    digest = hashlib.sha256(b"hopgate-rules-v1")
    for part in (part.encode("utf-8", "surrogatepass") for source in sources for part in source):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


class _Loader:
    """Reads files one after the other; ids are unique across all of them."""

    def __init__(self, reviewers: tuple[str, ...], issuers: tuple[str, ...]) -> None:
        self.rules: list[Rule] = []
        self._reader = Reader()
        self.problems = self._reader.problems
        self._grammar = Grammar(self.problems)
        self._reviewers = reviewers
        self._issuers = issuers
        self._places: dict[str, Node] = {}

    def file(self, source: str, text: str) -> None:
        root = self._reader.read(source, text)
        if root is None:
            return
        entries = self._grammar.mapping(root, "a rule file", ("version", "rules"))
        version = entries.get("version")
        if version is None:
            self._grammar.wrong(root, "`version: 1` is missing")
        elif version.value != 1 or isinstance(version.value, bool):
            self._grammar.wrong(version, f"unknown version, expected 1, got {describe(version.value)}")
        rules = entries.get("rules")
        if rules is None:
            self._grammar.wrong(root, "`rules:` is missing")
        elif not isinstance(rules.value, tuple):
            self._grammar.wrong(rules, f"`rules` is a list, got {describe(rules.value)}")
        else:
            for node in rules.value:
                self._rule(node)

    def _rule(self, node: Node) -> None:
        before = len(self.problems)
        entries = self._grammar.mapping(node, "a rule", RULE_KEYS)
        if not isinstance(node.value, dict):
            return
        for name in ("id", "on", "effect"):
            if name not in node.value:
                self._grammar.wrong(node, f"a rule needs `{name}`")
        rule = _RuleReader(self._grammar, node, entries, self._reviewers, self._issuers)
        identity = self._identity(entries.get("id"))
        kinds = rule.kinds()
        effect = rule.effect()
        if not kinds:
            return
        # an unknown effect or a bad id must not hide what else is wrong
        built = rule.build(identity or "", kinds, effect or "deny")
        if len(self.problems) == before:
            self.rules.append(built)

    def _identity(self, node: Node | None) -> str | None:
        text = None if node is None else self._grammar.text(node, "`id`")
        if node is None or text is None:
            return None
        if _ID.fullmatch(text) is None:
            self._grammar.wrong(node, f"an id has letters, digits, `.`, `_`, `-`, at most 64, got `{text[:80]}`")
            return None
        first = self._places.setdefault(text, node)
        if first is not node:
            self._grammar.wrong(node, f"duplicate id `{text}`, first in {first.source}:{first.line}")
            return None
        return text


class _RuleReader:
    """Reads the keys of one rule."""

    def __init__(
        self, grammar: Grammar, node: Node, entries: dict[str, Node], reviewers: tuple[str, ...], issuers: tuple[str, ...]
    ) -> None:
        self._grammar = grammar
        self._node = node
        self._entries = entries
        self._reviewers = reviewers
        self._issuers = issuers

    def kinds(self) -> tuple[Kind, ...]:
        node = self._entries.get("on")
        if node is None:
            return ()
        found = [self._grammar.word(item, "kind", KINDS) for item in self._grammar.items(node, "`on`")]
        return tuple(cast("Kind", kind) for kind in dict.fromkeys(found) if kind is not None)

    def effect(self) -> str | None:
        node = self._entries.get("effect")
        return None if node is None else self._grammar.word(node, "effect", EFFECTS)

    def build(self, identity: str, kinds: tuple[Kind, ...], effect: str) -> Rule:
        facts = shared_facts(kinds)
        matched = self._matched(facts, effect, kinds)
        when = self._when(facts)
        named = frozenset(matched.facts | (when.references - SCOPES if when else frozenset()))
        phase: Phase = "response" if any(facts[name].phase == "response" for name in named if name in facts) else "request"
        if phase == "response" and effect in ("allow", "hold"):
            self._grammar.wrong(self._entries["effect"], "a rule that names a response fact may only deny or mask")
        self._misplaced(effect, kinds)
        conditions = tuple(sorted(matched.conditions, key=lambda condition: condition.cost))
        return Rule(
            id=identity,
            kinds=frozenset(kinds),
            effect=cast("Any", effect),
            source=f"{self._node.source}:{self._node.line}",
            who=self._who(),
            where=self._where(),
            conditions=conditions,
            when=when,
            complete=matched.complete,
            reason=matched.reason,
            message=self._message(),
            mask=self._mask(identity, kinds) if effect == "mask" else None,
            hold=self._hold(identity) if effect == "hold" else None,
            limits=self._limits(),
            facts=named,
            lists=tuple(sorted(matched.lists)),
            phase=phase,
            methods=matched.methods,
            paths=matched.paths,
        )

    def _misplaced(self, effect: str, kinds: tuple[Kind, ...]) -> None:
        """Keys that belong to another effect."""
        written = self._entries.get("effect")
        if written is None or written.value != effect:
            return
        for key in ("hold", "mask"):
            if key in self._entries and effect != key:
                self._grammar.wrong(self._node.keys[key], f"`{key}:` belongs to rules with `effect: {key}`, this one has `{effect}`")
        if effect == "mask" and "mask" not in self._entries:
            self._grammar.wrong(self._node, "`effect: mask` needs `mask:`, which says what to hide")
        if effect == "mask" and "session" in kinds:
            self._grammar.wrong(self._entries["on"], "opening a session has no response to mask")
        if "limits" in self._entries and (kinds != ("session",) or effect not in ("allow", "hold")):
            self._grammar.wrong(self._node.keys["limits"], "`limits:` belongs to rules with `on: session` and `effect: allow` or `hold`")

    def _matched(self, facts: Mapping[str, Fact], effect: str, kinds: tuple[Kind, ...]) -> Matched:
        name = kinds[0] if len(kinds) == 1 else f"[{', '.join(kinds)}]"
        conditions = Conditions(self._grammar, facts, effect, name)
        matched = conditions.match(self._entries["match"]) if "match" in self._entries else Matched()
        if "not" in self._entries:
            conditions.negated(self._entries["not"], matched)
        return matched

    def _when(self, facts: Mapping[str, Fact]) -> Expression | None:
        node = self._entries.get("when")
        text = None if node is None else self._grammar.text(node, "`when`")
        if node is None or text is None:
            return None
        known = {name for name, fact in facts.items() if fact.shape in EXPRESSION_SHAPES}
        try:
            return Expression(text, known | SCOPES)
        except BadExpression as error:
            self._grammar.wrong(node, str(error))
            return None

    def _message(self) -> str:
        node = self._entries.get("message")
        text = None if node is None else self._grammar.text(node, "`message`")
        if node is not None and text is not None and (len(text) > _LONGEST_MESSAGE or not text.isprintable()):
            self._grammar.wrong(node, f"a message is one line of at most {_LONGEST_MESSAGE} printable characters")
        return text or ""

    # --- who, where

    def _who(self) -> tuple[Restriction[Principal], ...]:
        node = self._entries.get("who")
        if node is None:
            return ()
        entries = self._grammar.mapping(node, "`who:`", WHO_KEYS, some=True)
        if len(self._issuers) > 1 and "issuers" not in entries:
            self._grammar.wrong(node, f"with several issuers `who:` must name `issuers`, some of {', '.join(self._issuers)}")
        found = []
        for name in ("issuers", "subjects", "groups"):
            if name in entries:
                check = self._issuer if name == "issuers" else compile_text
                texts = self._grammar.texts(entries[name], f"`{name}`", check)
                found.append(Restriction(f"who.{name}", _WHO[name](_any_matcher(texts))))
        if "claims" in entries:
            for claim, value in self._grammar.mapping(entries["claims"], "`claims`", some=True).items():
                found.append(Restriction(f"who.claims.{claim}", _claim_test(claim, self._values(value, f"claim `{claim}`"))))
        return tuple(found)

    def _issuer(self, pattern: str) -> None:
        matcher = compile_text(pattern)
        if self._issuers and not any(matcher(issuer) for issuer in self._issuers):
            raise BadPattern(f"unknown issuer `{pattern}`, {nearest(pattern, self._issuers)}")

    def _values(self, node: Node, what: str) -> Callable[[Any], Truth]:
        patterns = []
        for item in self._grammar.items(node, what):
            if isinstance(item.value, tuple | dict):
                self._grammar.wrong(item, f"{what} takes a value or a list of values, got {describe(item.value)}")
                continue
            try:
                compile_member(_VALUE, [item.value], strict=True)
            except BadPattern as error:
                self._grammar.wrong(item, str(error))
            else:
                patterns.append(item.value)
        return compile_member(_VALUE, patterns, strict=True) if patterns else lambda value: False

    def _where(self) -> tuple[Restriction[Connection], ...]:
        node = self._entries.get("where")
        if node is None:
            return ()
        entries = self._grammar.mapping(node, "`where:`", WHERE_KEYS, some=True)
        found = []
        if "connections" in entries:
            matcher = _any_matcher(self._grammar.texts(entries["connections"], "`connections`", compile_text))
            found.append(Restriction("where.connections", _connection_test(matcher)))
        if "labels" in entries:
            for label, value in self._grammar.mapping(entries["labels"], "`labels`", some=True).items():
                matcher = _any_matcher(self._grammar.texts(value, f"label `{label}`", compile_text))
                found.append(Restriction(f"where.labels.{label}", _label_test(label, matcher)))
        return tuple(found)

    # --- hold, mask, limits

    def _hold(self, identity: str) -> Hold:
        node = self._entries.get("hold")
        entries = self._grammar.mapping(node, "`hold:`", HOLD_KEYS) if node is not None else {}
        reviewers = self._reviewers
        if "reviewers" in entries:
            reviewers = self._grammar.texts(entries["reviewers"], "`reviewers`", compile_text)
        elif not reviewers:
            self._grammar.wrong(node or self._node, "a hold needs `reviewers`, here or in `approvals:` of the configuration")
        quorum = self._grammar.number(entries["quorum"], "`quorum`", 1, 20) if "quorum" in entries else 1
        timeout = self._grammar.quantity(entries["timeout"], "`timeout`", parse_duration) if "timeout" in entries else None
        if timeout is not None and not 1 <= timeout <= _LONGEST_HOLD:
            self._grammar.wrong(entries["timeout"], "`timeout` is from 1s to 7d")
        scopes = self._grammar.texts(entries["scopes"], "`scopes`", _check_scope) if "scopes" in entries else ("once",)
        # `once` is narrower than every other scope, so that two holds always have a scope in common
        return Hold(identity, reviewers, quorum or 1, timeout, tuple(dict.fromkeys(("once", *scopes))))

    def _mask(self, identity: str, kinds: tuple[Kind, ...]) -> Mask | None:
        node = self._entries.get("mask")
        if node is None:
            return None
        entries = self._grammar.mapping(node, "`mask:`", MASK_KEYS)
        checks: dict[str, Callable[[str], object] | None] = {
            "jsonpath": compile_find,
            "columns": compile_name,
            "headers": compile_text,
            "query": compile_text,
            "detect": _check_detector,
        }
        lists = {name: self._grammar.texts(entries[name], f"`{name}`", check) for name, check in checks.items() if name in entries}
        if not any(name in entries for name in checks):
            self._grammar.wrong(node, f"`mask:` hides nothing, expected one of {', '.join(checks)}")
        for name, kind in (("columns", "sql"), ("headers", "http"), ("query", "http")):
            if name in entries and kind not in kinds:
                self._grammar.wrong(node.keys[name], f"`{name}` is of `on: {kind}`, which this rule does not name")
        return self._strategy(identity, node, entries, lists)

    def _strategy(self, identity: str, node: Node, entries: dict[str, Node], lists: dict[str, tuple[str, ...]]) -> Mask:
        # `strategy: null` is YAML's null
        written = entries.get("strategy")
        strategy = "redact" if written is None else "null"
        if written is not None and written.value is not None:
            strategy = self._grammar.word(written, "strategy", STRATEGIES) or "redact"
        for key, owner in (("keep", "partial"), ("value", "fixed")):
            if key in entries and strategy != owner:
                self._grammar.wrong(node.keys[key], f"`{key}` belongs to `strategy: {owner}`, this one is `{strategy}`")
        if strategy == "fixed" and "value" not in entries:
            self._grammar.wrong(node, "`strategy: fixed` needs `value`")
        keep = self._grammar.number(entries["keep"], "`keep`", 1, 64) if "keep" in entries else 4
        value = self._grammar.text(entries["value"], "`value`") if "value" in entries else ""
        predicates = self._grammar.word(entries["predicates"], "predicates", ("deny", "allow")) if "predicates" in entries else "deny"
        return Mask(
            identity, **lists, strategy=cast("Strategy", strategy), keep=keep or 4, value=value or "", predicates=cast("Any", predicates)
        )

    def _limits(self) -> Limits:
        node = self._entries.get("limits")
        if node is None:
            return Limits()
        entries = self._grammar.mapping(node, "`limits:`", LIMIT_KEYS)
        found: dict[str, int | None] = {}
        for name, value in entries.items():
            if name == "bytes":
                found[name] = self._grammar.quantity(value, "`bytes`", parse_size)
            else:
                found[name] = self._grammar.number(value, f"`{name}`", 0, _WHOLE)
        return Limits(**found)


# --- tests of principals and connections


def _any_matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    return any_matcher([compile_text(pattern) for pattern in patterns])


_WHO: Final[Mapping[str, Callable[[Callable[[str], bool]], Callable[[Principal], Truth]]]] = {
    "issuers": lambda matcher: lambda principal: matcher(principal.issuer),
    "subjects": lambda matcher: lambda principal: matcher(principal.subject),
    "groups": lambda matcher: lambda principal: any(matcher(group) for group in principal.groups),
}


def _claim_test(claim: str, member: Callable[[Any], Truth]) -> Callable[[Principal], Truth]:
    """A claim by its name, or by a dotted path where no claim has that name. Any one member of a list is enough."""

    def test(principal: Principal) -> Truth:
        value: Any = principal.claims
        if claim in value:
            value = value[claim]
        else:
            for part in claim.split("."):
                if not isinstance(value, Mapping) or part not in value:
                    return False
                value = value[part]
        return any_of(member(one) for one in value) if isinstance(value, list | tuple) else member(value)

    return test


def _connection_test(matcher: Callable[[str], bool]) -> Callable[[Connection], Truth]:
    return lambda connection: matcher(connection.name)


def _label_test(label: str, matcher: Callable[[str], bool]) -> Callable[[Connection], Truth]:
    return lambda connection: label in connection.labels and matcher(connection.labels[label])


def _check_scope(text: str) -> None:
    found = _SCOPE.fullmatch(text)
    if text != "once" and (found is None or not 1 <= parse_duration(found[1]) <= _LONGEST_SCOPE):
        raise ValueError(f"a scope is `once` or `fingerprint-15m` (at most 24h), got `{text[:60]}`")


def _check_detector(text: str) -> None:
    if text not in DETECTORS:
        raise ValueError(f"unknown detector `{text[:60]}`, {nearest(text, DETECTORS)}")
