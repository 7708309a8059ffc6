"""Commands and their facts: one row each."""

from __future__ import annotations

import pytest

from rules.model import UNKNOWN
from rules.shell.command import operation_of, takes_code_from_channel
from tests.rules.shell.reading import argvs, facets, parts, programs, read

WHOLE: list[tuple[str, set[str | None]]] = [
    ("uptime", {"uptime"}),
    ("", {""}),
    ("# nothing", {""}),
    ("ls -l /tmp # here; rm x", {"ls -l /tmp"}),
    ("echo a#b", {"echo a#b"}),
    ("a; b & c", {"a", "b", "c"}),
    ("a && b || ! c", {"a", "b", "c"}),
    ("a\nb\n", {"a", "b"}),
    ("a | b | c", {"a", "b", "c"}),
    ("a |& b", {"a", "b"}),
    ("(a; b)", {"a", "b"}),
    ("{ a; b; }", {"a", "b"}),
    ("if a; then b; elif c; then d; else e; fi", {"a", "b", "c", "d", "e"}),
    ("while a; do b; done", {"a", "b"}),
    ("until a; do b; done", {"a", "b"}),
    ("for i in 1 2; do a; done", {"a"}),
    ("select i in 1 2; do a; done", {"a"}),
    ("case x in a|b) c;; (*) d;; esac", {"c", "d"}),
    ("f() { a; }; f", {"a", "f"}),
    ("function f { a; }", {"a"}),
    ("f() (a)", {"a"}),
    ("[ -f x ] && [[ -d y || -e z ]]", {"[ -f x ]", "[[ -d y -e z ]]"}),
    ("echo 'a b' \"c d\" e\\ f", {"echo a b c d e f"}),
    ("r''m x", {"rm x"}),
    ('r""m x', {"rm x"}),
    ("\\rm x", {"rm x"}),
    ("$'\\x72m' x", {"rm x"}),
    ("$'\\162\\155' $'a\\tb'", {"rm a\tb"}),
    ("r\\\nm x", {"rm x"}),
    ("rm \\\n  x", {"rm x"}),
    ("echo 'a\\\nb'", {"echo a\\\nb"}),
    ('echo "a\\$b\\c"', {"echo a$b\\c"}),
    ("echo $", {"echo $"}),
    ("echo {}", {"echo {}"}),
    ("ls; {} a", {"ls", "{} a"}),
    ("ls données", {"ls données"}),
    ("echo x > f y", {"echo x y"}),
    ("> f rm x", {"rm x"}),
    ("cat <<< x y", {"cat y"}),
    ("a | b > f c", {"a", "b c"}),
    ("> f", {"> f"}),
    ("X=1 a", {"a"}),
    ("X=1", {"X=1"}),
    ("echo $x", {None}),
    ('echo "$x"', {None}),
    ("ls *.c", {None}),
    ("ls ~", {None}),
    ("ls {a,b}", {None}),
    ("echo '$x' \"*\" \\~", {"echo $x * ~"}),
    ("echo $(a b) `c`", {None, "a b", "c"}),
    ('echo "$(a "b")"', {None, "a b"}),
    ("echo ${x:-$(a)}", {None, "a"}),
    ("cat <(a) >(b)", {None, "a", "b"}),
    ("echo $((1 + 2))", {None}),
    ("cat <<E\na $(b) $x\nE\nc", {"cat", "b", "c"}),
    ("cat <<'E'\n$(b)\nE\nc", {"cat", "c"}),
    ("cat <<-E\n\tx\n\tE\nc", {"cat", "c"}),
    ("cat <<E && b\nx\nE\nc", {"cat", "b", "c"}),
    ("cat <<E > f\nx\nE", {"cat"}),
    # wrappers
    ("sudo -n -u root rm x", {"sudo -n -u root rm x", "rm x"}),
    ("sudo --user=root A=1 rm x", {"sudo --user=root A=1 rm x", "rm x"}),
    ("env -i A=1 rm x", {"env -i A=1 rm x", "rm x"}),
    ("timeout -k 3 5 nice -n 3 rm x", {"timeout -k 3 5 nice -n 3 rm x", "nice -n 3 rm x", "rm x"}),
    ("nohup rm x &", {"nohup rm x", "rm x"}),
    ("command -p rm x", {"command -p rm x", "rm x"}),
    ("command -v rm", {"command -v rm"}),
    ("builtin cd x", {"builtin cd x", "cd x"}),
    ("exec rm x", {"exec rm x", "rm x"}),
    ("time rm x", {"time rm x", "rm x"}),
    ("coproc rm x", {"coproc rm x", "rm x"}),
    ("busybox rm x", {"busybox rm x", "rm x"}),
    ("chroot /x rm y", {"chroot /x rm y", "rm y"}),
    ("xargs -0 -n 1 rm x", {"xargs -0 -n 1 rm x", None}),
    ("find . -name x -exec rm y ';' -exec a {} +", {"find . -name x -exec rm y ; -exec a {} +", "rm y", None}),
    ("find . -delete", {"find . -delete"}),
    ("bash -c 'a; b'", {"bash -c a; b", "a", "b"}),
    ("sh -ec 'a' x y", {"sh -ec a x y", "a"}),
    ("bash -c 'sh -c \"rm x\"'", {'bash -c sh -c "rm x"', "sh -c rm x", "rm x"}),
    ("eval 'rm x' y", {"eval rm x y", "rm x y"}),
    ("trap 'rm x' EXIT", {"trap rm x EXIT", "rm x"}),
    ("bash <<'E'\nrm x\nE", {"bash", "rm x"}),
    ("bash <<< 'rm x'", {"bash", "rm x"}),
    ("a && sh -s <<E\nrm x\nE", {"a", "sh -s", "rm x"}),
    ("bash x.sh", {"bash x.sh"}),
    ("bash < /dev/null", {"bash"}),
    ("python3 -c 'x'", {"python3 -c x"}),
    ("python3 x.py", {"python3 x.py"}),
    ("python3 <<'E'\nx\nE", {"python3"}),
    ("sudo env X=1 sh -c 'rm x'", {"sudo env X=1 sh -c rm x", "env X=1 sh -c rm x", "sh -c rm x", "rm x"}),
    # what env and sudo take for an assignment is no matter of quotes; `-` is env's -i
    ("env - rm x", {"env - rm x", "rm x"}),
    ("env 'a=1' b.c=2 rm x", {"env a=1 b.c=2 rm x", "rm x"}),
    ('env "a=$y" rm x', {None, "rm x"}),
    ("sudo 'a=1' rm x", {"sudo a=1 rm x", "rm x"}),
    # the text of -c is the first word that is no option
    ("bash +c 'rm x'", {"bash +c rm x", "rm x"}),
    ("bash -c -x 'rm x' y", {"bash -c -x rm x y", "rm x"}),
    ("sh -c -- 'rm x'", {"sh -c -- rm x", "rm x"}),
    ("ls | xargs -I% git -C % status", {"ls", "xargs -I% git -C % status", None}),
    ("find . -name '*.gz' -exec tar tzf {} ';'", {"find . -name *.gz -exec tar tzf {} ;", None}),
]


