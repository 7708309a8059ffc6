"""What ships: packs deny, hold or mask, never allow; examples load; the vocabulary is one."""

from __future__ import annotations

from importlib.resources import files

import pytest

from rules.load import load_rules
from rules.masking import NAMES
from rules.vocabulary import DETECTORS
from tests.rules.given import judged, request

PACKS = {entry.name: entry.read_text() for entry in files("rules").joinpath("packs").iterdir() if entry.name.endswith(".yaml")}
EXAMPLES = {entry.name: entry.read_text() for entry in files("rules").joinpath("examples").iterdir() if entry.name.endswith(".yaml")}
ALLOW = (
    "allow.yaml",
    "version: 1\nrules: [{id: all, on: http, effect: allow}, {id: odd, on: http, match: {complete: false}, effect: allow}]\n",
)


def test_the_shipped_packs() -> None:
    assert {"http-defaults.yaml", "secrets.yaml", "pii.yaml"} <= set(PACKS)
    assert "agents-http.yaml" in EXAMPLES


@pytest.mark.parametrize("name", sorted(PACKS))
def test_packs_only_deny_hold_or_mask(name: str) -> None:
    rules = load_rules([(name, PACKS[name])], issuers=("corp", "ci"))
    assert len(rules) > 0
    assert {rule.effect for rule in rules.rules} <= {"deny", "hold", "mask"}


def test_all_packs_and_examples_load_together() -> None:
    load_rules([*PACKS.items(), *EXAMPLES.items()], issuers=("corp",))


def test_detectors_are_those_that_masking_has() -> None:
    assert set(DETECTORS) == set(NAMES)


@pytest.mark.parametrize(
    ("operation", "rule"),
    [
        (request("TRACE"), "http-no-trace"),
        (request("GET", "/.git/config"), "http-no-repository-files"),
        (request("GET", "/a/.env"), "http-no-repository-files"),
        (request("GET", "/a/.env.local"), "http-no-repository-files"),
        (request("GET", "/actuator/env"), "http-no-debug-endpoints"),
        (request("GET", "/app/Actuator/heapdump"), "http-no-debug-endpoints"),
        (request("GET", "/debug/pprof/heap"), "http-no-debug-endpoints"),
        (request("GET", "/x", host="169.254.169.254"), "http-no-cloud-metadata"),
        (request("GET", "/x", host="Metadata.Google.Internal."), "http-no-cloud-metadata"),
        (request("POST", "/x", ("x-http-method-override", "DELETE")), "http-no-method-override"),
        (request("GET", "/x", ("X-Original-Url", "/admin")), "http-no-path-override"),
        (request("GET", "/a/..%2f.git/config"), "http-no-repository-files"),
        (request("GET", "/v1/customers"), None),
        (request("GET", "/actuator/health"), None),
        (request("GET", "/environment"), None),
        (request("GET", "/debugging/pprof"), None),
        (request("DELETE", "/v1/customers/7?x=1"), None),
    ],
)
def test_http_defaults(operation: object, rule: str | None) -> None:
    rules = load_rules([("http-defaults.yaml", PACKS["http-defaults.yaml"]), ALLOW])
    decision = judged(operation, rules)  # type: ignore[arg-type]
    assert decision.effect == ("allow" if rule is None else "deny")
    if rule is not None:
        assert rule in decision.rules
