"""Whatever the text: facts or an incomplete operation, never an exception, in bounded time, and no command of it hidden."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rules.model import UNKNOWN
from rules.shell import bounds
from rules.vocabulary import SSH_FACETS
from tests.rules.shell.reading import parts, programs, read
from tests.rules.shell.test_commands import NOT_UNDERSTOOD, WHOLE

# each runs `victim` in bash: it is seen, or the command is not understood
HIDING = [
    "victim",
    "env - victim",
    "env 'x=1' victim",
    "env a.b=1 victim",
    "y='1 victim'; env x=$y true",
    "nice -n {1,victim}",
    "find . -maxdepth 0 {-exec,victim,';'}",
    "x=-exec; find . -maxdepth 0 \"$x\" victim ';'",
    "bash +c victim",
    "bash -c -x victim",
    "sh -c -- victim",
    "echo victim | bash /dev/stdin",
    "for PS4 in '$(victim)'; do set -x; :; done",
    "for SECONDS in 'a[$(victim)]'; do :; done",
    "vic''tim",
    'v"ic"tim',
    "\\victim",
    "vict\\im",
    "vic\\\ntim",
    "$'\\x76ictim'",
    "$'v\\151ctim'",
    "/bin/../$PWD/victim; victim",
    "x=victim; $x",
    "x=vic; ${x}tim",
    'x=victim; "$x"',
    "${none}victim",
    "${none:-victim}",
    "${x:=victim}",
    "set -- victim; $1",
    'set -- victim; "$@"',
    "victim$none",
    "victi[m]",
    "{victim,x}",
    "v{i,}ctim",
    "echo $(victim)",
    "echo `victim`",
    "echo `echo \\`victim\\``",
    'echo "$(echo "$(victim)")"',
    'echo "`victim`"',
    "echo ${x:-$(victim)}",
    "echo ${x:-`victim`}",
    'echo "${x:-$(victim)}"',
    "echo ${x/$(victim)/b}",
    "echo $(( $(victim) + 1 ))",
    "echo $(($(victim)))",
    "x='a[$(victim)]'; echo $((x))",
    "x='a[$(victim)]'; [[ $x -eq 1 ]]",
    "x='a[$(victim)]'; ((x))",
    "[[ -v 'a[$(victim)]' ]]",
    "test -v 'a[$(victim)]'",
    "unset 'a[$(victim)]'",
    "printf -v 'a[$(victim)]' x",
    "declare 'a[$(victim)]=1'",
    'export "x=$(victim)"',
    "x=$(victim)",
    "x=(1 $(victim))",
    "x='$(victim)'; echo ${x@P}",
    "cat <(victim)",
    "echo > >(victim)",
    "cat < <(victim)",
    "cat <<< $(victim)",
    "cat <<E\n$(victim)\nE",
    "cat <<E\n`victim`\nE",
    "cat <<'E'\nx\nE\nvictim",
    "cat <<E\nx\n E\nE\nvictim",
    "cat <<E; victim\nx\nE",
    "cat <<E && victim\nx\nE",
    "cat <<E | victim\nx\nE",
    "cat <<A <<B\nA\nB\nvictim",
    "cat <<''\n\nvictim",
    "cat <<E\\\nF\nEF\nvictim",
    "bash <<E\nvictim\nE",
    "bash <<< victim",
    "echo victim | bash",
    "echo victim | sh -s",
    "bash <(echo victim)",
    ". <(echo victim)",
    "source /dev/stdin <<< victim",
    "bash -c victim",
    "bash -c 'bash -c victim'",
    "bash -c '$0' victim",
    "bash -c '\"$@\"' x victim",
    "sh -c 'eval victim'",
    "eval victim",
    "eval vic tim; victim",
    'eval "vic""tim"',
    "eval $(echo victim)",
    "trap victim EXIT",
    "trap -- victim EXIT",
    "trap 'echo x; victim' 0",
    "command victim",
    "builtin command victim",
    "exec victim",
    "exec -a x victim",
    "env victim",
    "env x=1 victim",
    "env -u x victim",
    "env -S 'victim'",
    "nice -n 5 victim",
    "nohup victim",
    "timeout 5 victim",
    "timeout -s KILL 5 victim",
    "time victim",
    "time -p victim",
    "time { victim; }",
    "xargs victim < /dev/null",
    "echo victim | xargs -I% %",
    "echo victim | xargs -I % sh -c %",
    "echo victim | xargs env",
    "find . -maxdepth 0 -exec victim \\;",
    "find . -maxdepth 0 -exec sh -c victim {} +",
    "coproc victim",
    "coproc X { victim; }",
    "! victim",
    "(victim)",
    "((victim) )",
    "( (victim))",
    "{ victim; }",
    "if victim; then :; fi",
    "if :; then victim; fi",
    "while victim; do break; done",
    "until ! victim; do break; done",
    "for x in 1; do victim; done",
    "for ((;;)); do victim; break; done",
    "for x in $(victim); do :; done",
    "select x in 1; do victim; break; done <<< 1",
    "case x in x) victim;; esac",
    "case x in y) :;; *) victim; esac",
    "case $(victim) in *) :;; esac",
    "case x in $(victim)) :;; esac",
    "case x in x) :;& y) victim;; esac",
    "f() { victim; }; f",
    "function f { victim; }; f",
    "f() (victim); f",
    "ls() { victim; }; ls",
    'f() { "$@"; }; f victim',
    "alias ls=victim; ls",
    "shopt -s expand_aliases\nalias ls=victim\nls",
    "hash -p ./victim ls; ls",
    "PATH=. ls",
    "BASH_ENV=./victim bash -c :",
    "PS4='$(victim)'; set -x; :",
    "PROMPT_COMMAND=victim bash -i",
    "> x victim",
    "2>&1 victim",
    "x=1 victim",
    "x=1 > y victim",
    "a=1 b=2 victim",
    ": > x; victim",
    ": >| x & victim",
    ":&victim",
    ":|victim",
    ":|&victim",
    ":||victim;victim",
    ":&&victim",
    "# x\nvictim",
    ": # x\nvictim",
    ":#x;victim",
    ": a#b;victim",
    ": '#' ;victim",
    ": \\# ;victim",
    ": \\\n# ;victim\nvictim",
    ": ${x#y};victim",
    ": $# ;victim",
    ": 'a\\';victim",
    ': "a\\"";victim',
    ": $'a\\'';victim",
    ": \\';victim;: \\'",
    ": \\\\;victim",
    ': "$(: ")" ; victim; : "(")"',
    "[ a ]; victim",
    "[ a -o b ] && victim",
    "[[ a && b ]]; victim",
    "[[ $(victim) ]]",
    "[ $(victim) ]",
    "[ a && victim ]",
    "[[ a ]] 2>&1 && victim",
    "then=1; if=2; victim",
    "echo if; victim",
    "in victim; victim",
    "mapfile -C victim -c 1 < /etc/passwd",
    "compgen -C victim",
    "enable -f ./victim.so ls",
    "python3 -c 'x' ; victim",
    "\tvictim",
    " \\\n victim",
    "\nvictim\n",
    "victim&",
    "victim;",
    "victim>x",
    "victim<x",
    "victim 2>x",
    "{ victim;} 2>&1",
    "(:;victim)|:",
]
BASH = shutil.which("bash")


@pytest.mark.parametrize("command", HIDING)
def test_hides_no_command(command: str) -> None:
    operation = read(command)
    assert not operation.complete or "victim" in {name.rpartition("/")[2] for name in programs(command)}


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
def test_the_corpus_runs_what_it_hides(tmp_path: Path) -> None:
    """Most of it, as bash has it: otherwise the corpus would show nothing."""
    assert BASH is not None
    victim = tmp_path / "victim"
    victim.write_text('#!/bin/sh\necho > "$MARK"\n')
    victim.chmod(0o700)
    ran = 0
    for command in HIDING[:120]:
        mark = tmp_path / "mark"
        mark.unlink(missing_ok=True)
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "MARK": str(mark)}
        subprocess.run(
            [BASH, "-c", command], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
        )
        ran += mark.exists()
    assert ran > 85


def check(text: bytes) -> None:
    operation = read(text)
    for part in parts(text):
        assert set(part.facts.get("facets")) <= SSH_FACETS
        assert part.complete is (part.reason == "") is part.facts.get("complete")
        assert not part.complete or part.facts.get("programs") is not UNKNOWN
        assert part.title.isprintable()
    assert operation.complete is all(part.complete for part in parts(text))


WORDS = """a rm -x $x "$x" 'q' "q" $'\\x41' \\ \\\n \n ; & && | || |& ! ( ) (( )) { } [ ] [[ ]] $( ) ` ${ } $(( )) <( >( > < >> >& 2>&1 <<E
E << - <<<
if then elif else fi for in do done while until case esac ;; select function f() time coproc eval exec sudo sh -c
'rm x' xargs find -exec \\; {}
a=1 a=( a[0]=1 # * ? ~ " ' $ = export trap . , == -eq""".replace("\\\n", "\\\\n").split()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example(b"")
@example(b"\xff")
@example(b"ls \x00")
def test_any_bytes(text: bytes) -> None:
    check(text)


@settings(max_examples=800, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=20), st.sampled_from([" ", "", "\n"]))
def test_any_words(words: list[str], between: str) -> None:
    check(between.join(words).encode())


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(WHOLE + NOT_UNDERSTOOD), st.sampled_from(WHOLE + NOT_UNDERSTOOD), st.integers(0, 40), st.integers(0, 40))
def test_commands_cut_and_joined(first: tuple[str, object], second: tuple[str, object], cut: int, start: int) -> None:
    check((first[0][:cut] + second[0][start:]).encode())


UNDERSTOOD = [command for command, _ in WHOLE if command and "#" not in command and "<<" not in command]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(UNDERSTOOD),
    st.sampled_from(UNDERSTOOD),
    st.sampled_from(["{}; {}", "{} && {}", "{}\n{}", "({}); {}", "if {}; then {}; fi"]),
)
def test_what_is_joined_is_the_sum_of_its_parts(first: str, second: str, joined: str) -> None:
    joined = joined.replace("{}", "%s") % (first.rstrip("&\n "), second.rstrip("&\n "))
    found = read(joined)
    if found.complete:
        assert programs(first) | programs(second) <= programs(joined)


@pytest.mark.parametrize(
    "text",
    [
        b"a" * (bounds.MAX_BYTES + 1),
        b"|a" * 300,
        b"$(" * 3000,
        b"(" * 3000,
        b"{ " * 3000,
        b"if a; then " * 1000,
        b"cat <<a\n" * 200,
        b"a;" * 30_000,
        b"sh -c " * 5000 + b"a",
    ],
    ids=lambda text: text[:8].decode(),
)
def test_bounds(text: bytes) -> None:
    assert not read(text).complete


def test_texts_in_texts_end() -> None:
    command = "victim"
    for _ in range(5):
        command = "eval '" + command.replace("'", "'\\''") + "'"
    assert read(command).complete
    assert programs(command) == {"eval", "victim"}
    nested = "eval " * 100 + "a"
    assert not read(nested).complete


DEEP = """
import sys
from rules.shell.command import operation_of
pieces = ["$(", "(", "`", "{ ", "if a;then ", "[[ ", "$((", "case x in ", '"$(', "<(", "a&&", "a||", "a;", "${x:-", "'", '"', "<<a "]
pieces += ["sudo ", "env ", "! ", "a=1 ", ">f ", "time ", "a[", "$'", "f(){ ", "#", chr(10), "-x ", "$x ", "*", "a&"]
pieces += ["while ", chr(92) + chr(10)]
for piece in pieces:
    for size in (100, 390, 20_000, 65_536):
        text = (piece * (size // len(piece) + 1))[:size].encode()
        operation_of(text, "sh")
        operation_of(text[:-60] + b")" * 50 + b"a", "bash")
print("done")
"""


def test_deep_and_long_texts_neither_crash_nor_stall() -> None:
    done = subprocess.run([sys.executable, "-c", DEEP], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.fuzz
@settings(max_examples=30_000, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join))
def test_any_words_for_long(text: str) -> None:
    check(text.encode())