@pytest.mark.parametrize(("command", "expected"), WHOLE)
def test_what_is_understood(command: str, expected: set[str | None]) -> None:
    operation = read(command)
    assert operation.reason == ""
    assert operation.complete
    assert argvs(command) == expected
    assert operation.writes


NOT_UNDERSTOOD: list[tuple[str, set[str]]] = [
    ("rm x; (", {"rm"}),
    ("rm 'x", {"rm"}),
    ("$x y; rm z", {"rm"}),
    ("${IFS}rm x", set()),
    ("{rm,x}", set()),
    ("r$y m", set()),
    ("*m x", set()),
    ("$(rm x) y", {"rm"}),
    ("[ a && rm b ]", {"rm"}),
    ("((rm x))", set()),
    ("echo $((x)); rm y", {"rm"}),
    ("echo ${x[$(rm y)]}", {"rm"}),
    ("echo ${x@P}", {"echo"}),
    ("echo ${!x}", {"echo"}),
    ("[[ $x -eq 1 ]] && rm y", {"rm"}),
    ("[[ -v a ]]", {"[["}),
    ("[ -v 'a[$(rm x)]' ]", {"["}),
    ("test $x", {"test"}),
    ("unset 'a[$(rm x)]'", {"unset"}),
    ("read 'a[$(rm x)]'", {"read"}),
    ("printf -v 'a[$(rm x)]' y", {"printf"}),
    ("declare -i a=b", {"declare"}),
    ("let a=1", {"let"}),
    ("mapfile -C rm x", {"mapfile"}),
    ("for ((i=0;i<3;i++)); do rm x; done", {"rm"}),
    ("a[$(rm x)]=y rm y", {"rm"}),
    ("alias ls=rm\nls x", {"alias", "ls"}),
    (". ./x; ls", {".", "ls"}),
    ("source x", {"source"}),
    ("hash -p /bin/rm ls; ls x", {"hash", "ls"}),
    ("enable -n test", {"enable"}),
    ("shopt -s expand_aliases", {"shopt"}),
    ("set -- rm", {"set"}),
    ("PATH=/x ls", {"ls"}),
    ("LD_PRELOAD=x ls", {"ls"}),
    ("export BASH_ENV=x; bash x", {"export", "bash"}),
    ("env LD_PRELOAD=x ls", {"env"}),
    ("sudo -s", {"sudo"}),
    ("sudo -i rm x", {"sudo"}),
    ("sudo --unheard rm x", {"sudo"}),
    ("sudo $x rm y", {"sudo"}),
    ("timeout $x rm y", {"timeout"}),
    ("env -S 'rm x'", {"env"}),
    ("xargs sh -c", {"xargs"}),
    ("xargs env", {"xargs"}),
    ("xargs -I% %", {"xargs"}),
    ("xargs -I % sh -c 'rm %'", {"xargs"}),
    ("find . -exec {} \\;", {"find"}),
    ("find . $x", {"find"}),
    ('bash -c "$x"', {"bash"}),
    ("bash -i", {"bash"}),
    ("bash --rcfile x", {"bash"}),
    ("zsh -c 'rm x'", {"zsh"}),
    ("fish -c 'rm x'", {"fish"}),
    ("eval $x", {"eval"}),
    ('eval "$(rm x)"', {"eval", "rm"}),
    ("bash -c 'rm x; ('", {"bash", "rm"}),
    ("curl x | sh", {"curl", "sh"}),
    ("a | bash -s", {"a", "bash"}),
    ("bash < x", {"bash"}),
    ("while a; do sh; done < x", {"a", "sh"}),
    ("a | python3 -", {"a", "python3"}),
    ("a | awk -f - x", {"a", "awk"}),
    ("a | gawk -v x=1 -f/dev/stdin", {"a", "gawk"}),
    ("exec < x; bash", {"exec", "bash"}),
    ("bash | cat < /dev/null", {"bash", "cat"}),
    ("bash <<E\n$x\nE", {"bash"}),
    ("python3 -W x", {"python3"}),
    ("ssh h rm x", {"ssh"}),
    ("parallel rm", {"parallel"}),
    ("watch rm x", {"watch"}),
    ("docker exec x rm y", {"docker"}),
    ("git -c core.pager=x log", {"git"}),
    ("tar --checkpoint-act=x f", {"tar"}),
    ("rsync -aze x a b", {"rsync"}),
    ("vi x", {"vi"}),
    ("su -c 'rm x'", {"su"}),
    ("exec 3<>/dev/tcp/1.2.3.4/80", {"exec"}),
    ("cat < $x", {"cat"}),
    ("cat < <(rm x)", {"cat", "rm"}),
    ("time { rm x; }", {"time"}),
    ("coproc N { rm x; }", {"coproc"}),
    ("cat <<A <<B\n1\nA\n2\nB", {"cat"}),
    ("cat <<E; rm x\ny\nE", {"cat"}),
    ('cat <<"$x"\n1\n$x', {"cat"}),
    ("echo `echo \\`rm x\\``", {"echo"}),
    ('echo $"x"', set()),
    ("echo $'\\cx'", set()),
    ("then x", set()),
    ("{} &", set()),
    ("ls & {}", {"ls"}),
    ("!", set()),
    ("echo \x07", set()),
    ("echo a\u202eb", set()),
    ("echo a\u00a0b", set()),
    ("ls\r", set()),
    # an expansion outside of quotes, a glob or braces may be several words
    ("env x=$y rm z", {"env"}),
    ("nice -n {1,rm} z", {"nice"}),
    ("sudo -u $x rm y", {"sudo"}),
    ("bash -o {posix,-c} 'rm x'", {"bash"}),
    ("command export a=$x", {"command", "export"}),
    ("find . {-exec,rm,x,';'}", {"find"}),
    ("find . \"$x\" rm y ';'", {"find"}),
    ("find . $x''", {"find"}),
    ("find *", {"find"}),
    ("bash -c 'find . \"$@\"' x -exec rm y ';'", {"bash", "find"}),
    ("git {-c,alias.x=!rm} x", {"git"}),
    ('tar xf a "$x"', {"tar"}),
    ("ls | xargs git", {"xargs", "git"}),
    ("ls | xargs -I% tar xf a %", {"xargs", "tar"}),
    ("tar xIf 'rm x' a", {"tar"}),
    ("tar cf h:/x .", {"tar"}),
    ("tar cf x -T list", {"tar"}),
    ("git submodule foreach rm", {"git"}),
    ("test \"$x\" 'a[$(rm y)]'", {"test"}),
    # variables that change what runs, by other ways than an assignment
    ("for PATH in /x; do ls; done", {"ls"}),
    ("for PS4 in '$(rm x)'; do set -x; done", {"set"}),
    ("for SECONDS in 'a[$(rm x)]'; do ls; done", {"ls"}),
    ("select PATH in /x; do ls; done", {"ls"}),
    (": ${LD_PRELOAD:=/x}; export LD_PRELOAD; ls", {":", "export", "ls"}),
    # scripts that are no files
    ("a | bash /dev/stdin", {"a", "bash"}),
    ("bash /dev/fd/3 3< x", {"bash"}),
    ("command time -o x ls", {"command", "time"}),
]


