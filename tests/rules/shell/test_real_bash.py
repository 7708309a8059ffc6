"""Random command lines, run by real bash: every program that it ran was among the facts, with its words, or the line was not understood.

This is what the rules of commands stand on. `scripts/test --fuzz` looks for long; the normal run looks a little.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rules.model import UNKNOWN, Operation
from rules.shell.command import takes_code_from_channel
from tests.rules.shell.reading import read
from tests.rules.shell.real_bash import BASH, STUBS, Ran, RealBash
from tests.rules.shell.test_whatever_comes import HIDING

pytestmark = pytest.mark.skipif(BASH is None, reason="bash is not installed")


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> RealBash:
    return RealBash(tmp_path_factory.mktemp("real-bash"))


def check(text: str, ran: Ran) -> None:
    """Everything that was run is in the facts of a line that is understood."""
    operation = read(text)
    if not operation.complete:
        return
    parts = operation.parts or (operation,)
    for call in ran.commands:
        assert any(_tells(part, call) for part in parts), f"{text!r} ran {call}, which is not among the facts"
    assert not ran.files or any("redirect" in part.facts.get("facets") for part in parts), f"{text!r} made {ran.files}"
    assert "fromstdin" not in [call[0] for call in ran.commands] or "fromstdin" in text or takes_code_from_channel(operation), text


def _tells(part: Operation, call: tuple[str, ...]) -> bool:
    programs, argv = part.facts.get("programs"), part.facts.get("argv")
    if "interpreter" in part.facts.get("facets") and (argv is UNKNOWN or call[0] in argv):
        return True  # `bash va`: a script, which a shell finds on the PATH, too
    if programs is UNKNOWN or not programs or programs[-1].rpartition("/")[2] != call[0]:
        return False
    return argv is UNKNOWN or argv.partition(" ")[2] == " ".join(call[1:])


WORD = st.sampled_from(
    [
        "x",
        "'y z'",
        '"w v"',
        "\\ ",
        "''",
        '""',
        "a'b'\"c\"",
        "$'\\x41'",
        "1",
        "-n",
        "--",
        "=",
        "{}",
        "a=b",
        "#",
        "x#y",
        "!",
        "\\\n",
        "é",
        "%",
        ":",
        "$x",
        '"$x"',
        "${x}",
        "${y:-z}",
        "$(vb)",
        '"$(vb q)"',
        "`vb`",
        "*",
        "?",
        "[a]",
        "~",
        "{p,q}",
        "$((1+2))",
        "<(vb)",
        "$#",
        "$@",
        "\\$x",
        "\\`",
    ]
)
PROGRAM = st.sampled_from(
    [
        "va",
        "vb",
        "vc",
        "no",
        "v''a",
        '"va"',
        "'vb'",
        "\\va",
        "v\\a",
        "$'v\\x61'",
        "v\\\na",
        "echo",
        ":",
        "true",
        "cd",
        "test",
        "[",
        "{}",
        "va}",
        "=va",
    ]
)
REDIRECT = st.sampled_from(
    [">f", "> f", ">>f", "2>f", "2>&1", ">/dev/null", "2>/dev/null", "</dev/null", "<f", "&>f", ">&f", ">|f", "<<<x", "<>f", "3>f"]
)
WRAPPER = st.sampled_from(
    [
        "env",
        "env -i",
        "env x=1",
        "nice",
        "nice -n 1",
        "nohup",
        "timeout 3",
        "timeout -k 1 3",
        "xargs",
        "xargs -n 1",
        "xargs -I%",
        "command",
        "command -p",
        "builtin",
        "exec",
        "time",
        "time -p",
        "coproc",
        "setsid",
        "stdbuf -oL",
        "eval",
        "!",
        "x=1",
        "x=va",
        "then",
        "PATH=.",
        "find . -maxdepth 0 -exec",
        "bash -c",
        "sh -c",
        "bash",
        "trap",
        "env -S",
        "--",
        "-",
        "command --",
        "exec -a q",
        "env -",
        "env 'x=1'",
        "env a.b=1",
        "env x=$y",
        "bash +c",
        "bash -c --",
        "sh -c -x",
        "nice -n {1,va}",
        "xargs env",
        "find . {-exec,va,';'}",
        "xargs -0",
        "sh",
    ]
)


def simple(words: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def joined(wrappers: list[str], program: str, rest: list[str]) -> str:
        return " ".join([*wrappers, program, *rest])

    return st.builds(joined, st.lists(WRAPPER, max_size=2), PROGRAM, st.lists(words | REDIRECT, max_size=3))


def compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    quoted = inner.map(lambda text: text.replace("'", "'\\''"))
    return st.one_of(
        st.builds(
            lambda a, op, b: f"{a}{op}{b}", inner, st.sampled_from([";", " ; ", "&&", " || ", "|", " | ", "\n", " & ", " |& ", "&"]), inner
        ),
        st.builds(lambda form, a, b: form.format(a=a, b=b), st.sampled_from(FORMS), inner, inner),
        st.builds(lambda form, a: form.format(a=a), st.sampled_from(QUOTING), quoted),
    )


FORMS = [
    "({a})",
    "( {a} )",
    "{{ {a}; }}",
    "{{ {a}\n}}",
    "{{{a};}}",
    "if {a}; then {b}; fi",
    "if {a}\nthen {b}\nelse {b}\nfi",
    "for i in x y; do {a}; done",
    "for i in x; do {a}\ndone",
    "while no; do {a}; done",
    "until {a}; do {b}; break; done",
    "case x in x) {a};; *) {b};; esac",
    "case x in (x) {a} ; esac",
    "f() {{ {a}; }}; f",
    "f() ( {a} ); f",
    "function f {{ {a}; }}; f",
    "echo $({a})",
    'echo "$({a})"',
    "echo `{a}`",
    "va $({a}) y",
    "! {a}",
    "cat <<E\n$({a})\nE",
    "cat <<'E'\n$({a})\nE\n{b}",
    "bash <<E\n{a}\nE",
    "bash <<'E'\n{a}\nE",
    "cat <<E | {a}\nx\nE",
    "{a} # {b}",
    "# {a}\n{b}",
    "cat <({a})",
    "[ x ] && {a}",
    "[[ x == x ]] && {a}",
    "x=$({a})",
    "x=1 {a}",
    "> f {a}",
    "{a} > f",
    "{a} 2>&1 | {b}",
    "{a} <<< x",
    "{a} < /dev/null",
    "select i in x; do {a}; break; done <<< 1",
    "time {a}",
    "coproc {a}",
    "{{ {a}; }} > f",
    "({a}) 2>/dev/null",
    "{a} &\nwait",
    "{a};;",
    "((1)) && {a}",
    "x=va; {a}",
    "set -- va; {a}",
    "trap '' EXIT; {a}",
    "while read x; do {a}; done <<< y",
    "echo va | {{ {a}; }}",
    "f() {{ {a}; }} > g; f",
    "y='1 vb'; {a}",
    "y=-exec; {a} \"$y\" vb ';'",
    "{a} | bash /dev/stdin",
    "for x in va vb; do {a}; done",
    "bash -c '{a} \"$@\"' x -exec vb ';'",
]
QUOTING = [
    "bash -c '{a}'",
    "sh -c '{a}'",
    "eval '{a}'",
    "trap '{a}' EXIT",
    "echo '{a}'",
    "bash -c 'bash -c \"$0\"' '{a}'",
    "echo '{a}' | sh",
    "bash <<< '{a}'",
    "env bash -c '{a}' x",
    "x='{a}'; eval $x",
    "va '{a}'",
    "sh -ec '{a}'",
    "echo '{a}' > f; . ./f",
    "alias va='{a}'; va",
]
LINES = st.recursive(simple(WORD), compound, max_leaves=4)
TOKENS = st.lists(
    st.one_of(
        WORD,
        PROGRAM,
        REDIRECT,
        WRAPPER,
        st.sampled_from([*"|&;(){}<>\n\"'`\\$#! ", "&&", "||", ";;", "if", "then", "fi", "do", "done", "$(", "<<E", "E"]),
    ),
    max_size=8,
)
ANY = st.one_of(
    LINES,
    st.builds(lambda words, gap: gap.join(words), TOKENS, st.sampled_from([" ", "", "\n"])),
    st.builds(
        lambda text, at, size: text[: at % (len(text) + 1)] + text[at % (len(text) + 1) + size :],
        LINES,
        st.integers(0, 60),
        st.integers(1, 3),
    ),
)
RELAXED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


@settings(max_examples=60, deadline=None, suppress_health_check=RELAXED)
@given(ANY)
@example("va 'x y' \\  $'\\x41' | vb > f; env x=1 nice vc")
@example("{} ; va")
def test_what_bash_runs_is_among_the_facts(bash: RealBash, text: str) -> None:
    if "\0" not in text:
        check(text, bash.run(text))


@pytest.mark.parametrize("text", HIDING[::12])
def test_the_corpus(bash: RealBash, text: str) -> None:
    text = text.replace("victim", "va").replace("vic''tim", "v''a")
    check(text, bash.run(text))


def test_the_stubs_tell_what_was_run(bash: RealBash) -> None:
    """Otherwise the other tests would show nothing."""
    assert bash.run("va 'x y' ''; no || vb; bash > f").commands == (("va", "x y", ""), ("no",), ("vb",), ("fromstdin",))
    assert bash.run("echo x > f").files == ("f",)
    assert set(STUBS) >= {"va", "vb", "vc"}
    with pytest.raises(AssertionError):
        check("va x", Ran((("vb",),), ()))
    with pytest.raises(AssertionError):
        check("va x", Ran((("va", "y"),), ()))
    with pytest.raises(AssertionError):
        check("va", Ran((), ("f",)))


@pytest.mark.fuzz
@settings(max_examples=5_000, deadline=None, suppress_health_check=RELAXED)
@given(ANY)
def test_what_bash_runs_is_among_the_facts_for_long(bash: RealBash, text: str) -> None:
    if "\0" not in text:
        check(text, bash.run(text))
