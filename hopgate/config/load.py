"""hopgate.yaml to Config: every mistake in one run, each with file, line, column and key."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from hopgate.config.connections import ConnectionConfig
from hopgate.config.consistency import connection_findings, console_findings, issuer_findings, owner_findings, together_findings
from hopgate.config.model import ApprovalsConfig, Config, ConsoleConfig, IssuerConfig, ListenConfig, SshKeyConfig, TLSConfig
from hopgate.config.ssh import ssh_key_findings
from hopgate.config.yaml import Document, Location, Problem, read
from hopgate.errors import Misconfigured

MAX_FILE: Final = 1 << 20  # bytes


def load_config(path: Path) -> Config:
    """Read and check hopgate.yaml. Raises Misconfigured, whose `problems` are lines like `hopgate.yaml:12:7: connections[0].kindd: …`.

    Nothing beside the file itself is read; `Config.check` looks at rule files and references.
    """
    path = Path(path)
    document = read(_text(path), str(path))
    problems = list(document.problems)
    if not isinstance(document.data, dict):
        problems = problems or [Problem(str(path), (1, 1), "", "must be a mapping that starts with version: 1")]
    else:
        context = {"base": str(path.absolute().parent)}
        problems += _shape_problems(document, context)
        problems += _meaning_problems(document, context)
    if problems:
        problems.sort(key=lambda problem: problem.position)
        raise Misconfigured(str(problems[0]), tuple(dict.fromkeys(map(str, problems))))
    config = Config.model_validate(document.data, context=context)
    changes: dict[str, Any] = {"path": path.absolute()}
    if "state" not in document.data:
        changes["state"] = path.absolute().parent / "var"
    return config.model_copy(update=changes)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise Misconfigured(f"{path}: cannot be read: {(error.strerror or 'i/o error').lower()}") from None
    if len(raw) > MAX_FILE:
        raise Misconfigured(f"{path}: is larger than 1 MiB: not a configuration")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Misconfigured(f"{path}:{line}:1: is not UTF-8") from None


def _shape_problems(document: Document, context: Mapping[str, Any]) -> Iterator[Problem]:
    data = {key: value for key, value in document.data.items() if key != "path"}
    if "path" in document.data:
        yield document.problem(("path",), "unknown key")
    try:
        Config.model_validate(data, context=context)
    except ValidationError as error:
        for details in error.errors(include_url=False, include_input=False):
            yield _problem(details, document)


def _problem(details: ErrorDetails, document: Document) -> Problem:
    location = tuple(part for part in details["loc"] if part != "[key]")
    kind, context = details["type"], details.get("ctx", {})
    # in a mapping's value the value is wrong; an unknown or missing key is told where the key is or should be
    value = kind not in ("extra_forbidden", "missing")
    return document.problem(location, _sentence(kind, context, details["msg"], location), value=value)


def _sentence(kind: str, context: Mapping[str, Any], message: str, location: Location) -> str:
    match kind:
        case "extra_forbidden":
            return _unknown_key(location)
        case "missing":
            return "is required"
        case "value_error":
            return str(context["error"])
        case "literal_error":
            # the first thing that people try; say that it is not an oversight
            never = "; none and shared secrets (HS256 …) are never accepted" if "algorithms" in location else ""
            return f"must be one of {context['expected']}".replace("one of 1", "1") + never
        case "model_type" | "model_attributes_type" | "mapping_type" | "dict_type":
            return "must be a mapping"
        case "tuple_type" | "list_type":
            return "must be a list"
        case "bool_type" | "bool_parsing":
            return "must be true or false"
        case "too_short":
            return "must not be empty"
    return message[:1].lower() + message[1:]


def _unknown_key(location: Location) -> str:
    known = _keys_at(location[:-1])
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"expected one of {', '.join(known)}"
    return f"unknown key; {hint}"


def _keys_at(location: Location) -> list[str]:
    """The keys that the section at `location` may have."""
    section: type[BaseModel] = Config
    for part in location:
        if isinstance(part, str):
            section = _section_of(section.model_fields[part].annotation)
    return [name for name in section.model_fields if name != "path"]


def _section_of(annotation: Any) -> type[BaseModel]:
    """The model inside `tuple[Model, ...]`, `Model | None` or `Annotated[Model, …]`."""
    pending = [annotation]
    while pending:
        each = pending.pop(0)
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
        pending += [*getattr(each, "__args__", ()), *([each.__value__] if hasattr(each, "__value__") else [])]
    raise TypeError(f"no section in {annotation!r}")


def _meaning_problems(document: Document, context: Mapping[str, Any]) -> Iterator[Problem]:
    """What validation of each key alone does not see. Works on the parts that are valid, so that one mistake hides no other."""
    data = document.data
    identity = data.get("identity")
    issuers = _valid(identity.get("issuers") if isinstance(identity, dict) else None, IssuerConfig, context)
    ssh_keys = _valid(identity.get("ssh_keys") if isinstance(identity, dict) else None, SshKeyConfig, context)
    connections = _valid(data.get("connections"), ConnectionConfig, context)
    listen = _section(_valid_entries(data.get("listen"), ListenConfig, context), ListenConfig, context)
    tls = _section(data.get("tls"), TLSConfig, context)
    approvals = _section(data.get("approvals"), ApprovalsConfig, context)
    console = _section(data.get("console"), ConsoleConfig, context)
    findings = [
        *((("identity", "issuers", i, *where), message) for i, issuer in issuers for where, message in issuer_findings(issuer)),
        *((("connections", i, *where), message) for i, connection in connections for where, message in connection_findings(connection)),
        *ssh_key_findings(ssh_keys, [issuer for _, issuer in issuers], [connection for _, connection in connections]),
        *together_findings(issuers, connections, listen, tls),
        *owner_findings(approvals.owners if approvals is not None else {}, [issuer.name for _, issuer in issuers]),
        *(console_findings(console, [issuer for _, issuer in issuers]) if console is not None else ()),
    ]
    for location, message in findings:
        yield document.problem(location, message, value=location[-1] not in ("require", "audience", "host_key"))


def _valid[M: BaseModel](items: Any, model: type[M], context: Mapping[str, Any]) -> Sequence[tuple[int, M]]:
    found = [(index, _section(item, model, context)) for index, item in enumerate(items if isinstance(items, list) else ())]
    return [(index, item) for index, item in found if item is not None]


def _valid_entries(data: Any, model: type[BaseModel], context: Mapping[str, Any]) -> dict[str, Any]:
    entries = data.items() if isinstance(data, dict) else ()
    return {key: value for key, value in entries if _section({key: value}, model, context) is not None}


def _section[M: BaseModel](data: Any, model: type[M], context: Mapping[str, Any]) -> M | None:
    try:
        return TypeAdapter(model).validate_python(data, context=dict(context))
    except ValidationError:
        return None
