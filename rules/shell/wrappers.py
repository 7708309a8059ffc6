"""One simple command -> what it runs: the command in a wrapper's words, the text given to a shell, code from standard input."""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final

from rules.shell.programs import (
    CHANGES_MEANING,
    CODE_FIRST,
    CODE_OPTIONS,
    CONTAINER_RUNS,
    CONTAINERS,
    HARMLESS_OPTIONS,
    MEANINGFUL,
    NAMES_ONLY,
    NETWORK,
    OPAQUE,
    READ_SHELLS,
    RESERVED,
    RUNNING_OPTIONS,
    SHELLS,
    WRAPPERS,
    Wrapper,
)
from rules.shell.transfers import transfer_of
from rules.shell.words import Misread, Word

type Words = Sequence[Word]

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MEANINGFUL: Final = re.compile(MEANINGFUL)
_VERSIONED: Final = re.compile(r"(python|pypy|perl|ruby|node|php|lua|tclsh|java)[0-9.]*")
_KEYWORDS: Final = frozenset({"time", "coproc"})
_SET: Final = re.compile(r"--|-[efux]+|-[efux]*o|\+[efux]+|errexit|pipefail|nounset|xtrace")
_FIND_RUNS: Final = frozenset({"-exec", "-execdir", "-ok", "-okdir"})
_FIND_VALUES: Final = frozenset(
    """-name -iname -path -ipath -wholename -iwholename -regex -iregex -lname -ilname -type -xtype -size -perm -user -group -uid -gid -mtime
    -mmin -ctime -cmin -atime -amin -newer -anewer -cnewer -newermt -samefile -inum -links -maxdepth -mindepth -fstype -printf""".split()
)
_FIND_GLOB: Final = re.compile(r"[A-Za-z0-9_.*?/-]+")
# options whose next word is theirs, whatever it is
_VALUES_OF: Final[Mapping[str, frozenset[str]]] = {
    "git": frozenset({"-m", "--message", "-C", "-n", "--author", "--since", "--until", "--grep"}),
    "tar": frozenset({"-f", "-C", "--file", "--directory", "-czf", "-cf", "-xf", "-xzf", "-tf", "-tzf", "-cJf", "-xJf", "-cjf", "-xjf"}),
    "curl": frozenset({"-o", "-d", "-H", "-u", "-X", "-A", "-b", "-F", "-T", "--data", "--header", "--output", "--user", "--url"}),
    "wget": frozenset({"-O", "-P", "--header"}),
    "sort": frozenset({"-k", "-t", "-o"}),
}
_ELSEWHERE: Final = re.compile(r"(?:-[A-Za-z]*f|--file=)?[^/=-][^/=]*:")
_DEVICE: Final = re.compile(r"/(?:dev|proc)/.*")
_CHANNEL: Final = frozenset({"/dev/stdin", "/dev/fd/0", "/proc/self/fd/0", "/proc/thread-self/fd/0"})
_INFORMS: Final = frozenset({"--version", "--help"})


@dataclass(frozen=True, slots=True)
class Runs:
    """What a simple command runs besides itself. `reason` says what is not known of it."""

    facets: frozenset[str] = frozenset()
    commands: tuple[tuple[Word, ...], ...] = ()  # found in its words
    text: str | None = None  # given to a shell to read
    shell: str = ""  # which one; "" = the same
    code_from_input: bool = False  # it runs what it reads from standard input
    reason: str = ""


_NOTHING: Final = Runs()


def basename(program: str) -> str:
    return program.rpartition("/")[2]


def meaningful(variable: str) -> bool:
    """Whether a variable may change which program a command runs, or what it does."""
    return _MEANINGFUL.fullmatch(variable) is not None


def runs(words: Words) -> Runs:
    """What the command of these words runs. Its first word has a value; never raises."""
    name = basename(words[0].value or "")
    try:
        found = _runs(name, words)
    except Misread as error:
        found = Runs(reason=f"`{name}`: {error}", facets=_own_facets(name))
    return replace(found, facets=found.facets | {"network"}) if name in NETWORK else found


