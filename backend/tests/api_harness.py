# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of the API say often."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import psycopg

PROBLEM = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).resolve().parents[2] / "docs/schemas/problem.schema.json").read_text())
)


def problem(reply: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The reply is this problem; its document."""
    assert (reply.status_code, reply.json().get("code")) == (status, code), reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = reply.json()
    PROBLEM.validate(document)
    assert document["requestId"] == reply.headers["x-request-id"]
    return document


def sell(api: httpx.Client, product: int, quantity: int = 1) -> httpx.Response:
    return api.post("/sales", json={"items": [{"product_id": product, "quantity": quantity}]})


def pay(api: httpx.Client, sale: dict[str, Any], method: str = "cash") -> httpx.Response:
    return api.post(
        f"/sales/{sale['id']}/pay", json={"payments": [{"method": method, "amount": sale["total"]}]}
    )


def in_stock(sql: psycopg.Connection, product: int) -> dict[str, int]:
    rows = sql.execute(
        "select l.code, s.quantity from pharmacy.stock s join pharmacy.lots l on l.id = s.lot_id"
        " where l.product_id = %s",
        (product,),
    ).fetchall()
    return dict(rows)
