"""The tables of the playground's database, filled from the same made-up records as the billing API."""

from __future__ import annotations

from typing import Final

from playground.records import CUSTOMERS, api_keys

DATABASE: Final = "orders"


def _literal(value: object) -> str:
    if isinstance(value, int):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"


def _rows(rows: list[tuple[object, ...]]) -> str:
    return ", ".join(f"({', '.join(map(_literal, row))})" for row in rows)


_CUSTOMERS = _rows([(row["id"], row["name"], row["email"], row["phone"], row["ssn"]) for row in CUSTOMERS])
_CARDS = _rows([(row["id"], row["card"], f"{100 + 7 * int(row['id'])}", "2031-12-31") for row in CUSTOMERS])
_KEYS = _rows([(row["id"], row["system"], row["secret"]) for row in api_keys()])

# psql's input, run by a superuser in the database postgres; {password} is the one of app
SCHEMA: Final = f"""
CREATE ROLE app LOGIN PASSWORD '{{password}}';
CREATE DATABASE {DATABASE} OWNER app;
\\connect {DATABASE}
SET ROLE app;
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, email text UNIQUE, phone text, ssn text);
CREATE TABLE cards (customer int REFERENCES customers ON DELETE CASCADE, number text PRIMARY KEY, cvv text, expires date);
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers ON DELETE CASCADE, amount numeric(10, 2), status text);
CREATE TABLE api_keys (id text PRIMARY KEY, system text, secret text);
CREATE TABLE audit (at timestamptz NOT NULL DEFAULT now(), what text);
CREATE VIEW contacts AS SELECT name, email AS address FROM customers;
INSERT INTO customers VALUES {_CUSTOMERS};
INSERT INTO cards VALUES {_CARDS};
INSERT INTO orders SELECT n, 1 + n % {len(CUSTOMERS)}, n * 12.5, CASE WHEN n % 4 = 0 THEN 'cancelled' ELSE 'paid' END
    FROM generate_series(1, 20) n;
INSERT INTO api_keys VALUES {_KEYS};
INSERT INTO audit (at, what) VALUES ('2030-01-01', 'opened');
"""  # noqa: S608
