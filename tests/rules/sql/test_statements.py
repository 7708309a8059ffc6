# ruff: noqa: E501 - a row is a line
"""Statement -> facts, one row each. What a row does not name must be empty, so that nothing is hidden and nothing invented."""

from __future__ import annotations

import pytest

from rules.sql.postgres import statements
from rules.vocabulary import SQL_EFFECTS, SQL_VERBS
from tests.rules.sql.reading import fact, names, read

# statement | verbs | effects | reads | writes; then unbounded where it is true
TABLE = """
-- queries
select 1 | select | read | |
select id from customers | select | read | public.customers |
values (1), (2) | select | read | |
table customers | select | read | public.customers |
select * from sales.orders o join customers c using (id) | select | read | sales.orders public.customers |
select * from a, only b, lateral (select * from c) x | select | read | public.a public.b public.c |
select 1 where exists (select 1 from a) and 2 = any (select x from b) | select | read | public.a public.b |
select (select x from a) + (select x from b) | select | read | public.a public.b |
select * from a union all select * from b except select * from c | select | read | public.a public.b public.c |
select * from a tablesample system (10) | select | read | public.a |
select * from generate_series(1, 3) g | select | read | |
select * from rows from (generate_series(1, 3), unnest('{1}'::int[])) with ordinality | select | read | |
select * from json_table('[]'::jsonb, '$[*]' columns (x int path '$.x')) j | select | read | |
select * from xmltable('/a' passing ('<a/>'::xml) columns x int path 'x') x | select | read | |
select json_object('a': 1), json_array(select 1), json_query('{}', '$.a'), '{}' is json | select | read | |
select * from a order by x limit (select n from b) | select | read | public.a public.b |
select count(*) filter (where x > 1) over (partition by y order by z) from a group by cube (x, y) having max(x) > 1 | select | read | public.a |
select x from a for update of a skip locked | select | read lock | public.a |
select x from a for share | select | read lock | public.a |
select * into b from a | select create | read ddl write | public.a | public.b
select relname from pg_class | select | read | pg_catalog.pg_class |
select * from pg_largeobject | select | read large_object | pg_catalog.pg_largeobject |
select * from pg_hba_file_rules | select | read server_file_read | pg_catalog.pg_hba_file_rules |
select current_user, extract(year from now()), trim(x), x at time zone 'utc', (a, b) overlaps (c, d) from t | select | read | public.t |
; ; | other | read | |
-- nothing but a comment | other | read | |
/* nothing /* nested */ but a comment */ | other | read | |
-- with
with a as (select * from b) select * from a | select | read | public.b |
with a as (select 1), b as (select * from a) select * from b | select | read | |
with a as (select * from b), b as (select 1) select * from b | select | read | public.b |
with recursive a as (select 1 union all select * from a) select * from a | select | read | |
with a as (select 1) select * from public.a | select | read | public.a |
with a as (select 1) select * from (select * from a) x, (with a as (select * from b) select * from a) y | select | read | public.b |
with x as (delete from t where id = 1 returning *) select * from x | select delete | read write | public.t | public.t
with x as (delete from t) select 1 | select delete | read write | | public.t | unbounded
with x as (insert into a values (1)), y as (update b set c = 1 where d = 2) select 1 | select insert update | read write | | public.a public.b
with x as (select 1 from (with y as (update t set a = 1) select 1) z) select * from x | select update | read write | | public.t | unbounded
with "delete" as (select 1) select * from "delete" | select | read | |
-- changes
insert into t values (1) | insert | write | | public.t
insert into t default values | insert | write | | public.t
insert into t (a) values ((select max(a) from u)) | insert | write read | public.u | public.t
insert into t select * from u | insert | write read | public.u | public.t
insert into t values (1) returning a | insert | write read | public.t | public.t
insert into t values (1) on conflict (a) do nothing | insert | write | | public.t
insert into t values (1) on conflict (a) do update set b = excluded.b where t.c > 1 | insert update | write | | public.t
insert into t with x as (delete from u where a = 1 returning *) select * from x | insert delete | write read | public.u | public.t public.u
insert into t with x as (delete from u where a = 1) values (1) | insert delete | write read | | public.t public.u
with s as (select 1) insert into t select * from s | insert | write read | | public.t
update t set a = 1 where id = 2 | update | write | | public.t
update t set a = a + 1 | update | write | | public.t | unbounded
update t set a = u.a from u where t.id = u.id | update | write read | public.u | public.t
update t set (a, b) = (select x, y from u where u.id = t.id) where id = 1 | update | write read | public.u | public.t
update t set a = 1 where id = 2 returning old.a, new.a | update | write read | public.t | public.t
update t set a[1] = 2, b.c = 3 where id = 1 | update | write | | public.t
delete from t where id = 1 | delete | write | | public.t
delete from only t as x where x.id = 1 | delete | write | | public.t
delete from t | delete | write | | public.t | unbounded
delete from t using u where t.id = u.id | delete | write read | public.u | public.t
delete from t where id in (select id from u) | delete | write read | public.u | public.t
delete from t where id in (select id from t) | delete | write read | public.t | public.t
delete from t where current of c | delete | write | | public.t
merge into t using s on t.id = s.id when matched then update set a = 1 | merge update | read write | public.s | public.t
merge into t using s on t.id = s.id when matched then delete when not matched then insert values (1) | merge insert delete | read write | public.s | public.t
merge into t using (select * from s) q on t.id = q.id when not matched then insert (a) values (q.a) | merge insert | read write | public.s | public.t
merge into t using s on t.id = s.id when matched then do nothing | merge | read | public.s public.t |
merge into t using s on true when matched then delete | merge delete | read write | public.s | public.t | unbounded
merge into t using s on t.id = s.id when not matched by source then delete | merge delete | read write | public.s | public.t | unbounded
merge into t using s on t.id = s.id when not matched by source and t.x > 1 then delete | merge delete | read write | public.s | public.t
merge into t using s on t.id = s.id when matched then update set a = 1 returning merge_action(), t.* | merge update | read write | public.s public.t | public.t
update pg_settings set setting = 'bob' where name = 'role' | update | write ddl access_control settings lexer_state identity_change | | pg_catalog.pg_settings
update pg_authid set rolsuper = true where rolname = 'x' | update | write ddl access_control | | pg_catalog.pg_authid
truncate a, s.b | truncate | write | | public.a s.b
truncate a cascade | truncate | write | | public.a *
truncate a restart identity | truncate | write sequence | | public.a
-- explain
explain select * from a | explain | read | public.a |
explain delete from t | explain | read | public.t |
explain (verbose, analyze false) delete from t | explain | read | public.t |
explain (analyze off) delete from t | explain | read | public.t |
explain (analyze 0) delete from t | explain | read | public.t |
explain analyze delete from t where id = 1 | explain delete | read write | | public.t
explain analyse delete from t where id = 1 | explain delete | read write | | public.t
explain (analyze) delete from t where id = 1 | explain delete | read write | | public.t
explain (analyze off, analyze) delete from t where id = 1 | explain delete | read write | | public.t
explain (analyze, analyze off) delete from t where id = 1 | explain delete | read write | | public.t
explain (analyze 'true') delete from t where id = 1 | explain delete | read write | | public.t
explain (analyze 1) delete from t where id = 1 | explain delete | read write | | public.t
explain (analyze maybe) delete from t where id = 1 | explain delete | read write | | public.t
explain select pg_sleep(1), lo_export(1, 'x') | explain | read sleep large_object server_file_write | |
explain analyze create table b as select * from a | explain create | read ddl write | public.a | public.b
explain create table b as select * from a | explain | read | public.a public.b |
-- prepare, cursors
prepare p as select * from a | prepare select | read | public.a |
prepare p (int) as delete from t | prepare delete | write | | public.t | unbounded
prepare p as insert into t values ($1) | prepare insert | write | | public.t
deallocate p | deallocate | read | |
deallocate all | deallocate | read | |
declare c cursor for select * from a | cursor select | read | public.a |
declare c cursor with hold for select pg_sleep(1) from a for update | cursor select | read sleep lock | public.a |
fetch 10 from c | fetch | read | |
move forward all in c | fetch | read | |
close c | cursor | read | |
close all | cursor | read | |
-- copy
copy a to stdout | copy_out | read bulk_export | public.a |
copy a (id) to stdout with (format csv) | copy_out | read bulk_export | public.a |
copy (select * from a) to stdout | copy_out select | read bulk_export | public.a |
copy (delete from t returning *) to stdout | copy_out delete | read write bulk_export | public.t | public.t | unbounded
copy a from stdin | copy_in | write bulk_import | | public.a
copy a from stdin where x > 1 | copy_in | write bulk_import | | public.a
copy a from '/etc/passwd' | copy_in | write bulk_import server_file_read | | public.a
copy a to '/tmp/x' | copy_out | read bulk_export server_file_write | public.a |
copy a from program 'curl x' | copy_in | write bulk_import os_command | | public.a
copy (select 1) to program 'sh' | copy_out select | read bulk_export os_command | |
-- definitions
create table t (id int primary key, c int references u (id), check (c > 0)) | create | ddl | public.u | public.t
create table t (d text default f()) | create | ddl calls_unknown_function | | public.t
create table t (id serial, g int generated always as (id * 2) stored) | create | ddl | | public.t
create table t (like u including all) inherits (v) partition by range (id) | create | ddl | public.u public.v | public.t
create table p partition of t for values from (1) to (2) | create | ddl | public.t | public.p
create temp table t as select * from a | create | ddl write read | public.a | pg_temp.t
create table t as execute p | create execute | ddl write dynamic_sql | | public.t | incomplete
create materialized view m as select * from a | create | ddl write read | public.a | public.m
create view v as select ssn from customers | create | ddl read | public.customers | public.v
create view v as select pg_read_file('x') | create | ddl read server_file_read | | public.v
create rule r as on insert to t do instead (delete from a; update b set x = new.y) | create | ddl write | | public.t public.a public.b
create index i on t (lower(x)) where y > 1 | create | ddl | | public.t
create schema s create table t (a int) create view v as select 1 grant select on t to x | create grant | ddl read access_control | | s.* s.t s.v t
create sequence s | create | ddl | | public.s
create function f() returns int language sql as 'delete from t' | create | ddl | |
create function f() returns int language c as 'x' | create | ddl code_load | |
create function f() returns int language plpython3u as 'x' | create | ddl code_load | |
create function f() returns int set role = 'x' language sql as 'select 1' | create | ddl | |
create function f() returns int begin atomic delete from t; select 1; end | create | ddl write read | | public.t
create procedure f() language plpgsql as 'begin end' | create | ddl | |
alter function f() security definer | alter | ddl access_control | |
create trigger g after insert on t for each row execute function f() | create | ddl calls_unknown_function | | public.t
create event trigger e on ddl_command_start execute function f() | create | ddl | |
create type t as enum ('a') | create | ddl | |
create type t as (a int) | create | ddl | | public.t
create domain d as int check (value > f(1)) | create | ddl calls_unknown_function | |
create operator + (function = f, leftarg = int) | create | ddl | |
create aggregate a (int) (sfunc = f, stype = int) | create | ddl | |
create cast (a as b) with function f(a) | create | ddl | |
create extension dblink | create | ddl code_load | |
alter extension x update | alter | ddl code_load | |
create language plperlu | create | ddl code_load | |
create access method x type index handler h | create | ddl code_load | |
create server s foreign data wrapper postgres_fdw options (host 'x') | create | ddl network | |
create user mapping for bob server s options (password 'x') | create | ddl network access_control | |
create foreign table f (a int) server s options (filename '/etc/passwd') | create | ddl network server_file_read | | public.f
create foreign table f (a int) server s options (program 'id') | create | ddl network os_command | | public.f
import foreign schema x from server s into y | create | ddl network | |
create subscription s connection 'host=x' publication p | create | ddl network | |
create publication p for table t where (a > 1) | create | ddl | public.t |
create tablespace x location '/x' | create | ddl server_file_write | |
create database x | create | ddl | |
create statistics s on a, b from t | create | ddl | public.t |
alter table t add column a int default f(), drop column b | alter | ddl calls_unknown_function | | public.t
alter table t drop column b cascade | alter | ddl | | public.t *
alter table t owner to bob | alter | ddl access_control | | public.t
alter table t disable row level security | alter | ddl access_control | | public.t
alter table t attach partition p default | alter | ddl | public.p | public.t public.p
alter table t alter column a type int using f(a) | alter | ddl calls_unknown_function | | public.t
alter table t rename to u | rename | ddl | | public.t public.u
alter table t rename column a to b | rename | ddl | | public.t
alter table t set schema s | alter | ddl | | public.t s.t
alter schema s rename to u | rename | ddl | | s.*
alter sequence s restart with 1 | alter | ddl sequence | | public.s
alter type t add value 'x' | alter | ddl | |
alter view v owner to bob | alter | ddl access_control | | public.v
alter function f() owner to bob | alter | ddl access_control | |
alter role a rename to b | rename | ddl access_control | |
drop table a, s.b | drop | ddl | | public.a s.b
drop table a cascade | drop | ddl | | public.a *
drop schema s | drop | ddl | | s.*
drop function f(int) | drop | ddl | |
drop trigger g on t | drop | ddl | | public.t
drop policy p on t | drop | ddl access_control | | public.t
drop database x | drop | ddl | |
drop owned by x | drop | ddl access_control | | *
comment on table t is 'x' | comment | ddl | | public.t
comment on column s.t.c is 'x' | comment | ddl | | s.t
security label on table t is 'x' | alter | access_control | |
-- who may what
grant select on t to bob | grant | access_control | | public.t
grant all on all tables in schema s to public | grant | access_control | | s.*
grant admin to bob | grant | access_control | |
revoke select (a) on t from bob | revoke | access_control | | public.t
revoke admin from bob | revoke | access_control | |
alter default privileges in schema s grant select on tables to bob | alter grant | access_control | |
reassign owned by a to b | alter | ddl access_control | | *
create role bob superuser password 'x' | create | access_control | |
create user bob | create | access_control | |
alter role bob with password 'x' | alter | access_control | |
alter user bob set search_path = x | alter | access_control settings lexer_state | |
drop role bob | drop | access_control | |
create policy p on t using (a = current_user) | create | ddl access_control | | public.t
alter policy p on t using (f(a)) | alter | ddl access_control calls_unknown_function | | public.t
-- the session
set role bob | set role_change | identity_change | |
set local role none | set role_change | identity_change | |
reset role | reset role_change | identity_change | |
set session authorization bob | set role_change | identity_change | |
set "Role" to bob | set role_change | identity_change | |
set search_path = evil, public | set | lexer_state | |
set schema 'evil' | set | lexer_state | |
set standard_conforming_strings = off | set | lexer_state | |
set standard_conforming_strings = on | set | read | |
set standard_conforming_strings to default | set | lexer_state | |
set names 'sjis' | set | lexer_state | |
set names 'utf8' | set | read | |
set client_encoding to 'UTF8' | set | read | |
set statement_timeout = 0 | set | read | |
set time zone 'UTC' | set | read | |
set application_name = 'x' | set | read | |
set session_replication_role = replica | set | settings access_control | |
set row_security = off | set | settings access_control | |
set work_mem = '1GB' | set | settings | |
set my.own = 1 | set | settings | |
set session_preload_libraries = 'x' | set | settings code_load | |
set constraints all deferred | set | read | |
set transaction isolation level serializable | set | read | |
set transaction read only | set | read | |
set transaction read write | set | read settings | |
set session characteristics as transaction read write | set | read settings | |
reset all | reset | settings lexer_state identity_change | |
reset work_mem | reset | settings | |
discard all | reset role_change | settings lexer_state identity_change | |
discard plans | reset | read | |
discard temp | reset | ddl | |
show all | show | read | |
show search_path | show | read | |
begin | begin | read | |
start transaction isolation level serializable read only | begin | read | |
commit | commit | read | |
end | commit | read | |
rollback and chain | rollback | read | |
abort | rollback | read | |
savepoint a | savepoint | read | |
release a | savepoint | read | |
rollback to a | rollback | read | |
prepare transaction 'x' | other | write lock | |
commit prepared 'x' | commit | write | |
rollback prepared 'x' | rollback | write | |
-- the server
alter system set archive_command = 'x' | alter | server_control settings os_command | |
alter system reset all | alter | server_control settings lexer_state identity_change | |
alter database x set search_path = y | alter | ddl settings lexer_state | |
load 'x' | load | code_load | |
checkpoint | maintenance | maintenance server_control | |
vacuum full a | maintenance | maintenance | public.a |
vacuum | maintenance | maintenance | |
analyze a (x) | maintenance | maintenance | public.a |
reindex table a | maintenance | maintenance | public.a |
cluster a using i | maintenance | maintenance | public.a |
refresh materialized view concurrently m | maintenance | maintenance write | | public.m
lock table a in access exclusive mode | lock | lock | public.a |
listen x | listen | messaging | |
unlisten * | listen | messaging | |
notify x, 'y' | notify | messaging | |
do $$ begin delete from t; end $$ | do | dynamic_sql | * | *
do language plpython3u $$ x $$ | do | dynamic_sql code_load | * | *
call p(1) | call | dynamic_sql calls_unknown_function | * | *
call p((select max(a) from t)) | call | dynamic_sql calls_unknown_function read | * public.t | *
-- functions
select now(), lower('A'), count(*), concat(1, 2, 3), row_number() over () | select | read | |
select percentile_cont(0.5) within group (order by x) from a | select | read | public.a |
select f(1) | select | read calls_unknown_function | |
select lower('a', 'b', 'c') | select | read calls_unknown_function | |
select public.lower('a') | select | read calls_unknown_function | |
select 1 operator(public.+) 2 | select | read calls_unknown_function | |
select '[1]' <=> '[2]' | select | read calls_unknown_function | |
select * from f(1) | select | read calls_unknown_function | |
select nextval('s'), setval('s', 1) | select | read sequence | |
select currval('s'), lastval() | select | read | |
select pg_sleep(10) | select | read sleep | |
select "pg_sleep"(1), PG_SLEEP(1), pg_catalog.pg_sleep(1) | select | read sleep | |
select U&"pg\\005fsleep"(1) | select | read sleep | |
select pg_read_file('/etc/passwd') | select | read server_file_read | |
select ('/etc/passwd').pg_read_file | select | read server_file_read | |
select (c.name).pg_read_file from customers c | select | read server_file_read | public.customers |
select (x).pg_sleep from (select 5::float8 x) q | select | read sleep | |
select ((array['/etc/passwd'])[1]).pg_read_file | select | read server_file_read | |
select x.pg_read_file from unnest(array['/etc/passwd']) x | select | read server_file_read | |
select pg_read_file.pg_read_file from unnest(array['/etc/passwd']) pg_read_file(y) | select | read server_file_read | |
select unnest.pg_read_file from unnest(array['/etc/passwd']) | select | read server_file_read | |
select "text".pg_read_file from cast('/etc/passwd' as text) | select | read server_file_read | |
select (5).delete_customer | select | read calls_unknown_function | |
select ($1).delete_customer | select | read calls_unknown_function | |
select (id).delete_customer from customers id | select | read calls_unknown_function | public.customers |
select x.delete_customer from generate_series(1, 5) x | select | read calls_unknown_function | |
select (customers).email, (5).abs from customers | select | read | public.customers |
select e.key, e.value, (json_each('{}')).key, x.x from json_each('{}') e, generate_series(1, 5) x | select | read | |
select e.a, e.b from json_to_recordset('[]') as e(a int, b int) | select | read | |
select (address).city from customers | select | read calls_unknown_function | public.customers |
select * from pg_ls_dir('.') | select | read server_file_read | |
select pg_stat_file('x') | select | read server_file_read | |
select lo_export(1, '/tmp/x') | select | read large_object server_file_write | |
select lo_import('/etc/passwd') | select | read large_object server_file_read write | |
select lo_get(1) | select | read large_object | |
select lo_put(1, 0, 'x'), lowrite(1, 'x'), lo_unlink(1) | select | read large_object write | |
select pg_terminate_backend(1) | select | read server_control | |
select pg_cancel_backend(1), pg_reload_conf(), pg_rotate_logfile() | select | read server_control | |
select pg_advisory_lock(1) | select | read lock | |
select pg_notify('a', 'b') | select | read messaging | |
select set_config('role', 'bob', false) | select | read identity_change | |
select set_config('search_path', 'x', true) | select | read lexer_state | |
select set_config('application_name', 'x', true) | select | read | |
select set_config('ro' || 'le', 'bob', false) | select | read settings lexer_state identity_change | |
select set_config(setting_name => 'role', new_value => 'bob', is_local => false) | select | read settings lexer_state identity_change | |
select query_to_xml('delete from t returning 1', true, false, '') | select | read dynamic_sql | * |
select table_to_xml('customers', true, false, '') | select | read dynamic_sql | * |
select * from dblink('host=x', 'select 1') as t(a int) | select | read network dynamic_sql | * |
select dblink_connect('x'), public.dblink_exec('x') | select | read network dynamic_sql calls_unknown_function | * |
select * from pg_logical_slot_get_changes('s', null, null) | select | read server_control | * |
select brin_summarize_new_values('i') | select | read maintenance | |
select txid_current(), gen_random_uuid(), random() | select | read | |
-- names
select * from shop.public.t | select | read | public.t |
select * from other.public.t | select | read | other.public.t |
select * from "Customers" | select | read | public.Customers |
select * from CUSTOMERS | select | read | public.customers |
select * from U&"cust\\006Fmers" | select | read | public.customers |
select * from U&"cust!006Fmers" uescape '!' | select | read | public.customers |
select * from pg_temp.t | select | read | pg_temp.t |
select * from information_schema.tables | select | read | information_schema.tables |
-- text that only looks like something else
select 'delete from t; drop table u' | select | read | |
select E'\\'; drop table u; --' | select | read | |
select $$; drop table u; $$, $a$ $$ ; delete from t $a$ | select | read | |
select "delete" from "drop" | select | read | public.drop |
select 1 as delete, 2 as drop | select | read | |
select 1 /* ; delete from t /* nested */ ; drop table u */ | select | read | |
select 1 -- ; delete from t | select | read | |
select $1::text, $2 | select | read | |
"""


