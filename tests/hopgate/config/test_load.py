"""hopgate.yaml as a whole: what the documentation shows loads, and every mistake is told with its line."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hopgate.config import load_config
from hopgate.errors import Misconfigured
from tests.doubles import HOST_KEY, make_config, write_config

FULL = """\
version: 1
state: ./var
rules: [rules/packs/, ./my-rules.yaml]
timezone: Europe/Berlin
identity:
  issuers:
    - {name: corp, issuer: "https://login.corp.example/", audience: hopgate, groups_claim: realm_access.roles}
    - {name: ci, issuer: "https://token.actions.githubusercontent.com", audience: [hopgate, other], jwks: "file:keys/ci.json",
       algorithms: [RS256], require: {repository_owner: acme, private: true}, groups: ["ci-*"]}
    - {name: local, local: true}
connections:
  - {name: billing, kind: http, hosts: ["Billing.internal:8080", "*.billing.internal", "10.1.1.1:81", "[fd00::1]:82"],
     target: "http://10.0.0.5:8080", labels: {env: prod}, credential: {headers: {Authorization: "Bearer ${secret:billing}"}}}
  - {name: orders-db, kind: postgres, target: "db.internal", database: orders, tls: verify-full, ca: ca.pem,
     credential: {username: app, password: "${secret:orders-db}"}}
  - {name: build, kind: ssh, target: "build.internal:2222", shell: bash,
     host_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN9Y/EwdzC2ONg8tIk0tLy9TUxOYGaqoWe+LtTZmO3ej",
     credential: {username: deploy, private_key: "${file:keys/build_ed25519}"}}
listen:
  http: {address: "10.0.0.2:8080", cleartext: [10.0.0.0/8]}
  postgres: "localhost:15432"
  ssh: "10.0.0.2:12222"
  console: "[::1]:8443"
