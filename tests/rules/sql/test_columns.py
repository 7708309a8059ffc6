"""Which columns of which relations a statement uses."""

from __future__ import annotations

import pytest

from rules.sql.session import SessionState
from tests.rules.sql.reading import STATE, names

CUSTOMERS = "public.customers"

ONE_RELATION = [
    ("select id, name from customers where email = 'x' order by age", {"id", "name", "email", "age"}),
    ("select c.id from customers c", {"id"}),
    ("select customers.id, public.customers.name, shop.public.customers.email from customers", {"id", "name", "email"}),
    ("select * from customers", {"*"}),
    ("select c.* from customers c", {"*"}),
    ("table customers", {"*"}),
    ("select c from customers c", {"*"}),
    ("select customers::text from customers", {"*"}),
    ("select row_to_json(c) from customers c", {"*"}),
    ("select c.row_to_json from customers c", {"*", "row_to_json"}),
    ("select (c).ssn from customers c", {"ssn", "c"}),
    ("select (c.address).city from customers c", {"address"}),
    ("select (c).row_to_json from customers c", {"*", "row_to_json", "c"}),
    ("select (c).* from customers c", {"*"}),
    ("select ssn as x from customers", {"ssn"}),
    ("select substr(ssn, 1, 99), max(ssn), coalesce(ssn, ''), ssn::text, ssn || '' from customers", {"ssn"}),
    ("select count(*) from customers", set()),
    ("select 1 as ssn from customers order by ssn", set()),
    ("select name from customers order by name", {"name"}),
    ("select 1 as ssn, array_agg(1 order by ssn) from customers", {"ssn"}),
    ("select 1 as ssn from customers order by ssn || ''", {"ssn"}),
    ("select 1 as ssn from customers group by ssn", {"ssn"}),
    ("select x.a from (select ssn as a from customers) x", {"ssn"}),
    ("select x.* from (select ssn from customers) x", {"ssn"}),
    ("with x as (select ssn from customers) select ssn, x from x", {"ssn"}),
    ("select id from customers union select ssn from customers order by id", {"id", "ssn"}),
    ("select x.ssn from customers as x (ssn, email)", {"*"}),
    ("select email from customers as x (ssn, email)", {"*"}),
    ("select id from customers where exists (select 1 where ssn = '1')", {"id", "ssn"}),
    ("select g from customers, generate_series(1, age) g", {"age", "g"}),
    ("select distinct on (ssn) id from customers window w as (partition by age)", {"ssn", "id", "age"}),
    ("select '1'::numeric(3, ssn) from customers", set()),
    ("insert into customers (id, ssn) values (1, '2')", {"id", "ssn"}),
    ("insert into customers values (1)", {"*"}),
    ("insert into customers default values", set()),
    ("insert into customers (id) values (1) on conflict (email) do update set name = excluded.ssn", {"id", "email", "name", "ssn"}),
    ("insert into customers (id) values (1) returning ssn", {"id", "ssn"}),
    ("insert into customers (id) values (1) returning with (old as before) before.ssn, new.age", {"id", "ssn", "age"}),
    ("update customers set name = ssn where id = 1", {"name", "ssn", "id"}),
    ("update customers c set (name, email) = (select ssn, c.age) where c.id = 1 returning *", {"name", "email", "ssn", "age", "id", "*"}),
    ("delete from customers where ssn = '1'", {"ssn"}),
    ("delete from customers c where c.ssn = '1' returning c.id", {"ssn", "id"}),
    ("copy customers (id, ssn) to stdout", {"id", "ssn"}),
    ("copy customers to stdout", {"*"}),
    ("copy customers from stdin", {"*"}),
    ("copy customers (id) from stdin where ssn > '1'", {"id", "ssn"}),
    ("copy (select ssn from customers) to stdout", {"ssn"}),
    ("create view v as select ssn from customers", {"ssn"}),
    ("create table t as select ssn from customers", {"ssn"}),
    ("explain select 1 from customers where ssn = '1'", {"ssn"}),
    ("prepare p as select ssn from customers", {"ssn"}),
    ("declare c cursor for select ssn from customers", {"ssn"}),
    ("create index i on customers (lower(ssn))", {"ssn"}),
    ("create table t (c int references customers (ssn))", {"ssn"}),
    ("grant select (ssn) on customers to bob", {"ssn"}),
    ("comment on column customers.ssn is 'x'", {"ssn"}),
    ("alter table customers rename column ssn to nothing", {"ssn", "nothing"}),
    ("create rule r as on update to customers where old.ssn <> new.ssn do nothing", {"ssn"}),
]


