"""Contracts that import-linter cannot state, read from the sources themselves."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("rules", "hopgate", "addons", "relays", "playground")
MAX_FILE = 400
MAX_FUNCTION = 60
BANNED_WORDS = ("manager", "handler", "engine", "utils", "util", "helper", "helpers", "processor")
# names that a library's own interface prescribes
PRESCRIBED = {"ProxyHandler", "BaseHTTPRequestHandler"}


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


SOURCES = sources()


@cache  # several tests look at each
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(path)))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def modules(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports anywhere, functions included."""
    package = name(path).removesuffix(".py").replace("/", ".")
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: -node.level]) + "." if node.level else ""
            yield base + (node.module or ""), node.lineno


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 50
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(PACKAGES)


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_and_functions_stay_small(path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= MAX_FILE, f"{name(path)} has {lines} lines: split it by concern"
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= MAX_FUNCTION, f"{name(path)}:{node.lineno}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_every_module_and_class_says_what_it_is(path: Path) -> None:
    module = tree(path)
    assert ast.get_docstring(module) or not module.body, f"{name(path)}: no docstring"
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name(path)}:{node.lineno}: class {node.name} has no docstring"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_names_say_something(path: Path) -> None:
    for part in path.relative_to(ROOT).with_suffix("").parts:
        assert part.lower().strip("_") not in BANNED_WORDS, name(path)
    for node in nodes(path):
        if isinstance(node, ast.ClassDef) and node.name not in PRESCRIBED:
            for word in BANNED_WORDS:
                assert not node.name.lower().endswith(word), f"{name(path)}:{node.lineno}: {node.name}"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_tasks_keep_a_reference(path: Path) -> None:
    if name(path) == "hopgate/tasks.py":
        return
    for node in nodes(path):
        if isinstance(node, ast.Attribute) and node.attr in ("create_task", "ensure_future"):
            # a TaskGroup keeps its tasks
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            assert owner in ("group", "tasks"), f"{name(path)}:{node.lineno}: use hopgate.tasks.spawn"


def test_codecs_need_only_the_standard_library() -> None:
    relays = [path for path in SOURCES if path.is_relative_to(ROOT / "relays")]
    codecs = [path for path in relays if path.name in ("codec.py", "wire.py") or path.parent.name == "codec"]
    assert len(codecs) > 3
    for path in codecs:
        own = name(path.parent).replace("/", ".") if path.parent.name == "codec" else "relays.wire"
        for module, line in modules(path):
            allowed = module.split(".")[0] in sys.stdlib_module_names or module.startswith(("relays.wire", own))
            assert allowed, f"{name(path)}:{line}: {module}"


def test_only_the_store_imports_the_database_driver() -> None:
    for path in SOURCES:
        if name(path).startswith("hopgate/store/"):
            continue
        for module, line in modules(path):
            assert module.split(".")[0] not in ("sqlalchemy", "sqlite3", "aiosqlite"), f"{name(path)}:{line}: {module}"


def test_only_addons_and_the_flow_format_import_mitmproxy() -> None:
    allowed = ("addons/", "playground/")
    for path in SOURCES:
        if name(path).startswith(allowed) or name(path) in ("hopgate/recordings.py", "hopgate/flow_format.py"):
            continue
        for module, line in modules(path):
            assert module.split(".")[0] != "mitmproxy", f"{name(path)}:{line}: {module}"


def test_only_sessions_decide_and_grant() -> None:
    deciding, granting = set(), set()
    for path in SOURCES:
        if name(path).startswith("rules/"):
            continue
        for node in nodes(path):
            if isinstance(node, ast.ImportFrom) and node.module == "rules.decide":
                deciding.add(name(path))
            elif isinstance(node, ast.ImportFrom) and node.module == "hopgate.grants":
                granting |= {name(path)} if any(alias.name == "grant_session" for alias in node.names) else set()
    assert deciding
    assert granting
    for caller in deciding | granting:
        assert caller.startswith(("hopgate/sessions.py", "hopgate/sessions/")), caller


def test_rules_are_pure() -> None:
    forbidden = {"asyncio", "socket", "time", "random", "logging", "secrets", "subprocess", "threading", "os"}
    for path in (path for path in SOURCES if path.is_relative_to(ROOT / "rules")):
        for module, line in modules(path):
            assert module.split(".")[0] not in forbidden, f"{name(path)}:{line}: {module}"


def test_no_generic_name_hides_a_library() -> None:
    """mitmproxy puts the directory of its script first on the path."""
    for path in (ROOT / "addons").glob("*.py"):
        assert path.stem not in sys.stdlib_module_names, name(path)


def test_what_is_shipped_is_packaged() -> None:
    from importlib.resources import files

    for package, folder in (("rules", "packs"), ("rules", "examples"), ("playground", "demo")):
        found = [each.name for each in files(package).joinpath(folder).iterdir() if each.name.endswith(".yaml")]
        assert found
        assert f"{folder}/*.yaml" in (ROOT / "setup.cfg").read_text()


def test_generic_names_come_from_this_checkout() -> None:
    for package in PACKAGES:
        module = __import__(package)
        assert Path(str(module.__file__)).is_relative_to(ROOT), package


def test_scripts_can_be_run_and_parse() -> None:
    import subprocess

    scripts = [*(path for path in (ROOT / "scripts").iterdir() if path.is_file()), ROOT / ".ci" / "run"]
    assert {path.name for path in scripts} >= {"demo", "up", "test", "check", "bench", "run"}
    for path in scripts:
        assert path.stat().st_mode & 0o111, path.name
        if "bash" in path.read_text().partition("\n")[0]:
            assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0, path.name