@pytest.mark.parametrize(("command", "seen"), NOT_UNDERSTOOD)
def test_what_is_not_understood_says_so_and_shows_what_was_found(command: str, seen: set[str]) -> None:
    operation = read(command)
    assert not operation.complete
    assert operation.reason
    assert operation.facts.get("complete") is False
    assert all(not part.complete and part.reason for part in parts(command))
    assert seen <= programs(command)


FACETS = [
    ("a > f", "a", {"redirect"}),
    ("a < f", "a", {"redirect"}),
    ("a 2>/dev/null < /dev/null 2>&1", "a", set()),
    ("{ a; b; } > f", "a", {"redirect"}),
    ("a > /dev/sda", "a", {"redirect", "device"}),
    ("a > //dev/../dev/sda", "a", {"redirect", "device"}),
    ("a 2> /dev/fd/2", "a", {"redirect"}),
    ("a > /dev/tcp/x/1", "a", {"redirect", "network"}),
    ("bash x", "bash", {"interpreter"}),
    ("python3 x", "python3", {"interpreter"}),
    ("python3.12 -c x", "python3.12", {"interpreter", "eval"}),
    ("awk '{print}' x", "awk", {"interpreter", "eval"}),
    ("sed -n 1,5p x", "sed", set()),
    ("sed 's/a/b/e' x", "sed", {"interpreter", "eval"}),
    ("sed -e 1p -e '1e id' x", "sed", {"interpreter", "eval"}),
    ("sed 1p x -i", "sed", {"interpreter", "eval"}),
    ("a | awk -F: '{print $1}' -", "awk", {"interpreter", "eval"}),
    ("a $x", "a", {"expansion"}),
    ("a *", "a", {"expansion"}),
    ("a $(b)", "a", {"substitution"}),
    ("a $(b)", "b", {"substitution"}),
    ("sudo a", "a", {"sudo", "wrapper"}),
    ("nice a", "a", {"wrapper"}),
    ("curl x", "curl", {"network"}),
    ("/usr/bin/curl x", "/usr/bin/curl", {"network"}),
    ("X=1 a", "a", {"environment"}),
    ("export X=1", "export", {"environment"}),
    ("f() { a; }", "a", {"function"}),
    ("a &", "a", {"background"}),
    ("(a; b) &", "b", {"background"}),
    ("a && b &", "a", {"background"}),
    ("coproc a", "a", {"background", "wrapper"}),
    ("a | sh", "sh", {"interpreter", "stdin"}),
    ("eval a", "a", {"eval"}),
    ("if a; then b; fi", "b", {"control"}),
    ("case x in y) a;; esac", "a", {"control"}),
    (":(){ :|:& };:", ":", {"function", "background"}),
    ("for i in 1; do f() { sudo sh -c 'a > x'; }; done", "a", {"control", "function", "sudo", "wrapper", "interpreter", "redirect"}),
]


