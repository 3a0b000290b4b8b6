# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pharmacy has before it sells: stores, people, customers, products. Rows are COPY lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from random import Random

from .. import cpf
from ..passwords import LOCKED
from . import names

CASHIERS_PER_STORE = 6
# Coprime with 10^9: multiples of it meet every nine-digit number once, in no visible order.
_CPF_STRIDE = 618_033_989


@dataclass(frozen=True, slots=True)
class Product:
    """A product; price in cents, because the generator adds up millions of them."""

    id: int
    ean: str
    name: str
    ingredient: str
    controlled: bool
    price_cents: int


@dataclass(frozen=True, slots=True)
class Store:
    """A store and the ids of its cashiers."""

    id: int
    code: str
    cashiers: tuple[int, ...]


def line(*values: object) -> str:
    """A line of COPY's text format; None is NULL. No value of ours needs escaping, and that is checked."""
    text = "\t".join("\\N" if value is None else str(value) for value in values)
    if text.count("\t") != len(values) - 1 or "\n" in text or "\\" in text.replace("\\N", ""):
        raise ValueError("a value of the demo data would need escaping")
    return text + "\n"


def products() -> list[Product]:
    """Every medicine in every strength and line."""
    found: list[Product] = []
    for ingredient, strengths, form, controlled, base in names.MEDICINES:
        for step, strength in enumerate(strengths):
            for label, percent in names.LINES:
                cents = int(Decimal(base) * (100 + 35 * step) * percent / 100)
                number = len(found) + 1
                name = f"{ingredient} {strength} {form} ({label})"
                found.append(
                    Product(number, names.ean13(number * 7_919), name, ingredient, controlled, cents)
                )
    return found


def stores(sales: int) -> list[Store]:
    """Four stores for a demonstration, up to forty for a benchmark; user ids are dense."""
    count = min(40, max(4, sales // 40_000))
    per_store = CASHIERS_PER_STORE + 1
    return [
        Store(
            number,
            f"LOJA-{number:02d}",
            # The first of each store is the manager; user 1 is the administrator.
            tuple(2 + (number - 1) * per_store + cashier for cashier in range(1, per_store)),
        )
        for number in range(1, count + 1)
    ]


def person(random: Random) -> str:
    """A full name."""
    family = [random.choice(names.FAMILY) for _ in range(1 + (random.random() < 0.6))]
    return " ".join([random.choice(names.GIVEN), *family])


def store_lines(shops: list[Store], since: str) -> Iterator[str]:
    """Columns: id, code, name, cnpj, city, state, created_at, updated_at."""
    for shop in shops:
        city, state, _ = names.CITIES[(shop.id - 1) % len(names.CITIES)]
        name = f"Farmácia Boa Saúde {city} {shop.id}"
        yield line(shop.id, shop.code, name, names.cnpj(12_345_678, shop.id), city, state, since, since)


def user_lines(random: Random, shops: list[Store], since: str) -> Iterator[str]:
    """Columns: id, store_id, username, full_name, email, role, password_hash, created_at, updated_at.

    Nobody can log in as one of them: no password has the hash.
    """
    number = 1
    for shop in shops:
        staff = ["admin"] if shop.id == 1 else []
        for role in [*staff, "manager", *["cashier"] * CASHIERS_PER_STORE]:
            name = person(random)
            username = f"{names.ascii_word(name)}.{number}"
            email = f"{username}@example.com"
            yield line(number, shop.id, username, name, email, role, LOCKED, since, since)
            number += 1


def customer_lines(random: Random, count: int, seed: int, today: date, since: str) -> Iterator[str]:
    """Columns: id, full_name, cpf, email, phone, born_on, created_at, updated_at."""
    nine = seed * 104_729
    for number in range(1, count + 1):
        nine = (nine + _CPF_STRIDE) % 1_000_000_000
        while not cpf.is_valid(document := cpf.complete(f"{nine:09d}")):
            nine = (nine + _CPF_STRIDE) % 1_000_000_000
        name = person(random)
        email = f"{names.ascii_word(name)}.{number}@example.{random.choice(('com', 'net', 'org'))}"
        phone = f"+55{random.choice(names.CITIES)[2]}9{random.randrange(10**8):08d}"
        born = today - timedelta(days=random.randrange(18 * 365, 95 * 365))
        yield line(
            number,
            name,
            document,
            email if random.random() < 0.8 else None,
            phone if random.random() < 0.7 else None,
            born,
            since,
            since,
        )


def product_lines(catalogue: list[Product], since: str) -> Iterator[str]:
    """Columns: id, ean, name, active_ingredient, controlled, price, attributes, created_at, updated_at."""
    for product in catalogue:
        attributes = json.dumps({"unidades": 10 + product.id % 3 * 10, "tarja": product.controlled})
        price = cents_text(product.price_cents)
        yield line(
            product.id,
            product.ean,
            product.name,
            product.ingredient,
            product.controlled,
            price,
            attributes,
            since,
            since,
        )


def cents_text(cents: int) -> str:
    """Cents as a decimal string."""
    return f"{cents // 100}.{cents % 100:02d}"
