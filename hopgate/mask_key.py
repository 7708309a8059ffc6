"""The key of the mask strategy `hash`: equal values stay equal across processes and restarts, and nobody can try values out."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from hopgate.errors import Misconfigured

_BYTES: Final = 32


def mask_key(state: Path) -> bytes:
    """The key in `keys/mask.key`, made at the first call. Raises Misconfigured when it cannot be read or is not private."""
    path = state / "keys" / "mask.key"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _create(path)
        if path.stat().st_mode & 0o077:
            raise Misconfigured(f"{path}: others can read it: chmod 600 it, and remove it if they may have")
        key = path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{path}: {(error.strerror or type(error).__name__).lower()}") from None
    if len(key) != _BYTES:
        raise Misconfigured(f"{path}: is no key of {_BYTES} bytes: remove it, and hashes will differ from those of before")
    return key


def _create(path: Path) -> None:
    """Whole or not at all, and once: several processes may start together."""
    temporary = path.with_name(f".mask.key.{secrets.token_hex(8)}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink(missing_ok=True)