@pytest.mark.parametrize(("command", "program", "expected"), FACETS)
def test_facets_of_what_encloses_a_command_belong_to_it(command: str, program: str, expected: set[str]) -> None:
    assert facets(command, program) == expected


def test_programs_hold_the_wrappers() -> None:
    assert ("sudo", "nice", "bash", "rm") in [part.facts.get("programs") for part in parts("sudo -u x nice bash -c 'rm y'")]
    assert [part.facts.get("programs") for part in parts("$x y")] == [UNKNOWN]


@pytest.mark.parametrize("shell", ["sh", "dash", "ash"])
@pytest.mark.parametrize(
    ("command", "complete"),
    [
        ("a | b && c > f", True),
        ('echo "$x" ${y:-z} $((1+2)) $(a)', True),
        ("bash -c '[[ a ]]'", True),
        ("[[ a ]]", False),
        ("a &> f", False),
        ("a |& b", False),
        ("a <<< x", False),
        ("cat <(a)", False),
        ("a $'\\x72'", False),
        ("a=(1 2)", False),
        ("function f { a; }", False),
        ("echo ${x^^}", False),
        ("select i in a; do b; done", False),
    ],
)
def test_shells_that_are_not_bash(command: str, complete: bool, shell: str) -> None:
    assert read(command, shell).complete is complete
    assert read(command, "bash").complete


