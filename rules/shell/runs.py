"""What a simple command runs besides itself, as the tables of programs find it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rules.shell.words import Misread, Word

type Words = Sequence[Word]


@dataclass(frozen=True, slots=True)
class Runs:
    """What a simple command runs besides itself. `reason` says what is not known of it."""

    facets: frozenset[str] = frozenset()
    commands: tuple[tuple[Word, ...], ...] = ()  # found in its words
    text: str | None = None  # given to a shell to read
    shell: str = ""  # which one; "" = the same
    code_from_input: bool = False  # it runs what it reads from standard input
    reason: str = ""


NOTHING: Final = Runs()


def known(word: Word) -> str:
    if word.value is None:
        raise Misread("an expansion decides which command or option this is")
    return word.value
