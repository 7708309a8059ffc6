"""Made-up customers, keys and refunds. Every value is invented, in the forms that real ones have."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any

type Row = dict[str, Any]

CUSTOMERS: tuple[Row, ...] = (
    {
        "id": 1,
        "name": "Ada Example",
        "email": "ada@customers.example",
        "phone": "+1 212 555 0142",
        "card": "4111 1111 1111 1111",
        "ssn": "219-08-4312",
    },
    {
        "id": 2,
        "name": "Bo Example",
        "email": "bo@customers.example",
        "phone": "+1 212 555 0199",
        "card": "5555 5555 5555 4444",
        "ssn": "457-55-5462",
    },
    {
        "id": 3,
        "name": "Cy Example",
        "email": "cy@customers.example",
        "phone": "+44 20 7946 0018",
        "card": "3782 822463 10005",
        "ssn": "321-54-9876",
    },
)


def _jwt() -> str:
    def part(value: Row) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part({'sub': 'billing-batch', 'iat': 1700000000})}.{'s' * 43}"


def api_keys() -> list[Row]:
    """Keys of other systems that the billing service happens to hold. Put together here so that no scanner takes them for real ones."""
    return [
        {"id": "k1", "system": "github", "secret": "ghp_" + "Z9y8X7w6V5u4T3s2R1q0" + "P9o8N7m6L5k4J3i2"},
        {"id": "k2", "system": "aws", "secret": "AKIA" + "Q3EXAMPLE7ZB" + "WKLM", "password": "correct-horse-battery"},
        {"id": "k3", "system": "batch", "secret": _jwt()},
    ]


class Books:
    """What refunds and deletions change. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._customers = {row["id"]: row for row in CUSTOMERS}
        self._refunds: list[Row] = []

    def customers(self) -> list[Row]:
        with self._lock:
            return list(self._customers.values())

    def customer(self, number: int) -> Row | None:
        with self._lock:
            return self._customers.get(number)

    def delete(self, number: int) -> bool:
        with self._lock:
            return self._customers.pop(number, None) is not None

    def refund(self, order: Row) -> Row:
        with self._lock:
            row = {"id": f"r{len(self._refunds) + 1}", "status": "paid", **order}
            self._refunds.append(row)
            return row

    def refunds(self) -> list[Row]:
        with self._lock:
            return list(self._refunds)