def _own_facets(name: str) -> frozenset[str]:
    if name in WRAPPERS:
        return WRAPPERS[name].facets
    return frozenset({"interpreter"}) if name in SHELLS or _interpreter(name) else frozenset({"wrapper"})


def _interpreter(name: str) -> str:
    """The row of CODE_OPTIONS for `python3.13` and the like; nothing for what is no interpreter."""
    versioned = _VERSIONED.fullmatch(name)
    row = versioned[1] if versioned else name
    return row if row in CODE_OPTIONS else ""


def _runs(name: str, words: Words) -> Runs:
    if name in WRAPPERS:
        return _wrapped(name, WRAPPERS[name], words)
    if name in SHELLS:
        return _shell(name, words)
    row = _interpreter(name)
    if row:
        return _interpreted(row, words)
    if name in OPAQUE:
        return Runs(frozenset({"wrapper"}), reason=f"`{name}` may run commands that are not read")
    if name in CONTAINERS and any(word.value is None or word.value in CONTAINER_RUNS for word in words[1:]):
        return Runs(frozenset({"wrapper"}), reason=f"`{name}` may run commands that are not read")
    if name in RUNNING_OPTIONS:
        return _optioned(name, words)
    if name in ("sed", "gsed"):
        return _sed(words)
    if name == "find":
        return _find(words)
    if name in ("eval", "trap"):
        return _evaluated(name, words)
    if name in CHANGES_MEANING:
        return Runs(frozenset({"eval"}), reason=CHANGES_MEANING[name])
    return _builtin(name, words)


def _known(word: Word) -> str:
    if word.value is None:
        raise Misread("an expansion decides which command or option this is")
    return word.value


# --- wrappers


def _wrapped(name: str, wrapper: Wrapper, words: Words) -> Runs:
    if name == "command" and len(words) > 1 and words[1].value in ("-v", "-V"):
        return Runs(wrapper.facets)
    at = _after_options(wrapper, words)
    facets = wrapper.facets
    if name == "env" and at < len(words) and words[at].value == "-" and words[at - 1].value != "--":
        at += 1  # as -i
    if wrapper.assignments:
        while at < len(words) and (variable := _assigned(name, words[at])):
            if meaningful(variable):
                raise Misread(f"it sets {variable}")
            facets = facets | {"environment"}
            at += 1
    inner = tuple(words[at + wrapper.operands :])
    for word in words[at : at + wrapper.operands]:
        _known(word)
    if not inner:
        if name in ("sudo", "doas", "chroot"):
            raise Misread("it names no command")
        return Runs(facets)
    program = _known(inner[0])
    if name in _KEYWORDS and (program in RESERVED or program.startswith(("(", "{"))) and not inner[0].quoted:
        raise Misread("a compound command behind a keyword")
    if name == "coproc" and len(inner) > 1 and inner[1].raw in RESERVED:
        raise Misread("a compound command behind a keyword")
    if name == "xargs":
        marks = _marks(words[:at])
        if any(_replaced(marks, inner)):
            raise Misread("its input decides which command this is")
        inner = tuple(_read_by_xargs(marks, word) for word in inner) if marks else (*inner, Word("", None, frozenset({"expansion"})))
    return Runs(facets, (inner,))


def _assigned(wrapper: str, word: Word) -> str:
    """The variable that a word of env or sudo sets; nothing for the command. They go by what the word is, not by how it is quoted."""
    if not word.one:
        raise Misread("an expansion decides which command or option this is")
    if word.value is None:
        variable, equals, _ = word.start.partition("=")
        if not equals and not word.start.startswith("/"):
            raise Misread("an expansion decides which command or option this is")
    else:
        variable, equals, _ = word.value.partition("=")
    return variable if equals and not (wrapper == "sudo" and variable.startswith("/")) else ""


def _marks(options: Words) -> list[str]:
    """What xargs -I replaces."""
    marks = [word.value[2:] for word in options if word.value and word.value.startswith("-I") and len(word.value) > 2]
    return marks + [after.value or "" for word, after in itertools.pairwise(options) if word.value == "-I"]


def _read_by_xargs(marks: list[str], word: Word) -> Word:
    """A word of a command of xargs, in which what is read may stand."""
    at = min((found for mark in marks if (found := (word.value or "").find(mark)) >= 0), default=-1)
    if word.value is None or at < 0:
        return word
    return Word(word.raw, None, word.facets | {"expansion"}, word.quoted, word.value[:at], single=True)