def rows() -> list[tuple[str, ...]]:
    found = []
    for line in TABLE.strip().splitlines():
        sql, *fields = line.split(" | ") if " | " in line else (line,)
        fields = [field.strip(" |") for field in "|".join(fields).split("|")] if fields else []
        if fields:
            found.append((sql.replace("\\\\", "\\"), *(fields + [""] * 5)[:5]))
    return found


ROWS = rows()


@pytest.mark.parametrize(("sql", "verbs", "effects", "reads", "writes", "flags"), ROWS, ids=[row[0] for row in ROWS])
def test_a_statement_has_these_facts(sql: str, verbs: str, effects: str, reads: str, writes: str, flags: str) -> None:
    operation = read(sql)
    assert operation.facts.get("reason") == "" or flags == "incomplete", operation.reason
    assert {name: names(sql, name) for name in ("verbs", "effects", "reads", "writes")} == {
        "verbs": set(verbs.split()),
        "effects": set(effects.split()),
        "reads": set(reads.split()),
        "writes": set(writes.split()),
    }
    assert fact(sql, "unbounded") is (flags == "unbounded")
    assert operation.complete is (flags != "incomplete")
    assert operation.writes is (set(effects.split()) != {"read"})


def test_the_table_covers_the_vocabulary() -> None:
    verbs = {verb for row in ROWS for verb in row[1].split()}
    effects = {effect for row in ROWS for effect in row[2].split()}
    # kill, use and replication belong to other dialects and protocols, unknown to texts that are not read
    assert SQL_VERBS - verbs == {"kill", "use", "replication", "unknown"}
    assert effects == SQL_EFFECTS
    assert verbs <= SQL_VERBS


