from __future__ import annotations

from pathlib import Path

import pytest

from hopgate.errors import Misconfigured
from hopgate.mask_key import mask_key


def test_the_key_stays_and_is_private(tmp_path: Path) -> None:
    key = mask_key(tmp_path)
    assert len(key) == 32
    assert mask_key(tmp_path) == key
    assert (tmp_path / "keys" / "mask.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["mask.key"]


@pytest.mark.parametrize(("content", "mode"), [(b"short", 0o600), (b"k" * 32, 0o644)])
def test_a_damaged_or_open_key_is_refused(tmp_path: Path, content: bytes, mode: int) -> None:
    path = tmp_path / "keys" / "mask.key"
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(Misconfigured):
        mask_key(tmp_path)
