"""The documents are complete: every word that a user can write stands in them as code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel

from hopgate.cli.app import build
from hopgate.config import Config
from hopgate.config.connections import ConnectionConfig, CredentialConfig
from hopgate.config.model import IssuerConfig, ListenConfig
from rules import load, vocabulary

DOCS = Path(__file__).parent.parent / "docs"
README = Path(__file__).parent.parent / "README.md"


def words(name: str) -> set[str]:
    """Everything that stands between backquotes in the prose (examples in fences do not count), and the words of it."""
    text = re.sub(r"```.*?```", "", (DOCS / name).read_text(), flags=re.DOTALL)
    found = set(re.findall(r"`([^`]+)`", text))
    return found | {word for each in found for word in re.findall(r"[-\w]+", each)}


@pytest.fixture(scope="module")
def rules_doc() -> set[str]:
    return words("rules.md")


@pytest.fixture(scope="module")
def configuration_doc() -> set[str]:
    return words("configuration.md")


@pytest.mark.parametrize("keys", ["RULE_KEYS", "WHO_KEYS", "WHERE_KEYS", "HOLD_KEYS", "MASK_KEYS", "LIMIT_KEYS"])
def test_every_rule_key(rules_doc: set[str], keys: str) -> None:
    assert set(getattr(load, keys)) <= rules_doc


@pytest.mark.parametrize("kind", vocabulary.KINDS)
def test_every_fact_and_its_words(rules_doc: set[str], kind: Any) -> None:
    assert kind in rules_doc
    facts = vocabulary.FACTS[kind]
    assert set(facts) <= rules_doc
    for fact in facts.values():
        assert fact.words <= rules_doc, fact.name


@pytest.mark.parametrize(
    "name", ["DETECTORS", "STRATEGIES", "EFFECTS", "SQL_VERBS", "SQL_EFFECTS", "SSH_ACTIONS", "SSH_FACETS", "SFTP_OPS"]
)
def test_every_vocabulary(rules_doc: set[str], name: str) -> None:
    assert set(getattr(vocabulary, name)) <= rules_doc


def test_every_shipped_pack(rules_doc: set[str]) -> None:
    packs = Path(load.__file__).parent / "packs"
    assert {path.name for path in packs.glob("*.yaml")} <= rules_doc


def keys(model: type[BaseModel]) -> set[str]:
    """The keys of a section and of the sections in it."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        found.add(name)
        for each in _models(field.annotation):
            found |= keys(each)
    return found


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models(argument)


def test_every_configuration_key(configuration_doc: set[str]) -> None:
    wanted = keys(Config)
    # the walk found the nested ones too
    assert set(ConnectionConfig.model_fields) | set(CredentialConfig.model_fields) | set(IssuerConfig.model_fields) <= wanted
    assert set(ListenConfig.model_fields) | {"anchor", "http_wait", "retention", "cleartext"} <= wanted
    assert wanted <= configuration_doc


def commands() -> Iterator[tuple[str, set[str]]]:
    """Each command with its options, as typer builds them."""
    root: Any = typer.main.get_command(build())
    for name, command in root.commands.items():
        for sub, each in getattr(command, "commands", {}).items():
            yield f"hopgate {name} {sub}", _options(each)
        if not hasattr(command, "commands"):
            yield f"hopgate {name}", _options(command)


def _options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts if option.startswith("--")}


@pytest.mark.parametrize(("command", "options"), list(commands()), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_and_option(command: str, options: set[str]) -> None:
    found = words("command-line.md")
    assert command in found
    assert {option for option in options if option != "--help"} <= found


def test_examples_in_the_documents_load(tmp_path: Path) -> None:
    from hopgate.config import load_config
    from rules.load import load_rules

    (rules,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "rules.md").read_text(), flags=re.DOTALL)
    assert len(load_rules([("rules.md", rules)], issuers=("corp",)).rules) == 4
    (configuration,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "configuration.md").read_text(), flags=re.DOTALL)
    (tmp_path / "hopgate.yaml").write_text(configuration)
    assert [each.name for each in load_config(tmp_path / "hopgate.yaml").connections] == ["billing"]


def test_links_lead_somewhere() -> None:
    for path in (README, *DOCS.glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            if not target.startswith("http"):
                assert (path.parent / target).exists(), f"{path.name}: {target}"
