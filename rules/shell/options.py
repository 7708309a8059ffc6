"""Programs that run others where an option or an expression of theirs says so: find, sed, git, tar and their like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final

from rules.shell.programs import RUNNING_OPTIONS, words_in
from rules.shell.runs import NOTHING, Runs, Words, known
from rules.shell.transfers import transfer_of
from rules.shell.words import Misread, Word

_FIND_RUNS: Final = frozenset({"-exec", "-execdir", "-ok", "-okdir"})
_FIND_VALUES: Final = words_in(
    """-name -iname -path -ipath -wholename -iwholename -regex -iregex -lname -ilname -type -xtype -size -perm -user -group -uid -gid -mtime
    -mmin -ctime -cmin -atime -amin -newer -anewer -cnewer -newermt -samefile -inum -links -maxdepth -mindepth -fstype -printf"""
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


def runs_of_find(words: Words) -> Runs:
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
        if "{}" in known(command[0]):
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


def runs_of_options(name: str, words: Words) -> Runs:
    """A program that runs another one when an option says so. Long options may be abbreviated, short ones stand in clusters."""
    running = RUNNING_OPTIONS[name]
    if name == "rsync" and len(words) > 1 and words[1].value == "--server":
        # here -e tells what the client can do; its other options may read configurations and start daemons
        known = [word.value for word in words if word.value is not None]
        return NOTHING if len(known) == len(words) and transfer_of(known) else Runs(reason="`rsync --server`: its words are not read")
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
    return NOTHING


def _tar(index: int, text: str) -> str:
    """The first word of tar holds options, with a dash or without; an archive with a host's name before it is fetched by rsh or ssh."""
    if _ELSEWHERE.match(text):
        raise Misread("an archive on another host")
    return f"-{text}" if index == 1 and not text.startswith("-") else text


_SED: Final = re.compile(r"(?:[0-9]+|\$)?(?:,(?:[0-9]+|\$))?[pdq=]|s([/|,#@])(?:(?!\1)[^\\\n]|\\.)*\1(?:(?!\1)[^\\\n]|\\.)*\1[gpI0-9]*")


def runs_of_sed(words: Words) -> Runs:
    """GNU sed runs commands by `e` and writes files by `w`: scripts but the plainest are code."""
    for index, word in enumerate(words[1:], 1):
        if word.value is None or not word.value.startswith("-"):
            # options may stand behind the script and its files as well
            plain = word.value is not None and _SED.fullmatch(word.value) and not any(after.may_be_option for after in words[index + 1 :])
            return NOTHING if plain else Runs(frozenset({"interpreter", "eval"}))
        if word.value not in ("-n", "-E", "-r", "-u", "-s", "--quiet", "--silent", "-e"):
            break
    return Runs(frozenset({"interpreter", "eval"}))
