"""Our certificate authority: made once, private, and accepted by mitmproxy and by OpenSSL."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest
from mitmproxy.certs import CertStore

from hopgate import ca
from hopgate.errors import Misconfigured


def test_is_made_once_with_a_private_key_file(tmp_path: Path) -> None:
    assert ca.create_ca(tmp_path)
    key = tmp_path / "ca" / ca.KEY_FILE
    first = key.read_bytes()
    assert not ca.create_ca(tmp_path)
    assert key.read_bytes() == first
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert b"PRIVATE" not in ca.certificate_path(tmp_path).read_bytes()


def test_mitmproxy_signs_with_it_and_openssl_trusts_the_bundle(tmp_path: Path) -> None:
    ca.create_ca(tmp_path)
    before = sorted(path.name for path in (tmp_path / "ca").iterdir())
    store = CertStore.from_store(tmp_path / "ca", "mitmproxy", 2048)
    assert store.default_ca.fingerprint().hex(":").upper() == ca.fingerprint(ca.load_certificate(tmp_path))
    assert before == [ca.CERTIFICATE_FILE, ca.KEY_FILE]
    bundle = ca.write_bundle(tmp_path)
    trusted = ssl.create_default_context(cafile=str(bundle)).get_ca_certs()
    assert len(trusted) > 50  # certifi's are in there
    assert any(("commonName", "hopgate") in part for found in trusted for part in found["subject"])


def test_the_bundle_follows_the_authority(tmp_path: Path) -> None:
    ca.create_ca(tmp_path)
    bundle = ca.write_bundle(tmp_path)
    stamp = bundle.stat().st_mtime_ns
    ca.write_bundle(tmp_path)
    assert bundle.stat().st_mtime_ns == stamp
    bundle.write_text("old")
    assert ca.write_bundle(tmp_path).read_bytes().endswith(ca.certificate_path(tmp_path).read_bytes())


@pytest.mark.parametrize(("content", "said"), [(None, "there is no certificate authority yet"), (b"not PEM", "is not a certificate")])
def test_half_an_authority_is_told_and_not_replaced(tmp_path: Path, content: bytes | None, said: str) -> None:
    ca.create_ca(tmp_path)
    ca.certificate_path(tmp_path).unlink()
    if content is not None:
        ca.certificate_path(tmp_path).write_bytes(content)
    with pytest.raises(Misconfigured, match=said):
        ca.create_ca(tmp_path)
