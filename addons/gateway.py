"""The entry for `mitmdump -s`: hands the chain to mitmproxy's master, and nothing else.

mitmproxy reloads a script when its file changes and unloads it when the file is broken or gone. The chain is therefore not this
script's own: once handed over it stays whatever happens to this file.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

# mitmproxy leaves the script's directory first on the path, where its modules could shadow others
_HERE = str(Path(__file__).resolve().parent)
sys.path[:] = [entry for entry in sys.path if entry != _HERE]
if str(Path(_HERE).parent) not in sys.path:
    sys.path.append(str(Path(_HERE).parent))

from addons.chain import hand_over  # noqa: E402


def load(loader: Any) -> None:
    hand_over(loader)
