"""scripts/lib/venv.sh: what the two commands do on a machine that has nothing, or half of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
NO_INDEX = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_NO_CACHE_DIR": "1", "PIP_CONFIG_FILE": os.devnull}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The scripts and what they read, in a directory whose name has a space."""
    root = tmp_path / "a checkout"
    shutil.copytree(ROOT / "scripts", root / "scripts")
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    return root


def run(checkout: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    values = {"PATH": os.environ["PATH"], "HOME": str(checkout), "HOPGATE_PYTHON": sys.executable, **environment}
    return subprocess.run(["bash", "-c", script], cwd="/", env=values, capture_output=True, text=True, timeout=110, check=False)


def tools(directory: Path) -> str:
    """A PATH with what the script needs and no Python."""
    directory.mkdir()
    for name in ("bash", "dirname", "cat", "grep", "tail", "flock", "rm"):
        if (found := shutil.which(name)) is not None:
            (directory / name).symlink_to(found)
    return str(directory)


def test_without_a_python_there_is_one_line_of_advice(checkout: Path, tmp_path: Path) -> None:
    (checkout / "scripts" / "lib" / "venv.sh").write_text(
        # the places outside of PATH that are looked at as well
        (checkout / "scripts" / "lib" / "venv.sh").read_text().replace("/usr/local/bin", "/nowhere").replace("/opt/homebrew", "/nowhere")
    )
    done = run(checkout, f"'{checkout}/scripts/up'", PATH=tools(tmp_path / "bin"), HOPGATE_PYTHON="")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("hopgate needs Python >= 3.12: install one")


def test_an_old_python_is_passed_over(checkout: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    script = f"ensure_venv() {{ :; }}; . <(sed 's/^ensure_venv || exit 1$//' '{checkout}/scripts/lib/venv.sh'); find_python"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = run(checkout, script, HOPGATE_PYTHON=str(old), PATH=path)
    assert done.returncode == 0
    assert Path(done.stdout.strip()).exists()
    assert done.stdout.strip() != str(old)


def test_without_a_network_it_says_so_and_starts_again_next_time(checkout: Path) -> None:
    half = checkout / ".venv" / "bin"
    half.mkdir(parents=True)
    (half / "python").symlink_to("/nonexistent/python")  # what an interrupted run or a removed Python leaves behind
    done = run(checkout, f"'{checkout}/scripts/test' --version", **NO_INDEX)
    assert done.returncode == 1
    assert "making .venv with" in done.stderr
    assert "cannot reach the package index: connect to a network once" in done.stderr.splitlines()[-1]
    assert not (checkout / ".venv" / "stamp").exists()
    # the interpreter is good now, so that the next run begins with the packages
    assert subprocess.run([half / "python", "-c", "import pip"], check=False).returncode == 0
