"""References to secrets inside configuration values: `${secret:NAME}`, `${env:NAME}`, `${file:PATH}`, `${vault:PATH#FIELD}`.

`$${` writes a literal `${`. Nothing is resolved here: a template names what it needs, and whoever holds a lease renders it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast, get_args

type Source = Literal["secret", "env", "file", "vault"]

SOURCES: Final[tuple[str, ...]] = get_args(Source.__value__)
_TOKEN: Final = re.compile(r"\$\$\{|\$\{([^{}]*)(\})?")
_NAMES: Final = {
    "secret": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"),
    "env": re.compile(r"[A-Za-z_][A-Za-z0-9_]*"),
    "file": re.compile(r"[^\0]+"),
    "vault": re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*#[A-Za-z0-9._-]+"),
}
_EXPECTED: Final = {
    "secret": "a name of letters, digits, dot, dash and underscore",
    "env": "the name of an environment variable",
    "file": "a path",
    "vault": "PATH#FIELD",
}


@dataclass(frozen=True, slots=True)
class Reference:
    """One secret by name. For `file`, `name` is an absolute path once the configuration is loaded; for `vault`, `field` is the key."""

    source: Source
    name: str
    field: str = ""

    def __str__(self) -> str:
        return f"${{{self.source}:{self.name}{'#' + self.field if self.field else ''}}}"


@dataclass(frozen=True, slots=True)
class Template:
    """A configuration value: literal text with references in between. Its repr shows the references and hides the text."""

    parts: tuple[str | Reference, ...]

    @property
    def references(self) -> tuple[Reference, ...]:
        return tuple(part for part in self.parts if isinstance(part, Reference))

    def render(self, values: Mapping[Reference, str]) -> str:
        """The text with every reference replaced. Raises KeyError for a reference without a value; never leaves one out."""
        return "".join(values[part] if isinstance(part, Reference) else part for part in self.parts)

    def __repr__(self) -> str:
        return f"Template({''.join(str(part) if isinstance(part, Reference) else '…' for part in self.parts)!r})"


def parse_template(text: str, base: Path | None = None) -> Template:
    """Split `text` at its references; relative `file` paths start at `base`. Raises ValueError whose text quotes nothing of `text`."""
    parts: list[str | Reference] = []
    end = 0
    for match in _TOKEN.finditer(text):
        literal = text[end : match.start()] + ("${" if match[0] == "$${" else "")
        parts += [literal] if literal else []
        end = match.end()
        if match[0] != "$${":
            parts.append(_reference(match[1], match[2] is not None, base))
    parts += [text[end:]] if text[end:] else []
    return Template(tuple(parts))


def _reference(inside: str, closed: bool, base: Path | None) -> Reference:
    source, separator, name = inside.partition(":")
    if not closed or not separator or source not in SOURCES:
        raise ValueError(
            f"has a ${{…}} that names no secret; expected {', '.join(f'${{{each}:…}}' for each in SOURCES)}, or $${{ for a literal ${{"
        )
    if not _NAMES[source].fullmatch(name):
        raise ValueError(f"has a ${{{source}:…}} without {_EXPECTED[source]}")
    field = ""
    if source == "vault":
        name, _, field = name.partition("#")
    elif source == "file" and base is not None:
        name = str(base / Path(name).expanduser())
    return Reference(cast("Source", source), name, field)
