# Sourced by scripts/*: makes .venv beside the checkout once and sets ROOT and PYTHON. Safe to interrupt at any point.

ROOT=$(CDPATH='' cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
VENV=$ROOT/.venv
PYTHON=$VENV/bin/python
unset PYTHONHOME PYTHONPATH VIRTUAL_ENV
unset PYTHONDONTWRITEBYTECODE # images often set it: then each of the processes that tests and the demonstration start compiles all modules anew
export PIP_DISABLE_PIP_VERSION_CHECK=1

usable() { # a pyenv shim exits 127 when its version is not selected, so run it and take the real file
    "$1" -I -c 'import ensurepip, ssl, sqlite3, sys, venv
sys.exit(1) if sys.version_info < (3, 12) else print(sys.executable)' 2>/dev/null
}

find_python() { # prints the path of a Python >= 3.12 that can make a venv
    local candidate path
    for candidate in "${HOPGATE_PYTHON:-}" python3.13 python3.12 python3.14 python3 python; do
        [ -n "$candidate" ] && path=$(command -v "$candidate") && usable "$path" && return
    done
    for candidate in "${PYENV_ROOT:-${HOME:-.}/.pyenv}"/versions/3.1[3-9]*/bin/python3 "${PYENV_ROOT:-${HOME:-.}/.pyenv}"/versions/3.12*/bin/python3 \
        /usr/local/bin/python3.1[2-9] /opt/homebrew/bin/python3.1[2-9]; do
        [ -x "$candidate" ] && usable "$candidate" && return
    done
    if command -v uv >/dev/null 2>&1; then
        path=$(uv python find --no-project '>=3.12' 2>/dev/null) || {
            echo "fetching Python 3.13 with uv …" >&2
            uv python install 3.13 >&2 && path=$(uv python find --no-project '>=3.12')
        }
        [ -n "$path" ] && usable "$path" && return
    fi
    echo "hopgate needs Python >= 3.12: install one (apt install python3.12-venv, pyenv install 3.13, brew install python@3.13) or uv" >&2
    return 1
}

stamp() { # what .venv was made from: a package added or a dependency changed installs again
    "$PYTHON" -I - "$ROOT" <<'PY'
import hashlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
digest = hashlib.sha256(f"{sys.version} {root}".encode())
for path in (root / "setup.cfg", root / "pyproject.toml", root / "setup.py", *sorted(root.glob("r*/**/*.pyx"))):
    digest.update(path.read_bytes() if path.is_file() else b"")
for package in sorted(root.glob("*/__init__.py")):
    digest.update(package.parent.name.encode())
print(digest.hexdigest())
PY
}

install_all() { # pip is quiet for a minute: count what it does
    local log=$VENV/install.log count=0 line
    set -o pipefail
    (cd "$ROOT" && "$PYTHON" -m pip install --retries 1 --timeout 20 --progress-bar off -e '.[test]' 2>&1) | while IFS= read -r line; do
        printf '%s\n' "$line"
        case $line in
        Collecting*)
            count=$((count + 1))
            [ $((count % 20)) -eq 0 ] && echo "  $count packages found …" >&2
            ;;
        Installing\ collected*) echo "  installing them …" >&2 ;;
        esac
    done >"$log"
    local status=$?
    [ $status -eq 0 ] && return 0
    if grep -qiE 'NewConnectionError|ConnectTimeout|ProxyError|Temporary failure|Name or service not known|Network is unreachable|Connection refused|Max retries' "$log"; then
        echo "cannot reach the package index: connect to a network once (or set PIP_INDEX_URL to a mirror), then run this again; details in $log" >&2
    else
        echo "installation failed: $(grep -m1 '^ERROR' "$log" || tail -n1 "$log"); details in $log" >&2
    fi
    return 1
}

prepare() {
    local base
    if ! [ "$("$PYTHON" -I -c 'import pip, sys; print(sys.version_info >= (3, 12))' 2>/dev/null)" = True ]; then
        base=$(find_python) || return 1
        echo "making .venv with $base …" >&2
        "$base" -m venv --clear "$VENV" >&2 || {
            echo "cannot make $VENV: is the directory writable and the disk not full?" >&2
            return 1
        }
    fi
    [ "$(cat "$VENV/stamp" 2>/dev/null)" = "$(stamp)" ] && return 0
    echo "installing hopgate and what it needs into .venv (once, about a minute) …" >&2
    rm -f "$VENV/stamp"
    install_all || return 1
    stamp >"$VENV/stamp"
    echo "installed" >&2
}

ensure_venv() { # two scripts started at once must not install over each other
    if command -v flock >/dev/null 2>&1; then
        exec 9>"$ROOT/.venv.lock" || return 1
        flock 9 && prepare
        local status=$?
        exec 9>&-
        return $status
    fi
    prepare
}

ensure_venv || exit 1
