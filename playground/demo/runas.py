"""Which user the agent's code can run as. Under the gateway's own user it could read the gateway's keys, so another one is looked for."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

# what the generated code imports, and what that imports
_PACKAGES: Final = ("requests", "urllib3", "idna", "certifi", "charset_normalizer", "httpx", "httpcore", "h11", "anyio", "sniffio")
_NEEDS: Final = "import urllib.request, requests, httpx"
_OTHERS: Final = ("/usr/bin/python3", "/usr/local/bin/python3")


@dataclass(frozen=True, slots=True)
class Executor:
    """How the generated code is run: `program` in place of Python ("" = Python itself), by `user`; `separate` = not the gateway's."""

    program: str
    user: str
    separate: bool
    environment: dict[str, str]


def choose(directory: Path) -> Executor:
    """Another user's Python where this process may change users and one is found that can run the code; else this user's own."""
    me = pwd.getpwuid(os.getuid()).pw_name
    if os.getuid() != 0:
        return Executor("", me, False, {})
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return Executor("", me, False, {})
    library = directory / "lib"
    _copy_packages(library)
    for python, environment in ((sys.executable, {}), *((each, {"PYTHONPATH": str(library)}) for each in _OTHERS)):
        program = _launcher(directory, python, nobody.pw_uid, nobody.pw_gid)
        if _works(program, environment):
            return Executor(program, nobody.pw_name, True, environment)
    return Executor("", me, False, {})


def _launcher(directory: Path, python: str, uid: int, gid: int) -> str:
    path = directory / "python"
    words = [sys.executable, "-I", str(Path(__file__).with_name("other_user.py")), str(uid), str(gid), python]
    path.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    path.chmod(0o755)
    return str(path)


def _works(program: str, environment: dict[str, str]) -> bool:
    plain = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    try:
        done = subprocess.run([program, "-c", _NEEDS], env=plain, cwd="/", capture_output=True, timeout=60, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _copy_packages(library: Path) -> None:
    """The other user may not be able to read this environment (a home directory is often closed)."""
    library.mkdir()
    for name in (*_PACKAGES, "typing_extensions"):
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            continue
        origin = Path(spec.origin)
        if origin.name == "__init__.py":
            shutil.copytree(origin.parent, library / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(origin, library)