def test_every_statement_of_a_text_is_a_part() -> None:
    operation = read("select 1; delete from t;; insert into u values (1)")
    assert [part.facts.get("verbs") for part in statements(operation)] == [("select",), ("delete",), ("insert",)]
    assert set(operation.facts.get("verbs")) == {"select", "delete", "insert"}
    assert operation.writes
    assert operation.complete
    assert operation.title == "select; delete public.t; insert public.u"


@pytest.mark.parametrize(
    ("sql", "settings"),
    [
        ("set search_path = a", {"search_path"}),
        ("SET TIME ZONE 'utc'", {"timezone"}),
        ("set \"Work_Mem\" = '1MB'", {"work_mem"}),
        ("reset all", {"*"}),
        ("discard all", {"*"}),
        ("begin read write", {"transaction_read_only"}),
        ("select set_config('Role', 'x', true)", {"role"}),
        ("select set_config($1, 'x', true)", {"*"}),
        ("alter system set wal_level = minimal", {"wal_level"}),
        ("alter role x reset all", {"*"}),
        ("select 1", set()),
        ("show role", set()),
    ],
)
def test_settings(sql: str, settings: set[str]) -> None:
    assert names(sql, "settings") == settings


@pytest.mark.parametrize(
    ("sql", "functions"),
    [
        ("select now(), f(1), s.g(2), lower(x) from t", {"pg_catalog.now", "f", "s.g", "pg_catalog.lower"}),
        ("select shop.s.g(2)", {"s.g"}),
        ("select '[1]' <=> '[2]'", {"<=>"}),
        ('select "a.b"(1)', {("a.b",)}),
        ("select 1 + 1, 'a' || 'b', x ->> 'y' from t", set()),
        ("create trigger g after insert on t execute function s.f()", {"s.f"}),
        ("call p(now())", {"p", "pg_catalog.now"}),
    ],
)
def test_functions(sql: str, functions: set[object]) -> None:
    assert names(sql, "functions") == functions