def _replaced(marks: list[str], inner: Words) -> list[bool]:
    """Whether xargs -I puts what it reads in the place of the command, or in what a shell or another wrapper reads."""
    name = basename(inner[0].value or "")
    runs_words = name in SHELLS or name in WRAPPERS or bool(_interpreter(name)) or name in ("eval", "find")
    # without -I what is read goes to the end, where a shell or a wrapper without a command would take it for one
    if not marks:
        return [runs_words and not _settled(name, inner)]
    return [mark in (word.value or mark) for mark in marks for word in (inner if runs_words else inner[:1])]


def _settled(name: str, inner: Words) -> bool:
    """Whether words added at the end of `sh -c TEXT …` are only its parameters."""
    return name in SHELLS and len(inner) >= 3 and inner[1].value == "-c" and inner[2].value is not None


def _after_options(wrapper: Wrapper, words: Words) -> int:
    """The index of the first operand. Raises Misread at an option that the table does not know."""
    at = 1
    while at < len(words):
        if words[at].value is None and words[at].one and not words[at].may_be_option:
            break
        option = _known(words[at])
        if option == "--":
            return at + 1
        if not option.startswith("-") or option == "-":
            break
        at += 1
        if option.startswith("--"):
            name, equals, _ = option.partition("=")
            if equals and name in wrapper.long_values:
                continue
            if equals or name not in wrapper.long_flags:
                if name not in wrapper.long_values:
                    raise Misread(f"its option {name} is not read")
                at += 1
        else:
            at += _takes_next(wrapper, option)
        if at <= len(words) and not words[at - 1].one:
            raise Misread("an expansion decides which command or option this is")
    return at


def _takes_next(wrapper: Wrapper, option: str) -> int:
    """Whether a cluster of short options takes the next word too."""
    for index, letter in enumerate(option[1:], 2):
        if letter in wrapper.values:
            return 1 if index == len(option) else 0
        if letter not in wrapper.flags:
            raise Misread(f"its option -{letter} is not read")
    return 0


def _find(words: Words) -> Runs:
    """`find -exec command … ;` or `+`. An expansion may be any of them."""
    commands = []
    at = 1
    while at < len(words):
        value = words[at].value
        at += 1
        if value not in _FIND_RUNS:
            continue
        start = at
        while at < len(words) and words[at].value != ";" and not (words[at].value == "+" and words[at - 1].value == "{}"):
            at += 1
        if at == len(words) or at == start:
            raise Misread("the end of its -exec was not found")
        command = tuple(words[start:at])
        if "{}" in _known(command[0]):
            raise Misread("its files decide which command this is")
        commands.append(tuple(_found_file(word) for word in command))
    reason = ""
    if any(_may_run(words, index) for index in range(1, len(words))):
        reason = "`find`: an expansion decides what it does with what it finds"
    if reason and not commands:
        raise Misread(reason.partition(": ")[2])
    if commands and any((word.value or "").startswith("-files0-from") for word in words):
        reason = "`find`: its files may be options of the command"
    return Runs(frozenset({"wrapper"}) if commands else frozenset(), tuple(commands), reason=reason)


def _may_run(words: Words, index: int) -> bool:
    """Whether a word that is not known may become an -exec, with what stands behind it."""
    word = words[index]
    if word.value is not None or not word.may_be_option or (word.one and words[index - 1].value in _FIND_VALUES):
        return False
    if _FIND_GLOB.fullmatch(word.raw):
        return any(fnmatchcase(option, word.raw) for option in _FIND_RUNS)
    ends = any(after.value in (";", "+") or (after.value is None and not after.start) for after in words[index + 1 :])
    return ends or not word.one


def _found_file(word: Word) -> Word:
    """`{}` in a command of find stands for what is found."""
    if word.value is None or "{}" not in word.value:
        return word
    start = word.value.partition("{}")[0] or "/"  # what find names never begins with -
    return Word(word.raw, None, word.facets | {"expansion"}, word.quoted, start)


