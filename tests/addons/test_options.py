"""mitmproxy's options: what is set, what is refused, at start and while running."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mitmproxy import exceptions, options
from mitmproxy.test import taddons
from mitmproxy.tools import cmdline
from mitmproxy.tools.dump import DumpMaster

from addons.options import FREE, REQUIRED, Options, check_start, problems_of, required_values
from hopgate.errors import Misconfigured


def all_options(tmp_path: Path) -> Any:
    """Every option of mitmdump, at its default."""
    master = DumpMaster(options.Options(confdir=str(tmp_path)), with_termlog=True)
    cmdline.mitmdump(master.options)
    return master.options


DANGEROUS = {
    "stream_large_bodies": "1m",
    "store_streamed_bodies": True,
    "ignore_hosts": ["x"],
    "allow_hosts": ["x"],
    "tcp_hosts": ["x"],
    "udp_hosts": ["x"],
    "map_remote": ["|a|b"],
    "map_local": ["|a|/etc"],
    "modify_body": ["|a|b"],
    "modify_headers": ["|a|b"],
    "ssl_insecure": True,
    "server_replay": ["/x"],
    "client_replay": ["/x"],
    "server_replay_extra": "204",
    "mode": ["socks5"],
    "scripts": ["gateway.py", "other.py"],
    "body_size_limit": "0",
    "proxyauth": "any",
    "save_stream_file": "/x",
    "hardump": "/x",
    "stickyauth": ".",
    "stickycookie": ".",
    "rfile": "/x",
    "upstream_auth": "a:b",
    "proxy_debug": True,
    "keep_host_header": True,
    "certs": ["/x"],
    "client_certs": "/x",
    "block_list": [":~all:200"],
    "dumper_filter": "x",
    "strip_ech": False,
    "ssl_verify_upstream_trusted_ca": "/x",
    "add_upstream_certs_to_client_chain": True,
    "normalize_outbound_headers": False,
    "tls_version_client_min": "TLS1",
    "tls_version_server_min": "SSL3",
}


def values(found: Any, **changed: Any) -> Any:
    """Options with some changed, without the addons that would read the files they name."""
    for name, value in changed.items():
        found._options[name].value = value
    return found


@pytest.mark.parametrize("name", sorted(DANGEROUS))
async def test_a_dangerous_option_refuses_the_start(tmp_path: Path, name: str) -> None:
    found = values(all_options(tmp_path), **{"scripts": ["gateway.py"], name: DANGEROUS[name]})
    with pytest.raises(Misconfigured, match=name):
        check_start(found, "gateway.py", {})


@pytest.mark.parametrize("name", sorted(REQUIRED))
async def test_what_is_required_may_not_be_changed_while_running(tmp_path: Path, name: str) -> None:
    found = values(all_options(tmp_path), **REQUIRED)
    assert problems_of(found, set(REQUIRED), "gateway.py") == []
    value = REQUIRED[name]
    wrong = not value if isinstance(value, bool) else {"connection_strategy": "eager", "flow_detail": 3}[name]
    assert problems_of(values(found, **{name: wrong}), {name}, "gateway.py")


async def test_the_defaults_start(tmp_path: Path) -> None:
    check_start(values(all_options(tmp_path), scripts=["gateway.py"]), "gateway.py", {})


async def test_every_option_of_mitmproxy_is_judged(tmp_path: Path) -> None:
    """One that is in no list has to keep its default."""
    found = all_options(tmp_path)
    assert FREE | REQUIRED.keys() <= set(found.keys())
    for name in set(found.keys()) - FREE - REQUIRED.keys():
        assert problems_of(values(all_options(tmp_path), **{name: object.__new__(object)}), {name}, "gateway.py"), name


async def test_what_is_set_at_start(tmp_path: Path) -> None:
    found = all_options(tmp_path)
    wanted = required_values(found, tmp_path, "127.0.0.1", 9000)
    assert wanted["body_size_limit"] == "20m"
    assert wanted["confdir"] == str(tmp_path / "ca")
    assert wanted["mode"] == ["regular@127.0.0.1:9000"]
    assert required_values(values(found, listen_host="::1", listen_port=9000), tmp_path, "::1", 9000).get("mode") is None
    assert required_values(found, tmp_path, "::1", 9001)["mode"] == ["regular@[::1]:9001"]
    assert "body_size_limit" not in required_values(values(found, body_size_limit="1m"), tmp_path, "::1", 9000)


async def test_a_change_while_running_is_rolled_back() -> None:
    with taddons.context(Options("gateway.py"), options=options.Options()) as context:
        context.options.update(rawtcp=False)
        with pytest.raises(exceptions.OptionsError, match="ignore_hosts"):
            context.options.update(ignore_hosts=["x"])
        assert context.options.ignore_hosts == []
        context.options.update(tcp_timeout=30)


def test_key_logs_refuse_the_start() -> None:
    with pytest.raises(Misconfigured, match="SSLKEYLOGFILE"):
        check_start(options.Options(), "", {"SSLKEYLOGFILE": "/x"})
