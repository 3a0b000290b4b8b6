# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole day of a cashier against the real service and database."""

from __future__ import annotations

from backend_harness import Service


def test_health(service: Service) -> None:
    print(service.client.get("/health/ready").text)
    tokens = service.login("ana")
    h = {"Authorization": f"Bearer {tokens['access_token']}"}
    r = service.client.get("/products?in_stock=true&minimum=2&limit=1", headers=h)
    print(r.text)
    pid = r.json()["items"][0]["id"]
    r = service.client.post("/cash/open", headers=h, json={"register": "x1", "opening_amount": "100.00"})
    print(r.text)
    r = service.client.post("/sales", headers=h, json={"items": [{"product_id": pid, "quantity": 2}]})
    print(r.text)
    print(service.client.post("/sales", headers=h, json={"items": [{"product_id": pid, "quantity": 0}]}).text)
    print(service.client.post("/nix", headers=h).text)
    print(service.client.get("/metrics").text[-300:])
    print(service.output.read_text())
    assert 0
