"""What `hopgate check` looks at beyond hopgate.yaml itself: rule files, files and variables that it refers to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hopgate.config.model import Config
from hopgate.errors import Misconfigured
from hopgate.references import Reference, Template


def check(config: Config, *, rules: bool = True) -> None:
    """Raises Misconfigured with every problem. No secret is read, nothing is fetched."""
    problems = [*_reference_problems(config), *_file_problems(config)]
    if rules:
        from hopgate.rulefiles import load_rule_set  # compiling rules takes longer than all the rest

        try:
            load_rule_set(config)
        except Misconfigured as error:
            problems += error.problems
    if problems:
        raise Misconfigured(problems[0], tuple(dict.fromkeys(problems)))


def templates(config: Config) -> Iterator[tuple[str, Template]]:
    """Every value that may hold references, with its key."""
    for index, connection in enumerate(config.connections):
        for where, template in connection.credential.templates if connection.credential is not None else ():
            yield f"connections[{index}].credential.{'.'.join(where)}", template
    for index, template in enumerate(config.approvals.notify):
        yield f"approvals.notify[{index}]", template
    for index, hook in enumerate(config.approvals.webhooks):
        yield f"approvals.webhooks[{index}].url", hook.url
        yield f"approvals.webhooks[{index}].secret", hook.secret
    if config.console.oidc is not None and config.console.oidc.client_secret is not None:
        yield "console.oidc.client_secret", config.console.oidc.client_secret
    if config.ledger.anchor is not None:
        yield "ledger.anchor", config.ledger.anchor
    if config.store is not None:
        yield "store", config.store


def _reference_problems(config: Config) -> Iterator[str]:
    for key, template in templates(config):
        for reference in template.references:
            if problem := _circular(key, reference) or _missing(reference):
                yield f"{config.path}: {key}: {reference} {problem}"


def _circular(key: str, reference: Reference) -> str:
    return "lies in the store itself: use ${env:…}, ${file:…} or ${vault:…}" if key == "store" and reference.source == "secret" else ""


def _missing(reference: Reference) -> str:
    if reference.source == "env" and not os.environ.get(reference.name):
        return "is not set in the environment"
    if reference.source == "file":
        return _unreadable(Path(reference.name))
    return ""


def _file_problems(config: Config) -> Iterator[str]:
    wanted = [(f"connections[{i}].ca", connection.ca) for i, connection in enumerate(config.connections)]
    if config.tls is not None:
        wanted += [("tls.cert", config.tls.cert), ("tls.key", config.tls.key)]
    for i, issuer in enumerate(config.identity.issuers):
        if issuer.jwks.startswith("file:"):
            wanted.append((f"identity.issuers[{i}].jwks", config.directory / issuer.jwks.removeprefix("file:")))
    for key, path in wanted:
        if path is not None and (problem := _unreadable(path)):
            yield f"{config.path}: {key}: {path} {problem}"


def _unreadable(path: Path) -> str:
    if not path.is_file():
        return "does not exist" if not path.exists() else "is not a file"
    return "" if os.access(path, os.R_OK) else "cannot be read by this user"
