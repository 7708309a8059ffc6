"""The gateway starts on a mitmproxy that has been read, and on no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from addons import chain, known
from hopgate.errors import Misconfigured
from tests.addons.live import Gateway


def test_the_installed_mitmproxy_is_one_that_was_read() -> None:
    """When this fails, compare the modules of `known` with the release before, run all tests, then add the digest and raise the bounds."""
    assert known.source_digest() in known.KNOWN_SOURCES
    known.check()


def test_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "KNOWN_SOURCES", frozenset({"0" * 64}))
    with pytest.raises(Misconfigured, match=r"install mitmproxy 12\.2\.0 to 12\.3\.1"):
        chain._begin(None)


def test_no_other_is_installed() -> None:
    lowest, highest = known.READ.split(" to ")
    bounds = re.search(r"mitmproxy>=([\d.]+),<=([\d.]+)\n", (Path(known.__file__).parent.parent / "setup.cfg").read_text())
    assert bounds is not None
    assert (lowest, highest) == (f"{bounds[1]}.0", bounds[2])


def test_an_unknown_one_ends_the_start(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, "", "version: 1\nrules: []\n")
    changed = (
        "import sys; from addons import known; known.KNOWN_SOURCES = frozenset(); from mitmproxy.tools.main import mitmdump; mitmdump()"
    )
    gateway.command = lambda *more: [*Gateway.command(gateway)[:2], changed, *Gateway.command(gateway)[3:]]  # type: ignore[method-assign]
    try:
        with pytest.raises(AssertionError, match=r"the gateway ended: hopgate: mitmproxy [\d.]+ handles requests in a way"):
            gateway.start()
    finally:
        gateway.stop()