def _optioned(name: str, words: Words) -> Runs:
    """A program that runs another one when an option says so. Long options may be abbreviated, short ones stand in clusters."""
    running = RUNNING_OPTIONS[name]
    if name == "rsync" and len(words) > 1 and words[1].value == "--server":
        # here -e tells what the client can do; its other options may read configurations and start daemons
        known = [word.value for word in words if word.value is not None]
        return _NOTHING if len(known) == len(words) and transfer_of(known) else Runs(reason="`rsync --server`: its words are not read")
    for index, word in enumerate(words[1:], 1):
        text = word.value
        if text == "--" and name != "ip":
            break
        if text is None:
            if word.may_be_option and not (word.one and words[index - 1].value in _VALUES_OF.get(name, ())):
                raise Misread("an expansion decides which options it has")
            text = word.start
        if name == "tar":
            text = _tar(index, text)
        given = text.partition("=")[0]
        for option in running:
            if option.startswith("--"):
                met = len(given) > 2 and option.startswith(given)
            else:
                met = text == option or (len(option) == 2 and not text.startswith("--") and text[:1] == "-" and option[1] in text)
            if met:
                return Runs(frozenset({"wrapper"}), reason=f"`{name}` may run commands by its option {option}")
    return _NOTHING


def _tar(index: int, text: str) -> str:
    """The first word of tar holds options, with a dash or without; an archive with a host's name before it is fetched by rsh or ssh."""
    if _ELSEWHERE.match(text):
        raise Misread("an archive on another host")
    return f"-{text}" if index == 1 and not text.startswith("-") else text


_SED: Final = re.compile(r"(?:[0-9]+|\$)?(?:,(?:[0-9]+|\$))?[pdq=]|s([/|,#@])(?:(?!\1)[^\\\n]|\\.)*\1(?:(?!\1)[^\\\n]|\\.)*\1[gpI0-9]*")


def _sed(words: Words) -> Runs:
    """GNU sed runs commands by `e` and writes files by `w`: scripts but the plainest are code."""
    for index, word in enumerate(words[1:], 1):
        if word.value is None or not word.value.startswith("-"):
            # options may stand behind the script and its files as well
            plain = word.value is not None and _SED.fullmatch(word.value) and not any(after.may_be_option for after in words[index + 1 :])
            return _NOTHING if plain else Runs(frozenset({"interpreter", "eval"}))
        if word.value not in ("-n", "-E", "-r", "-u", "-s", "--quiet", "--silent", "-e"):
            break
    return Runs(frozenset({"interpreter", "eval"}))


# --- shells and interpreters


def _shell(name: str, words: Words) -> Runs:
    """bash(1), INVOCATION; the text of -c is the first word that is no option, wherever the `c` was, and `+c` is -c too."""
    facets = frozenset({"interpreter"})
    reads = READ_SHELLS.get(name)
    code = stdin = False
    at = 1
    while at < len(words):
        option = _known(words[at])
        if option in _INFORMS and not code:
            return Runs(facets)
        if option in ("--", "-"):
            at += 1
            break
        if option[:1] not in ("-", "+"):
            break
        at += 1
        if option in ("--norc", "--noprofile", "--posix", "--login"):
            continue
        letters = option[1:]
        if not set(letters) <= set("ceuxlvnfso") or ("o" in letters and not letters.endswith("o")):
            raise Misread(f"its option {option} is not read")
        code, stdin = code or "c" in letters, stdin or "s" in letters
        if letters.endswith("o"):
            if at < len(words):
                _known(words[at])
            at += 1  # the name of a shell option
    if code:
        if stdin or at >= len(words):
            raise Misread("its -c is not read")
        text = _known(words[at])
        if reads is None:
            return Runs(facets | {"eval"}, reason=f"the language of `{name}` is not read")
        return Runs(facets | {"wrapper"}, text=text, shell=reads)
    if stdin or at >= len(words) or _code_from_input(_known(words[at])):
        return Runs(facets | {"stdin"}, code_from_input=True, shell=reads or "?")
    return Runs(facets)


def _code_from_input(script: str) -> bool:
    """Whether a script is what comes on standard input. Raises Misread for other files that are none."""
    path = posixpath.normpath(script).replace("//", "/")
    if path in _CHANNEL:
        return True
    if _DEVICE.fullmatch(path):
        raise Misread("its script is no file")
    return False


