"""Which conditions leave every row of the target in."""

from __future__ import annotations

import pytest

from tests.rules.sql.reading import fact

EVERYTHING = [
    "true",
    "1 = 1",
    "'a' = 'a'",
    "1 <> 2",
    "2 > 1",
    "not false",
    "'t'::bool",
    "true is true",
    "1 is not null",
    "1 + 1 = 2",
    "$1",
    "$1 = 5",
    "$1 = $1",
    "lower('a') = 'a'",
    "random() < 2",
    "now() > '2000-01-01'",
    "id = id",
    "t.id = id",
    "t.id = public.t.id",
    "id >= id",
    "id is not distinct from id",
    "name like name",
    "ctid is not null",
    "t.tableoid is not null",
    "id = 1 or true",
    "id = 1 or 1 = 1",
    "true and 1 = 1",
    "id = 1 or not (2 = 3)",
    "id is null or id is not null",
    "id = 1 or id <> 1",
    "id < 5 or name = 'x' or t.id >= 5",
    "active or not active",
    "$1 is null or id = $1",
    "id is not null or true",
    "exists (select 1)",
    "exists (select 1 from u where u.x = 1)",
    "(select true)",
    "coalesce(true, active)",
    "case when true then true end",
    "case when id = 1 then true else true end",
    "not (id = 1 and false)",
    "not not not not true",
    "(((1 = 1)))",
    "1 in (1, 2)",
    "true or id in (select id from u)",
]
SOME = [
    "id = 1",
    "t.id = $1",
    "1 = id",
    "id in (1, 2)",
    "id = any ($1)",
    "id between 1 and 2",
    "name like 'a%'",
    "id is null",
    "id is not null",
    "active",
    "not active",
    "active is true",
    "false",
    "1 = 2",
    "id <> id",
    "null",
    "id = 1 and true",
    "id = 1 or name = 'x'",
    "id = 1 or false",
    "id = 1 or id <> 2",
    "lower(name) = 'x'",
    "id in (select id from u)",
    "exists (select 1 from u where u.id = t.id)",
    "exists (select 1 from u where id = x)",
    "not exists (select 1 from u where u.id = t.id)",
    "current of c",
    "case when id = 1 then true else false end",
    "coalesce(active, false)",
    "(id, name) = (1, 'x')",
    "id = (select max(id) from u)",
]


@pytest.mark.parametrize("condition", EVERYTHING)
def test_it_holds_for_every_row(condition: str) -> None:
    assert fact(f"delete from t where {condition}", "unbounded") is True
    assert fact(f"update t set a = 1 where {condition}", "unbounded") is True


@pytest.mark.parametrize("condition", SOME)
def test_it_restricts_rows(condition: str) -> None:
    assert fact(f"delete from t where {condition}", "unbounded") is False
    assert fact(f"update t set a = 1 where {condition}", "unbounded") is False


@pytest.mark.parametrize(
    ("sql", "unbounded"),
    [
        ("delete from t using u where u.x = 1", True),
        ("delete from t using u where t.id = u.id", False),
        ("delete from t as x using u as t where t.id = 1", True),
        ("delete from t as x where x.id = 1", False),
        ("update t set a = 1 from u where u.id = 1", True),
        ("update t set a = 1 from u, v where u.id = v.id and t.id = u.id", False),
        ("delete from t where " + "not " * 400 + "true", True),  # too deep to look into: called unbounded
        ("delete from t where " + "not " * 100 + "(id = 1)", False),
        ("prepare p as delete from t", True),
        ("explain delete from t", False),
        ("explain analyze delete from t", True),
        ("create rule r as on insert to t do delete from u", False),
        ("with x as (delete from t returning 1) select 1", True),
        ("select 1", False),
        ("truncate t", False),
        ("insert into t values (1) on conflict (a) do update set b = 1", False),
        ("merge into t using s on s.x = 1 when matched then delete", True),
        ("merge into t using s on s.x = 1 when matched and t.id = 1 then delete", False),
        ("merge into t using s on 1 = 1 when not matched then insert values (1)", False),
    ],
)
def test_targets_and_wrappings(sql: str, unbounded: bool) -> None:
    assert fact(sql, "unbounded") is unbounded
