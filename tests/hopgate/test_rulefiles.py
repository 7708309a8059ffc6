"""Rule files: which are in force, and what a change on disk does."""

from __future__ import annotations

import asyncio
import os
from importlib.resources import files
from pathlib import Path

import pytest

from hopgate.errors import Misconfigured
from hopgate.rulefiles import SETTLED, RuleFiles, load_rule_set, rule_paths
from tests.doubles import make_config

ALLOW = "version: 1\nrules:\n  - {id: %s, on: http, effect: allow, who: {groups: [a]}}\n"
PACKS = Path(str(files("rules"))) / "packs"


def ids(rules: RuleFiles) -> list[str]:
    return sorted(rule.id for rule in rules.current.rules)


def test_the_shipped_packs_are_meant_where_there_is_no_such_directory(tmp_path: Path) -> None:
    assert rule_paths(make_config(tmp_path, rules=["rules/packs/"])) == tuple(sorted(PACKS.glob("*.yaml")))
    assert rule_paths(make_config(tmp_path, rules=["rules/packs/secrets.yaml"])) == (PACKS / "secrets.yaml",)


def test_a_directory_of_that_name_beside_the_configuration_comes_first(tmp_path: Path) -> None:
    (tmp_path / "rules/packs").mkdir(parents=True)
    for name in ("b.yaml", "a.yaml", "c.txt"):
        (tmp_path / "rules/packs" / name).write_text(ALLOW % name[0])
    assert [path.name for path in rule_paths(make_config(tmp_path, rules=["rules/packs", "rules/packs/b.yaml"]))] == ["a.yaml", "b.yaml"]


def test_every_path_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Misconfigured) as caught:
        rule_paths(make_config(tmp_path, rules=["none.yaml", "empty", "rules/packs/none.yaml", "other/packs"]))
    assert len(caught.value.problems) == 4
    assert "rules[0]: " in caught.value.problems[0]
    assert "holds no *.yaml" in caught.value.problems[1]


def test_problems_carry_the_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ALLOW % "x" + "  - {id: y, on: http, efect: deny}\n")
    with pytest.raises(Misconfigured) as caught:
        load_rule_set(make_config(tmp_path, rules=["a.yaml"]))
    assert any(each.startswith(f"{tmp_path / 'a.yaml'}:4:") for each in caught.value.problems)


@pytest.mark.parametrize(("content", "problem"), [(b"\xff", "is not UTF-8"), (b"#" * (4 << 20) + b"#", "larger than 4 MiB")])
def test_what_is_no_rule_file(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(Misconfigured, match=problem):
        load_rule_set(make_config(tmp_path, rules=["a.yaml"]))


async def test_a_change_on_disk_is_in_force_after_refresh(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(ALLOW % "one")
    rules = RuleFiles(make_config(tmp_path, rules=["a.yaml"]))
    before = rules.current
    assert not await rules.refresh()
    assert rules.current is before
    file.write_text(ALLOW % "another")
    assert await rules.refresh()
    assert ids(rules) == ["another"]
    assert rules.current.version != before.version


async def test_a_broken_or_deleted_file_leaves_the_old_rules_in_force(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(ALLOW % "one")
    rules = RuleFiles(make_config(tmp_path, rules=["a.yaml"]))
    before = rules.current
    file.write_text("version: 1\nrules: [")
    assert not await rules.refresh()
    assert rules.current is before
    assert rules.error is not None
    assert str(file) in str(rules.error)
    told = rules.error
    assert not await rules.refresh()
    assert rules.error is told  # what has not changed is not read again
    file.unlink()
    assert not await rules.refresh()
    assert rules.current is before
    assert "does not exist" in str(rules.error)
    file.write_text(ALLOW % "two")
    assert await rules.refresh()
    assert ids(rules) == ["two"]
    assert not rules.error


async def test_a_file_replaced_by_one_of_the_same_size_and_time_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(ALLOW % "one")
    rules = RuleFiles(make_config(tmp_path, rules=["a.yaml"]))
    status = file.stat()
    (tmp_path / "new").write_text(ALLOW % "two")
    os.utime(tmp_path / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / "new").replace(file)
    assert await rules.refresh()
    assert ids(rules) == ["two"]


async def test_a_file_changed_in_place_with_its_old_size_and_time_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(ALLOW % "one")
    rules = RuleFiles(make_config(tmp_path, rules=["a.yaml"]))
    status = file.stat()
    file.write_text(ALLOW % "two")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert await rules.refresh()
    assert ids(rules) == ["two"]


async def test_a_file_that_is_being_written_is_not_in_force(tmp_path: Path) -> None:
    """Its first half loads, and has the permissions without the denials."""
    file = tmp_path / "a.yaml"
    whole = ALLOW % "one" + "  - {id: two, on: http, effect: deny}\n"
    file.write_text(whole)
    rules = RuleFiles(make_config(tmp_path, rules=["a.yaml"]))
    before = rules.current
    file.write_text(ALLOW % "one")
    refreshing = asyncio.ensure_future(rules.refresh())
    while not refreshing.done():
        await asyncio.sleep(SETTLED / 20)
        with file.open("a") as writing:
            writing.write(" ")
    assert not await refreshing
    assert rules.current is before
    file.write_text(whole + "# changed\n")
    assert await rules.refresh()
    assert ids(rules) == ["one", "two"]


async def test_a_file_added_to_a_directory_is_seen(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r/a.yaml").write_text(ALLOW % "one")
    rules = RuleFiles(make_config(tmp_path, rules=["r"]))
    (tmp_path / "r/b.yaml").write_text(ALLOW % "two")
    assert await rules.refresh()
    assert ids(rules) == ["one", "two"]


def test_a_broken_file_at_the_start_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("version: 1\nrules: [")
    with pytest.raises(Misconfigured):
        RuleFiles(make_config(tmp_path, rules=["a.yaml"]))


def test_reviewers_of_the_configuration_are_the_default_of_holds(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("version: 1\nrules:\n  - {id: h, on: http, match: {method: POST}, effect: hold}\n")
    with pytest.raises(Misconfigured, match="reviewers"):
        load_rule_set(make_config(tmp_path, rules=["a.yaml"]))
    load_rule_set(make_config(tmp_path, rules=["a.yaml"], approvals={"reviewers": ["dba"]}))