def _interpreted(row: str, words: Words) -> Runs:
    facets = frozenset({"interpreter"})
    codes = CODE_OPTIONS[row]
    for word in words[1:]:
        option = _known(word)
        if option in _INFORMS:
            return Runs(facets)
        if option == "-":
            break
        if not option.startswith("-"):
            if row not in CODE_FIRST and _code_from_input(option):
                break
            return Runs(facets | {"eval"} if row in CODE_FIRST else facets)
        if row == "python" and option in ("-V", "-VV"):
            return Runs(facets)
        if row == "python" and option.startswith("-m"):
            return Runs(facets)
        if codes and re.match(f"-[{HARMLESS_OPTIONS}]*[{codes}]|--eval|--print|--run", option):
            return Runs(facets | {"eval"})
        if row in CODE_FIRST and re.match(r"-[fF]|-v", option):
            return Runs(facets | {"eval"})
        if not set(option[1:]) <= set(HARMLESS_OPTIONS):
            raise Misread(f"its option {option[:40]} is not read")
    return Runs(facets | {"stdin"}, code_from_input=True)


# --- builtins


def _evaluated(name: str, words: Words) -> Runs:
    facets = frozenset({"eval"})
    if name == "eval":
        texts = [_known(word) for word in words[1:]]
        if texts[:1] == ["--"]:
            texts = texts[1:]
        return Runs(facets, text=" ".join(texts))
    given = [_known(word) for word in words[1:]]
    if given[:1] == ["--"]:
        given = given[1:]
    if len(given) < 2 or given[0] in ("", "-"):
        return Runs(facets)
    if given[0].startswith("-"):
        return Runs(facets, reason="" if given[0] in ("-l", "-p") else "`trap`: its options are not read")
    return Runs(facets, text=given[0])


def _builtin(name: str, words: Words) -> Runs:
    if name in NAMES_ONLY:
        return _names(name, words)
    if name == "printf" and len(words) > 1 and (words[1].value is None or words[1].value.startswith("-v")):
        return Runs(frozenset({"eval"}), reason="`printf` may set a variable that is not known")
    if name == "set" and any(not _SET.fullmatch(word.value or "") for word in words[1:]):
        return Runs(frozenset({"environment"}), reason="`set`: its words are not read")
    if name in ("test", "["):
        return _test(words)
    return _NOTHING


def _test(words: Words) -> Runs:
    """-v and -R evaluate the subscript of a name, and an expansion may be one of them: `[ "$x" 'a[$(command)]' ]`."""
    for index, word in enumerate(words[1:], 1):
        if word.value in ("-v", "-R") or not word.one:
            return Runs(reason="`test`: an expansion or -v may evaluate a subscript")
        after = words[index + 1] if index + 1 < len(words) else None
        if word.value is None and word.may_be_option and after is not None and (after.value is None or "[" in after.value):
            return Runs(reason="`test`: an expansion may evaluate a subscript")
    return _NOTHING


def _names(name: str, words: Words) -> Runs:
    facets = frozenset({"environment"})
    for word in words[1:]:
        assigned = word.assigned
        if assigned and name not in ("read", "unset", "wait"):
            if meaningful(assigned):
                return Runs(facets, reason=f"it sets {assigned}")
            if not word.one:  # `command export`, and `export` of some shells, take what is behind a blank for another variable
                return Runs(facets, reason=f"`{name}`: an expansion outside of quotes decides what it sets")
            continue
        text = word.value
        if text is None:
            return Runs(facets | {"eval"}, reason=f"`{name}`: an expansion decides what it sets")
        if re.fullmatch(r"-[rsxgp]+|[0-9]+|%[0-9]*", text) and not (name in ("read", "wait") and "p" in text):
            continue
        if not _IDENTIFIER.fullmatch(text):
            return Runs(facets | {"eval"}, reason=f"`{name}`: its words are not read")
        if meaningful(text) and name != "wait" and not (name == "export" and "=" not in text):
            return Runs(facets, reason=f"it sets {text}")
    return Runs(facets)