@pytest.mark.parametrize(("sql", "columns"), ONE_RELATION, ids=[row[0] for row in ONE_RELATION])
def test_columns_of_one_relation(sql: str, columns: set[str]) -> None:
    assert names(sql, "columns") == {f"{CUSTOMERS}.{column}" for column in columns}


SEVERAL = [
    ("select c.ssn, o.id from customers c join orders o on c.id = o.customer", {"c.ssn", "o.id", "c.id", "o.customer"}),
    ("select * from customers c, orders o", {"c.*", "o.*"}),
    ("select o.* from customers c, orders o", {"o.*"}),
    ("select 1 from customers join orders using (id)", {"c.id", "o.id"}),
    ("select 1 from customers natural join orders", {"c.*", "o.*"}),
    ("select j.* from (customers c join orders o on true) as j", {"c.*", "o.*"}),
    ("select c.row_to_json from customers c join orders o on true", {"c.*", "c.row_to_json"}),
    ("delete from orders o using customers c where c.ssn = o.ssn", {"c.ssn", "o.ssn"}),
    ("update orders set a = c.ssn from customers c where orders.id = c.id", {"o.a", "c.ssn", "o.id", "c.id"}),
    (
        "merge into orders o using customers c on o.id = c.id when matched and c.age > 1 then update set a = c.ssn",
        {"o.id", "c.id", "c.age", "o.a", "c.ssn"},
    ),
    ("insert into orders (a) select ssn from customers", {"o.a", "c.ssn"}),
    ("select 1 from orders o where exists (select 1 from customers c where c.ssn = o.a)", {"c.ssn", "o.a"}),
    ("select * from orders, lateral (select customers.ssn from customers) x", {"o.*", "c.ssn"}),
    ("with x as (select ssn from customers) select o.id, x.ssn from x, orders o", {"c.ssn", "o.id"}),
]


@pytest.mark.parametrize(("sql", "columns"), SEVERAL, ids=[row[0] for row in SEVERAL])
def test_columns_of_several_relations(sql: str, columns: set[str]) -> None:
    full = {"c": "public.customers", "o": "public.orders"}
    assert names(sql, "columns") == {f"{full[column[0]]}{column[1:]}" for column in columns}


@pytest.mark.parametrize(
    "sql",
    [
        "select ssn from customers, orders",
        "select 1 from orders where exists (select 1 from customers where ssn = '1')",
        "select j.ssn from (customers join orders on true) as j",
        "select ssn from orders ssn, customers",  # the column goes before the alias of that name
        "select q.x from (select 1 as ssn) q (x), customers, orders where ssn is null",
    ],
)
def test_a_column_of_one_of_several_stays_bare(sql: str) -> None:
    """`ssn` alone leaves a rule about `customers.ssn` unknown: it denies, masks, and permits nothing."""
    assert "ssn" in names(sql, "columns")


@pytest.mark.parametrize(
    "sql",
    [
        "select ssn from (select 1 as ssn) q, customers",
        "select ssn from (values (1)) q (ssn), customers",
        "with q (ssn) as (select 1) select ssn from q, customers",
    ],
)
def test_a_result_of_that_name_is_no_column(sql: str) -> None:
    assert names(sql, "columns") == set()


@pytest.mark.parametrize(
    ("schemas", "relation", "column"),
    [
        (("sales",), "sales.t", "sales.t.a"),
        (("sales", "public"), "t", "t.a"),
        ((), "t", "t.a"),
        (None, "t", "t.a"),
        (("sales", "pg_catalog"), "sales.t", "sales.t.a"),
    ],
)
def test_unqualified_names_are_those_of_a_search_path_with_one_schema(schemas: tuple[str, ...] | None, relation: str, column: str) -> None:
    state = SessionState(schemas=schemas)
    assert names("select a from t", "reads", state) == {relation}
    assert names("select a from t", "columns", state) == {column}


@pytest.mark.parametrize(
    ("sql", "name", "members"),
    [
        ('select "a.b" from "c.d"."e.f"', "columns", {("c.d", "e.f", "a.b")}),
        ('select 1 from "c.d"', "reads", {("public", "c.d")}),
        ('delete from "x"".y" where true', "writes", {("public", 'x".y')}),
        ('select "a.b"()', "functions", {("a.b",)}),
        (f"select 1 from {'n' * 70}", "reads", {"public." + "n" * 63}),  # the server cuts names at 63 bytes
        ("select 1 from ÄB", "reads", {"public.Äb"}),  # and folds ASCII only, in UTF-8
    ],
)
def test_odd_names(sql: str, name: str, members: set[object]) -> None:
    assert names(sql, name, STATE) == members
