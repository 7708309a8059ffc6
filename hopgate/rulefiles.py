"""Rule files on disk: which there are, and reading them again when they change. A broken file leaves the old rules in force."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from hopgate.config import Config
from hopgate.errors import Misconfigured
from rules.load import RuleErrors, RuleSet, load_rules

MAX_FILE: Final = 4 << 20  # bytes of one rule file
SETTLED: Final = 0.2  # seconds for which changed files must hold still
SUFFIXES: Final = (".yaml", ".yml")

type Stamp = tuple[tuple[str, int, int, int, int], ...]  # path, mtime and ctime in ns, size, inode of each file


def rule_paths(config: Config) -> tuple[Path, ...]:
    """Every rule file in force, directories replaced by their *.yaml in order of name.

    `rules/packs/…` and `rules/examples/…` mean the shipped ones where nothing of that name is beside the configuration.
    Raises Misconfigured with one problem for each path that leads nowhere.
    """
    found: list[Path] = []
    problems: list[str] = []
    for index, written in enumerate(config.rules):
        path = written if written.exists() else _shipped(config, written) or written
        if path.is_dir():
            inside = sorted(each for each in path.iterdir() if each.suffix in SUFFIXES and each.is_file())
            found += inside
            problems += [] if inside else [f"{config.path}: rules[{index}]: {path} holds no *.yaml"]
        elif path.is_file():
            found.append(path)
        else:
            problems.append(f"{config.path}: rules[{index}]: {path} does not exist")
    if problems:
        raise Misconfigured(problems[0], tuple(problems))
    return tuple(dict.fromkeys(found))


def _shipped(config: Config, path: Path) -> Path | None:
    try:
        relative = path.relative_to(config.directory)
    except ValueError:
        return None
    if relative.parts[:2] not in (("rules", "packs"), ("rules", "examples")):
        return None
    shipped = Path(str(files("rules"))).joinpath(*relative.parts[1:])
    return shipped if shipped.exists() else None


def read_rules(paths: Sequence[Path]) -> list[tuple[str, str]]:
    """(name for messages, text) of each file. Raises Misconfigured."""
    return list(_texts(paths))


def _texts(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    for path in paths:
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_FILE + 1)
            if len(raw) > MAX_FILE:
                raise Misconfigured(f"{path}: is larger than 4 MiB: not a rule file")
            yield str(path), raw.decode("utf-8-sig")
        except OSError as error:
            raise Misconfigured(f"{path}: cannot be read: {(error.strerror or 'i/o error').lower()}") from None
        except UnicodeDecodeError:
            raise Misconfigured(f"{path}: is not UTF-8") from None


def load_rule_set(config: Config) -> RuleSet:
    """Read and compile every rule file. Raises Misconfigured with all problems, one line each."""
    return _compile(config, read_rules(rule_paths(config)))


def _compile(config: Config, sources: Sequence[tuple[str, str]]) -> RuleSet:
    try:
        return load_rules(
            sources,
            reviewers=config.approvals.reviewers,
            issuers=tuple(issuer.name for issuer in config.identity.issuers),
        )
    except RuleErrors as error:
        problems = tuple(str(problem) for problem in error.problems)
        raise Misconfigured(problems[0], problems) from None


def _try(config: Config) -> tuple[RuleSet | None, Misconfigured | None]:
    try:
        return load_rule_set(config), None
    except Misconfigured as error:
        return None, error


class RuleFiles:
    """The rules in force. `refresh` replaces `current` as a whole or not at all; `error` says why the files on disk are not in force."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stamp = _stamp(config)
        self.current = load_rule_set(config)
        self.error: Misconfigured | None = None

    async def refresh(self) -> bool:
        """Read the files again if one was changed, added or removed. True when new rules are in force. Never raises for a bad file."""
        stamp = await asyncio.to_thread(_stamp, self._config)
        if stamp == self._stamp:
            return False
        # A file that is being written may well load, without the denials at its end: it must hold still, before and after it is read.
        await asyncio.sleep(SETTLED)
        rules, error = await asyncio.to_thread(_try, self._config)
        if await asyncio.to_thread(_stamp, self._config) != stamp:
            return False
        self._stamp, self.error = stamp, error
        if rules is None:
            return False
        changed = rules.version != self.current.version
        self.current = rules
        return changed


def _stamp(config: Config) -> Stamp:
    """What tells one state of the files from another; paths that lead nowhere count too."""
    try:
        paths = rule_paths(config)
    except (Misconfigured, OSError):
        paths = config.rules
    return tuple(_identity(path) for path in paths)


def _identity(path: Path) -> tuple[str, int, int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return (str(path), 0, 0, 0, 0)
    # the time of change as well: that of modification can be set, and copies keep it
    return (str(path), status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