ledger: {anchor: "syslog:"}
operators: [ops]
approvals: {reviewers: dba, timeout: 1h30m, http_wait: 50s, notify: ["slack://${secret:slack}"], owners: {"local:agent-*": "corp:alice"}}
recordings: {results: head, head_bytes: 64KiB, retention: 90d}
"""


@pytest.fixture
def full(tmp_path: Path) -> Any:
    (tmp_path / "hopgate.yaml").write_text(FULL)
    return load_config(tmp_path / "hopgate.yaml")


def test_everything_that_the_file_can_say(full: Any, tmp_path: Path) -> None:
    assert full.path == tmp_path / "hopgate.yaml"
    assert full.state == tmp_path / "var"
    assert full.rules == (tmp_path / "rules/packs", tmp_path / "my-rules.yaml")
    corp, ci, local = full.identity.issuers
    assert (corp.audience, corp.algorithms, corp.groups_claim) == (("hopgate",), ("RS256", "ES256", "EdDSA"), "realm_access.roles")
    assert (ci.audiences, ci.require, ci.groups) == (("hopgate", "other"), {"repository_owner": ("acme",), "private": (True,)}, ("ci-*",))
    assert (local.issuer_url, local.audiences, full.identity.local) == ("hopgate:local", ("hopgate",), local)
    assert full.identity.issuer("ci") is ci
    assert full.identity.issuer("nobody") is None
    billing, orders, build = full.connections
    assert (billing.rule_view.name, billing.rule_view.kind, billing.rule_view.labels) == ("billing", "http", {"env": "prod"})
    assert (billing.scheme, str(billing.address)) == ("http", "10.0.0.5:8080")
    assert (str(orders.address), str(build.address), orders.ca) == ("db.internal:5432", "build.internal:2222", tmp_path / "ca.pem")
    assert build.credential.references[0].name == str(tmp_path / "keys/build_ed25519")
    assert (str(full.listen.postgres), str(full.listen.console), full.listen.health) == ("127.0.0.1:15432", "[::1]:8443", None)
    assert (full.approvals.reviewers, full.approvals.timeout, full.approvals.http_wait) == (("dba",), 5400.0, 50.0)
    assert (full.recordings.head_bytes, full.recordings.retention) == (65536, 90 * 86400.0)
    with pytest.raises(ValueError, match="frozen"):
        full.timezone = "UTC"


def test_what_is_left_out_has_its_default(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    assert (config.state, config.rules, config.timezone, config.connections) == (tmp_path / "var", (), "UTC", ())
    assert (config.approvals.timeout, config.approvals.http_wait, config.approvals.reviewers, config.operators) == (600.0, 50.0, (), ())
    assert (config.recordings.results, config.recordings.head_bytes, config.recordings.retention) == ("head", 65536, None)
    assert all(getattr(config.listen, wire) is None for wire in type(config.listen).model_fields)


def test_the_connection_of_an_authority(full: Any) -> None:
    def name(host: str, port: int) -> str | None:
        found = full.connection_for(host, port)
        return None if found is None else found.name

    assert name("billing.internal", 8080) == name("BILLING.internal.", 8080) == "billing"
    assert name("a.billing.internal", 80) == name("b.a.billing.internal", 443) == "billing"
    assert name("[fd00::1]", 82) == name("10.1.1.1", 81) == "billing"
    assert name("billing.internal", 80) is None
    assert name("a.billing.internal", 8080) is None
    assert name("xbilling.internal", 443) is None
    assert name("orders-db", 5432) is None
    assert full.connection("build").name == "build"
    assert full.connection("nope") is None


def test_an_http_connection_without_hosts_is_named_by_its_target(tmp_path: Path) -> None:
    config = make_config(tmp_path, connections=[{"name": "a", "kind": "http", "target": "https://api.internal"}])
    assert config.connection_for("api.internal", 443) is config.connections[0]
    assert config.connection_for("api.internal", 80) is None


def test_peers_in_clear_text(full: Any) -> None:
    assert full.listen.http.is_cleartext("10.3.4.5")
    assert not full.listen.http.is_cleartext("192.168.0.1")
    assert not full.listen.http.is_cleartext("nonsense")


def test_no_repr_shows_what_somebody_wrote_as_a_secret(tmp_path: Path) -> None:
    credential = {"headers": {"X-Key": "hunter2-literal"}, "query": {"k": "hunter2-${env:X}"}}
    config = make_config(
        tmp_path,
        connections=[{"name": "a", "kind": "http", "target": "http://a.b:1", "credential": credential}],
        approvals={"notify": ["slack://hunter2"]},
        ledger={"anchor": "https://hunter2@example"},
    )
    shown = f"{config!r} {config} {config.connections!r} {config.connections[0].credential!r} {config.approvals!r} {config.ledger!r}"
    assert "hunter2" not in shown
    assert "${env:X}" in shown


HTTP = {"name": "a", "kind": "http", "target": "http://10.0.0.1:8080"}
SSH = {"name": "b", "kind": "ssh", "target": "h:22", "host_key": HOST_KEY, "credential": {"username": "u", "password": "${env:X}"}}
OIDC = {"name": "corp", "issuer": "https://login.example/", "audience": "hopgate"}
GITHUB = {**OIDC, "issuer": "https://token.actions.githubusercontent.com"}


def connection(**changes: Any) -> dict[str, Any]:
    return {"connections": [{**HTTP, **changes}]}


def issuer(base: dict[str, Any] = OIDC, /, **changes: Any) -> dict[str, Any]:
    return {"identity": {"issuers": [{key: value for key, value in {**base, **changes}.items() if value is not None}]}}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"version": 2}, "version: must be 1"),
    ({"rulez": []}, "rulez: unknown key; did you mean `rules`?"),
    ({"path": "/x"}, "path: unknown key"),
    ({"state": 5}, "state: must be text; put it in quotes"),
    ({"state": ""}, "state: must be printable text, not empty"),
    ({"rules": "a.yaml"}, "rules: must be a list"),
    ({"rules": [None]}, "rules[0]: must be text"),
    ({"timezone": "Mars/Olympus"}, "timezone: must be a time zone"),
    ({"timezone": "../../etc/passwd"}, "timezone: must be a time zone"),
    ({"identity": {}}, "identity.issuers: is required"),
    ({"identity": {"issuers": []}}, "identity.issuers: must not be empty"),
    ({"identity": []}, "identity: must be a mapping"),
    (issuer(name="a b"), "identity.issuers[0].name: must be a name"),
    (issuer(issuer=None), "identity.issuers[0].issuer: is required"),
    (issuer(issuer="http://login.example/"), "identity.issuers[0].issuer: must be an https:// URL"),
    (issuer(issuer="https://u:p@login.example/"), "identity.issuers[0].issuer: must be an https:// URL"),
    (issuer(issuer="https://169.254.169.254/"), "identity.issuers[0].issuer: is link-local"),
    (issuer(audience=None), "identity.issuers[0].audience: is required"),
    (issuer(audience=[]), "identity.issuers[0].audience: is required"),
    (issuer(algorithms=["none"]), "identity.issuers[0].algorithms[0]: must be one of 'RS256'"),
    (issuer(algorithms=["RS256", "HS256"]), "none and shared secrets (HS256 …) are never accepted"),
    (issuer(algorithms=[]), "identity.issuers[0].algorithms: must name at least one"),
    (issuer(jwks="http://keys.example/jwks"), "identity.issuers[0].jwks: must be an https:// URL, or file:PATH"),
    (issuer(groups=["re:("]), "identity.issuers[0].groups[0]: not an RE2 expression"),
    (issuer(require={"a": [1.5]}), "identity.issuers[0].require.a: must be text, a number"),
    (issuer(require={"a": []}), "identity.issuers[0].require.a: must be text, a number"),
    (issuer(require={"a": "re:("}), "identity.issuers[0].require.a: not an RE2 expression"),
    (issuer(local=True), "identity.issuers[0].issuer: does not go with local: true"),
    (issuer(GITHUB), "identity.issuers[0].require: is required: anybody can get a token"),
    (issuer(GITHUB, require={"repository_owner": "*"}), "identity.issuers[0].require: is required"),
    (issuer(GITHUB, require={"repository_owner": ["acme", "**"]}), "identity.issuers[0].require: is required"),
    (issuer(GITHUB, require={"repository_owner": "re:.*"}), "identity.issuers[0].require: is required"),
    (issuer(GITHUB, require={"aud": "hopgate"}), "identity.issuers[0].require: is required"),
    (issuer(issuer="https://accounts.google.com"), "identity.issuers[0].require: is required"),
    (issuer(issuer="https://gitlab.com"), "identity.issuers[0].require: is required"),
    (issuer(issuer="https://login.microsoftonline.com/common/v2.0"), "identity.issuers[0].require: is required"),
    (issuer(issuer="https://LOGIN.microsoftonline.com/organizations/"), "identity.issuers[0].require: is required"),
    ({"identity": {"issuers": [OIDC, {**OIDC, "issuer": "https://b.example"}]}}, "issuers[1].name: `corp` is already used by issuers[0]"),
    ({"identity": {"issuers": [OIDC, {**OIDC, "name": "b"}]}}, "issuers[1].issuer: `https://login.example/` is already used"),
    (
        {"identity": {"issuers": [{"name": "a", "local": True}, {"name": "b", "local": True}]}},
        "issuers[1].local: `hopgate:local` is",
    ),
    ({"connections": [{"name": "a", "kindd": "http", "target": "http://a.b"}]}, "connections[0].kindd: unknown key; did you mean `kind`?"),
    ({"connections": [{"name": "a", "kindd": "http", "target": "http://a.b"}]}, "connections[0].kind: is required"),
    (connection(kind="gopher"), "connections[0].kind: must be one of 'http'"),
    (connection(name="../x"), "connections[0].name: must be a name"),
    (connection(labels={"env": 1}), "connections[0].labels.env: must be text; put it in quotes"),
    (connection(target="10.0.0.1:80"), "connections[0].target: must be a URL"),
    (connection(target="ftp://h/"), "connections[0].target: must be a URL"),
    (connection(target="http://h:99999"), "connections[0].target: must be a URL"),
    (connection(target="http://h/path"), "connections[0].target: must be a scheme, host and port only"),
    (connection(target="http://u:p@h"), "connections[0].target: must be a scheme, host and port only"),
    (connection(target="http://169.254.169.254"), "connections[0].target: is link-local"),
    (connection(target="http://[fe80::1]:80"), "connections[0].target: is link-local"),
    (connection(target="http://[::ffff:169.254.169.254]"), "connections[0].target: is link-local"),
    (connection(target="http://0xa9fea9fe/"), "connections[0].target: is not an IPv4 address"),
    (connection(target="http://2852039166/"), "connections[0].target: is not an IPv4 address"),
    (connection(target="http://metadata.google.internal"), "connections[0].target: is a cloud metadata service"),
    (connection(target="http://0.0.0.0:80"), "connections[0].target: is not the address of one host"),
    (connection(hosts=["a b"]), "connections[0].hosts[0]: is not a host name"),
    (connection(hosts=["a.*.b"]), "connections[0].hosts[0]: may have a * only as its first label"),
    (connection(hosts=["*.com"]), "connections[0].hosts[0]: may not match a whole top-level domain"),
    (connection(hosts=["*"]), "connections[0].hosts[0]: may have a * only as its first label"),
    (connection(hosts=["*.0.0.1:80"]), "connections[0].hosts[0]:"),
    (connection(hosts=["h:0"]), "connections[0].hosts[0]: must be host:port"),
    (connection(database="x"), "connections[0].database: does not go with kind http"),
    (connection(tls="disable"), "connections[0].tls: does not go with kind http"),
    (connection(credential={"private_key": "${file:k}"}), "connections[0].credential.private_key: does not go with kind http"),
    (connection(credential={"headers": {"Host": "x"}}), "connections[0].credential.headers.Host: is a header that the gateway itself"),
    (connection(credential={"headers": {"a b": "x"}}), "connections[0].credential.headers.a b: is not a header name"),
    (connection(credential={"headers": {"A": "${secrt:x}"}}), "connections[0].credential.headers.A: has a ${…} that names no secret"),
    (connection(credential={"username": "u"}), "connections[0].credential: needs both username and password"),
    ({"connections": [HTTP, {**HTTP, "target": "http://b.c"}]}, "connections[1].name: `a` is already used by connections[0]"),
    ({"connections": [HTTP, {**HTTP, "name": "b"}]}, "connections[1].target: `10.0.0.1:8080` is already used by connections[0]"),
    (
        {"connections": [{**HTTP, "hosts": ["x.y"]}, {**HTTP, "name": "b", "hosts": ["X.Y:443"]}]},
        "connections[1].hosts: `x.y:443` is already used by connections[0]",
    ),
    ({"connections": [{**HTTP, "kind": "ssh", "target": "h"}]}, "connections[0].host_key: is required for kind ssh"),
    ({"connections": [{**SSH, "target": "ssh://h"}]}, "connections[0].target: must be host:port, without a scheme"),
    ({"connections": [{**SSH, "hosts": ["h"]}]}, "connections[0].hosts: does not go with kind ssh"),
    ({"listen": {"http": "0.0.0.0:8080"}}, "listen.http: 0.0.0.0:8080 is not on loopback: tls: with cert and key is required (or http:"),
    ({"listen": {"http": {"address": "[::]:8080"}}}, "listen.http: [::]:8080 is not on loopback"),
    ({"listen": {"health": "10.0.0.1:9100", "console": "nonsense"}}, "listen.health: 10.0.0.1:9100 is not on loopback"),
    ({"listen": {"postgres": "10.0.0.1:5432"}}, "listen.postgres: 10.0.0.1:5432 is not on loopback: tls: with cert and key is required"),
    ({"listen": {"http": "gateway.example:80"}}, "listen.http.address: must name an IP address of this machine"),
    ({"listen": {"http": 8080}}, "listen.http: must be a mapping"),
    ({"listen": {"http": {"address": "10.0.0.1:80", "cleartext": ["0.0.0.0/0"]}}}, "listen.http.cleartext[0]: 0.0.0.0/0 is not a private"),
    ({"listen": {"http": {"address": "10.0.0.1:80", "cleartext": ["10.0.0.1/8"]}}}, "listen.http.cleartext[0]: must be a network"),
    ({"listen": {"http": "127.0.0.1:80", "ssh": "127.0.0.1:80"}}, "listen.ssh: 127.0.0.1:80 is already used by listen.http"),
    ({"tls": {"cert": "c.pem"}}, "tls.key: is required"),
    ({"approvals": {"timeout": 10}}, "approvals.timeout: must be a length of time with its unit"),
    ({"approvals": {"notify": ["${secret:}"]}}, "approvals.notify[0]: has a ${secret:…} without a name"),
    ({"approvals": {"owners": {"agent": "local:a"}}}, "approvals.owners.agent: its key must be issuer:subject"),
    ({"approvals": {"owners": {"local:a": "nobody:b"}}}, "approvals.owners.local:a: its value must be issuer:subject"),
    ({"approvals": {"owners": {"local:a": "local:*"}}}, "approvals.owners.local:a: its value must name one person"),
    ({"recordings": {"results": "some"}}, "recordings.results: must be one of 'head', 'full' or 'none'"),
    ({"recordings": {"head_bytes": "lots"}}, "recordings.head_bytes: must be a number of bytes"),
    ({"operators": [1]}, "operators[0]: must be text"),
]


@pytest.mark.parametrize(("sections", "problem"), WRONG, ids=[problem for _, problem in WRONG])
def test_a_mistake_is_told(tmp_path: Path, sections: dict[str, Any], problem: str) -> None:
    path = write_config(tmp_path, **sections)
    with pytest.raises(Misconfigured) as caught:
        load_config(path)
    assert any(problem in each for each in caught.value.problems), caught.value.problems
    assert all(each.startswith(f"{path}:") for each in caught.value.problems)


def test_the_base_of_the_mistakes_is_no_mistake(tmp_path: Path) -> None:
    make_config(tmp_path, connections=[HTTP, SSH], **issuer())
    make_config(tmp_path, **issuer(GITHUB, require={"repository_owner": "acme"}))
    make_config(tmp_path, **issuer(issuer="http://127.0.0.1:9000"))
    make_config(tmp_path, listen={"http": "0.0.0.0:80", "ssh": "0.0.0.0:22"}, tls={"cert": "c", "key": "k"})


def test_all_mistakes_of_a_file_come_at_once_each_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "hopgate.yaml"
    path.write_text(
        "version: 1\n"
        "stat: ./var\n"
        "identity: {issuers: [{name: local, local: true}]}\n"
        "connections:\n"
        "  - name: a\n"
        "    kindd: http\n"
        '    target: "http://h"\n'
        "  - {name: b, kind: http, target: nonsense}\n"
        "  - {name: b, kind: ssh, target: h}\n"
        "listen:\n"
        '  health: "0.0.0.0:1"\n'
    )
    with pytest.raises(Misconfigured) as caught:
        load_config(path)
    assert [each.removeprefix(f"{path}:") for each in caught.value.problems] == [
        "2:1: stat: unknown key; did you mean `state`?",
        "5:5: connections[0].kind: is required",
        "6:5: connections[0].kindd: unknown key; did you mean `kind`?",
        "8:35: connections[1].target: must be a URL as in http://10.0.0.5:8080",
        "9:5: connections[2].host_key: is required for kind ssh: the target's public key, as ssh-keyscan prints it",
        "9:5: connections[2].credential: is required for kind ssh: a username, and a private_key or password",
        "9:12: connections[2].name: `b` is already used by connections[1]",
        "11:11: listen.health: 0.0.0.0:1 is not on loopback: tls: with cert and key is required",
    ]
    assert str(caught.value) == "\n".join(caught.value.problems)


def test_mistakes_do_not_quote_values(tmp_path: Path) -> None:
    secret = "hunter2"
    sections = copy.deepcopy(connection(credential={"headers": {"A": f"{secret} ${{x}}"}, "password": [secret], "username": {secret: 1}}))
    with pytest.raises(Misconfigured) as caught:
        load_config(write_config(tmp_path, **sections, approvals={"notify": [f"{secret}${{"]}, tls={"cert": [secret]}))
    assert len(caught.value.problems) >= 5
    assert secret not in str(caught.value)


UNREADABLE = [
    (b"", "must be a mapping"),
    (b"- 1\n", "must be a mapping"),
    (b"version: 1\n\xff\n", "hopgate.yaml:2:1: is not UTF-8"),
    (b"a: [", "not YAML"),
    (b"x" * (1 << 20) + b"x", "larger than 1 MiB"),
]


@pytest.mark.parametrize(("content", "problem"), UNREADABLE)
def test_what_is_no_configuration(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "hopgate.yaml"
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match=problem):
        load_config(path)


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be read: no such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(Misconfigured, match="cannot be read: is a directory"):
        load_config(tmp_path)


def test_paths_start_at_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    write_config(tmp_path / "etc", state="../var", rules=["r.yaml", "/abs.yaml"])
    monkeypatch.chdir(tmp_path)
    config = load_config(Path("etc/hopgate.yaml"))
    assert config.path == tmp_path / "etc/hopgate.yaml"
    assert config.state.resolve() == tmp_path / "var"
    assert config.rules == (tmp_path / "etc/r.yaml", Path("/abs.yaml"))


leaves = st.none() | st.booleans() | st.integers(-5, 99999) | st.text(max_size=8) | st.sampled_from(["http", "http://h", "127.0.0.1:1"])
keys = st.sampled_from(["name", "kind", "target", "issuers", "http", "x"])
json_values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8)
SECTIONS = ["version", "state", "rules", "identity", "connections", "listen", "tls", "ledger", "operators", "approvals", "recordings"]


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(SECTIONS), json_values, max_size=4))
def test_any_content_loads_or_is_misconfigured(tmp_path_factory: pytest.TempPathFactory, sections: dict[str, Any]) -> None:
    path = write_config(tmp_path_factory.getbasetemp(), **sections)
    with contextlib.suppress(Misconfigured):
        load_config(path)
