"""One simple command -> what it runs: the command in a wrapper's words, the text given to a shell, code from standard input."""

from __future__ import annotations

import itertools
import posixpath
import re
from dataclasses import replace
from typing import Final

from rules.shell.options import runs_of_find, runs_of_options, runs_of_sed
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
from rules.shell.runs import NOTHING, Runs, Words, known
from rules.shell.words import Misread, Word

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MEANINGFUL: Final = re.compile(MEANINGFUL)
_VERSIONED: Final = re.compile(r"(python|pypy|perl|ruby|node|php|lua|tclsh|java)[0-9.]*")
_KEYWORDS: Final = frozenset({"time", "coproc"})
_SET: Final = re.compile(r"--|-[efux]+|-[efux]*o|\+[efux]+|errexit|pipefail|nounset|xtrace")
# awk's, whose program is what comes on standard input
_PROGRAM_FROM_INPUT: Final = re.compile(
    r"(?:-[fE]|--file|--exec) (?:-|/dev/stdin|/dev/fd/0|/proc/self/fd/0)|(?:-f|-E|--file=|--exec=)(?:-|/dev/.*) .*"
)
_DEVICE: Final = re.compile(r"/(?:dev|proc)/.*")
_CHANNEL: Final = frozenset({"/dev/stdin", "/dev/fd/0", "/proc/self/fd/0", "/proc/thread-self/fd/0"})
_INFORMS: Final = frozenset({"--version", "--help"})


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
        return runs_of_options(name, words)
    if name in ("sed", "gsed"):
        return runs_of_sed(words)
    if name == "find":
        return runs_of_find(words)
    if name in ("eval", "trap"):
        return _evaluated(name, words)
    if name in CHANGES_MEANING:
        return Runs(frozenset({"eval"}), reason=CHANGES_MEANING[name])
    return _builtin(name, words)


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
        known(word)
    if not inner:
        if name in ("sudo", "doas", "chroot"):
            raise Misread("it names no command")
        return Runs(facets)
    program = known(inner[0])
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
        option = known(words[at])
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


# --- shells and interpreters


def _shell(name: str, words: Words) -> Runs:
    """bash(1), INVOCATION; the text of -c is the first word that is no option, wherever the `c` was, and `+c` is -c too."""
    facets = frozenset({"interpreter"})
    reads = READ_SHELLS.get(name)
    code = stdin = False
    at = 1
    while at < len(words):
        option = known(words[at])
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
                known(words[at])
            at += 1  # the name of a shell option
    if code:
        if stdin or at >= len(words):
            raise Misread("its -c is not read")
        text = known(words[at])
        if reads is None:
            return Runs(facets | {"eval"}, reason=f"the language of `{name}` is not read")
        return Runs(facets | {"wrapper"}, text=text, shell=reads)
    if stdin or at >= len(words) or _code_from_input(known(words[at])):
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
        option = known(word)
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
        if row in CODE_FIRST and re.match(r"-[fFvE]|--file|--exec", option):
            facets |= {"eval"}
            if any(_PROGRAM_FROM_INPUT.fullmatch(f"{one.value} {two.value}") for one, two in itertools.pairwise((*words, words[0]))):
                break
            return Runs(facets)
        if not set(option[1:]) <= set(HARMLESS_OPTIONS):
            raise Misread(f"its option {option[:40]} is not read")
    return Runs(facets | {"stdin"}, code_from_input=True)


# --- builtins


def _evaluated(name: str, words: Words) -> Runs:
    facets = frozenset({"eval"})
    if name == "eval":
        texts = [known(word) for word in words[1:]]
        if texts[:1] == ["--"]:
            texts = texts[1:]
        return Runs(facets, text=" ".join(texts))
    given = [known(word) for word in words[1:]]
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
    return NOTHING


def _test(words: Words) -> Runs:
    """-v and -R evaluate the subscript of a name, and an expansion may be one of them: `[ "$x" 'a[$(command)]' ]`."""
    for index, word in enumerate(words[1:], 1):
        if word.value in ("-v", "-R") or not word.one:
            return Runs(reason="`test`: an expansion or -v may evaluate a subscript")
        after = words[index + 1] if index + 1 < len(words) else None
        if word.value is None and word.may_be_option and after is not None and (after.value is None or "[" in after.value):
            return Runs(reason="`test`: an expansion may evaluate a subscript")
    return NOTHING


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