@pytest.mark.parametrize("shell", ["", "zsh", "fish", "cmd", "powershell", "ksh", "BASH"])
def test_shells_that_are_not_read(shell: str) -> None:
    operation = read("rm x", shell)
    assert not operation.complete
    assert programs("rm x", shell) == {"rm"}


@pytest.mark.parametrize(
    ("command", "takes"),
    [("bash", True), ("sh -s", True), ("python3", True), ("python3 -u -", True), ("sudo bash", True), ("a; perl", True),
     ("bash /dev/stdin", True), ("python3 /dev/./fd/0", True),
     ("bash x", False), ("a | bash", False), ("bash < x", False), ("cat", False), ("bash -c a", False)],
)  # fmt: skip
def test_code_from_the_channel(command: str, takes: bool) -> None:
    assert takes_code_from_channel(read(command)) is takes


def test_what_a_reviewer_sees_and_the_fingerprint_covers() -> None:
    seen = [operation_of(*given).exact for given in ((b"rm x\n",), (b"rm x",), (b"rm x", "sh"), (b"rm x", "bash", b"LANG=C"))]
    shown = [each() for each in seen if each is not None]
    assert shown[0].text == "rm x\n"
    assert len({each.payload for each in shown}) == 4


@pytest.mark.parametrize(
    ("command", "code", "expected"),
    [
        ("bash", "uptime", {"bash", "uptime"}),
        ("sudo -u deploy bash -s", "uptime\n", {"sudo -u deploy bash -s", "bash -s", "uptime"}),
        ("sh", "cd /tmp\nls | wc\ndf /", {"sh", "cd /tmp", "ls", "wc", "df /"}),
        ("python3 -", "print(1)\nprint(2)\n", {"python3 -"}),
        ("uptime", "anything", {"uptime"}),
    ],
)
def test_code_from_the_channel_is_read_where_it_is_known(command: str, code: str, expected: set[str]) -> None:
    operation = operation_of(command.encode(), stdin=code.encode())
    assert (operation.complete, operation.reason) == (True, "")
    assert {part.facts.get("argv") for part in operation.parts or (operation,)} == expected
    assert operation.exact is not None
    shown = operation.exact()
    assert code in shown.text
    assert shown.payload != operation_of(command.encode()).exact().payload  # type: ignore[misc]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("read x; bash", "'\nrm x\n'"),  # what `read` takes is not the shell's
        ("bash", "read x\n'\nrm x\n'"),
        ("bash", "sudo ls\n'\nrm x\n'"),
        ("bash; bash", "ls"),
        ("bash | bash", "ls"),
        ("bash <<E\nread x\nrm x\nE", ""),
        ("bash", "bash\nls"),
        ("fish", "ls"),
        ("bash", "echo $($x)"),
        ("bash", "ls" * 40_000),
        ("bash", "ls\0"),
        ("{ read x; bash; } <<'E'\n'\nrm x\n'\nE", ""),
        ("(read x && bash) <<< 'rm x'", ""),
        ("while read x; do bash; done <<'E'\n'\nrm x\n'\nE", ""),
    ],
)
def test_code_from_the_channel_that_another_command_could_take_is_not_understood(command: str, code: str) -> None:
    assert not operation_of(command.encode(), stdin=code.encode()).complete
