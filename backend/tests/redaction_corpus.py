# SPDX-License-Identifier: GPL-3.0-or-later
"""The corpus of backend/tests/redaction: canaries made at run time, and their leaks."""

from __future__ import annotations

import base64
import html
import json
import random
import re
import string
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from pharma_backend import cpf, identifiers

HOME = Path(__file__).resolve().parent / "redaction"
GIVEN = ("Antônio", "Beatriz", "Cecília", "Eduardo", "Fernanda", "Heloísa", "Letícia", "Sebastião", "Thiago")
FAMILY = (
    "Araújo",
    "Azevedo",
    "Conceição",
    "Figueiredo",
    "Gonçalves",
    "Medeiros",
    "Nascimento",
    "Vasconcelos",
)
# The shortest part of a long secret that counts as a leak.
PART = 8


@dataclass(frozen=True)
class Case:
    """One text or structure, the class it belongs to and how it comes to the log."""

    group: str
    carrier: str
    body: Any


@dataclass
class Canaries:
    """The values of one case, made when its placeholders ask for them, and what must not be written."""

    seed: str
    secrets: set[str] = field(default_factory=set)
    digits: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - reproducible canaries
        self._values: dict[str, str] = {}

    def fill(self, body: Any) -> Any:
        """The body with its placeholders replaced, in keys and values."""
        if isinstance(body, dict):
            return {self.fill(key): self.fill(value) for key, value in body.items()}
        if isinstance(body, list):
            return [self.fill(item) for item in body]
        return re.sub(r"\{([a-z0-9_]+)\}", self._placeholder, body) if isinstance(body, str) else body

    def _placeholder(self, found: re.Match[str]) -> str:
        make = getattr(self, f"_make_{found[1]}", None)
        if make is None:
            return found[0]
        if found[1] not in self._values:
            self._values[found[1]] = make()
        return self._values[found[1]]

    def _value(self, name: str) -> str:
        return str(self.fill("{" + name + "}"))

    def _secret(self, value: str) -> str:
        self.secrets.add(value)
        return value

    def _number(self, value: str) -> str:
        self.digits.add(value)
        return value

    def _some(self, alphabet: str, length: int) -> str:
        return "".join(self._random.choices(alphabet, k=length))

    def _make_password(self) -> str:
        return self._secret(f"{self._some(string.ascii_lowercase, 6)}-{self._some(string.digits, 4)}Zq")

    def _make_password_word(self) -> str:
        return self._secret(self._some(string.ascii_uppercase, 12))

    def _make_passphrase(self) -> str:
        words = [self._some("bcdfghjklmnp", 9) for _ in range(3)]
        self.secrets.update(words)
        return " ".join(words)

    def _make_wild(self) -> str:
        self.secrets.update({"p4ssw", "rd9wild"})
        return "p4ssw@/:#rd9wild"

    def _make_token(self) -> str:
        return self._secret(base64.urlsafe_b64encode(self._random.randbytes(32)).decode().rstrip("="))

    def _make_refresh(self) -> str:
        return self._secret(f"{self._random.randbytes(8).hex()}.{self._value('token')}")

    def _make_hex(self) -> str:
        return self._secret(self._random.randbytes(32).hex())

    def _make_base64(self) -> str:
        return self._secret(base64.b64encode(self._random.randbytes(48)).decode())

    def _make_jwt(self) -> str:
        claims = json.dumps({"sub": "7", "exp": 1, "jti": self._random.randbytes(6).hex()})
        parts = ('{"alg":"HS256","typ":"JWT"}', claims)
        head = ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)
        return self._secret(f"{head}.{self._value('token')}")

    def _make_jwt_short(self) -> str:
        return self._secret(f"eyJhbGciOiJub25lIn0.eyJzdWIiOiI3In0.{self._some(string.ascii_letters, 40)}")

    def _make_jwt_head(self) -> str:
        return self._secret(self._value("jwt")[:60])

    def _make_basic(self) -> str:
        return self._secret(base64.b64encode(f"ana:{self._value('password')}".encode()).decode())

    def _make_aws(self) -> str:
        return self._secret("AKIA" + self._some(string.ascii_uppercase + "234567", 16))

    def _make_github(self) -> str:
        return self._secret("ghp_" + self._some(string.ascii_letters + string.digits, 36))

    def _make_slack(self) -> str:
        return self._secret(f"xoxb-{self._some(string.digits, 11)}-{self._some(string.ascii_letters, 24)}")

    def _make_age(self) -> str:
        return self._secret("AGE-SECRET-" + "KEY-1" + self._some("023456789ACDEFGHJKLMNPQRSTUVWXYZ", 58))

    def _make_pem(self) -> str:
        return f"-----BEGIN {'PRIVATE KEY'}-----\n{self._value('base64')}\n-----END {'PRIVATE KEY'}-----"

    def _make_argon(self) -> str:
        return f"$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ${self._value('token')}"

    def _make_scram(self) -> str:
        return f"SCRAM-SHA-256$4096:{self._value('base64')}"

    def _make_pin(self) -> str:
        return self._number(self._some("3456789", 4))

    def _make_pin_long(self) -> str:
        return self._number(self._some("3456789", 8))

    def _make_cpf(self) -> str:
        return self._number(cpf.complete(f"{self._random.randrange(10**8, 9 * 10**8)}"))

    def _grouped(self, name: str, lengths: tuple[int, ...], separators: str) -> str:
        number, parts = self._value(name), []
        for place, length in enumerate(lengths):
            parts.append(number[:length])
            number = number[length:]
            parts.append(separators[place : place + 1] if number else "")
        return "".join(parts)

    def _make_cpf_dotted(self) -> str:
        return self._grouped("cpf", (3, 3, 3, 2), "..-")

    def _make_cpf_spaced(self) -> str:
        return self._grouped("cpf", (3, 3, 3, 2), "   ")

    def _make_cpf_underscored(self) -> str:
        return self._grouped("cpf", (3, 3, 3, 2), "___")

    def _make_cpf_no_break(self) -> str:
        return self._grouped("cpf", (3, 3, 3, 2), "\u00a0\u00a0\u00a0")

    def _make_cpf_en_dash(self) -> str:
        return self._grouped("cpf", (3, 3, 3, 2), "..\u2013")

    def _make_cpf_zero_width(self) -> str:
        return "\u200b".join(self._value("cpf"))

    def _make_cpf_single(self) -> str:
        return " ".join(self._value("cpf"))

    def _make_cpf_wide(self) -> str:
        return self._value("cpf").translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})

    def _make_cpf_arabic(self) -> str:
        return self._value("cpf").translate({ord("0") + digit: 0x0660 + digit for digit in range(10)})

    def _make_cnpj(self) -> str:
        return self._number(identifiers.complete_cnpj(self._some("123456789", 8) + "0001"))

    def _make_cnpj_dotted(self) -> str:
        return self._grouped("cnpj", (2, 3, 3, 4, 2), "../-")

    def _make_cnpj_letters(self) -> str:
        return self._secret(identifiers.complete_cnpj(self._some("ABCDEFGHJKLM123", 8) + "0A01"))

    def _make_cnpj_letters_dotted(self) -> str:
        return self._secret(self._grouped("cnpj_letters", (2, 3, 3, 4, 2), "../-"))

    def _card(self, prefix: str, length: int = 16) -> str:
        body = prefix + self._some(string.digits, length - len(prefix) - 1)
        return self._number(next(body + digit for digit in string.digits if identifiers.luhn(body + digit)))

    def _make_card(self) -> str:
        return self._card("4")

    def _make_mastercard(self) -> str:
        return self._card("53")

    def _make_mastercard_two(self) -> str:
        return self._card("2345")

    def _make_amex(self) -> str:
        return self._card("37", 15)

    def _make_amex_spaced(self) -> str:
        return self._grouped("amex", (4, 6, 5), "  ")

    def _make_elo(self) -> str:
        return self._card("636368")

    def _make_hipercard(self) -> str:
        return self._card("606282")

    def _make_card_spaced(self) -> str:
        return self._grouped("card", (4, 4, 4, 4), "   ")

    def _make_card_dashed(self) -> str:
        return self._grouped("card", (4, 4, 4, 4), "---")

    def _make_card_dotted(self) -> str:
        return self._grouped("card", (4, 4, 4, 4), "...")

    def _make_card_no_break(self) -> str:
        return self._grouped("card", (4, 4, 4, 4), "\u00a0\u202f\u2009")

    def _make_card_single(self) -> str:
        return " ".join(self._value("card"))

    def _make_card_wide(self) -> str:
        return self._value("card").translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})

    def _make_card_escaped(self) -> str:
        return "".join(f"\\u{ord(digit):04x}" for digit in self._value("card"))

    def _make_email(self) -> str:
        local = self._secret(f"{self._some(string.ascii_lowercase, 9)}.{self._some(string.digits, 3)}")
        return f"{local}@farmacia.example.com"

    def _make_email_percent(self) -> str:
        return self._value("email").replace("@", "%40")

    def _make_email_double_percent(self) -> str:
        return self._value("email").replace("@", "%2540")

    def _make_email_escaped(self) -> str:
        return self._value("email").replace("@", "\\u0040")

    def _make_email_entity(self) -> str:
        return self._value("email").replace("@", "&#64;")

    def _make_email_wide_at(self) -> str:
        return self._value("email").replace("@", "\uff20")

    def _make_email_base64(self) -> str:
        return base64.b64encode(self._value("email").encode()).decode()

    def _make_password_percent(self) -> str:
        return "".join(f"%{byte:02X}" for byte in self._value("password").encode())

    def _make_password_base64(self) -> str:
        return base64.b64encode(self._value("password").encode()).decode()

    def _make_password_hex(self) -> str:
        return self._value("password").encode().hex()

    def _make_password_hex_upper(self) -> str:
        return self._value("password").encode().hex().upper()

    def _make_password_bytes(self) -> str:
        return "".join(f"\\x{byte:02x}" for byte in self._value("password").encode())

    def _make_person(self) -> str:
        given, family = self._random.choice(GIVEN), self._random.choice(FAMILY)
        self.secrets.update({given, family})
        return f"{given} de {family}"

    def _make_person_upper(self) -> str:
        return self._value("person").upper()

    def _make_person_lower(self) -> str:
        return self._value("person").lower()

    def _make_person_plain(self) -> str:
        plain = unaccented(self._value("person"))
        self.secrets.update(plain.split()[::2])
        return plain

    def _make_person_plain_lower(self) -> str:
        return self._value("person_plain").lower()

    def _make_zero_width(self) -> str:
        return "\u200b"

    def _make_soft_hyphen(self) -> str:
        return "\u00ad"

    def _make_newline(self) -> str:
        return "\n"

    def leaks(self, written: bytes) -> list[str]:
        """What of the canaries stands in the lines, plain or in an encoding that anybody undoes."""
        texts = [written.decode(), *_strings([json.loads(line) for line in written.splitlines()])]
        heap = unaccented("\n".join(texts)).casefold()
        found = [form for secret in self.secrets for form in _forms(secret) if form in heap]
        for text in texts[1:]:
            digits = "".join(
                str(unicodedata.digit(c)) for c in text if unicodedata.digit(c, None) is not None
            )
            found += [number for number in self.digits if number in digits]
        return found


def unaccented(text: str) -> str:
    """The text without accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            # Of these nothing is anybody's: the program's own files and words.
            if key not in ("ts", "stack", "env", "service", "level"):
                yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    else:
        yield str(value)


def _forms(secret: str) -> set[str]:
    raw = secret.encode()
    forms = {
        secret,
        secret[::-1],
        quote(secret, safe=""),
        html.escape(secret),
        raw.hex(),
        "".join(f"\\u{ord(c):04x}" for c in secret),
        base64.b64encode(raw).decode().rstrip("="),
        base64.b32encode(raw).decode().rstrip("="),
    }
    if len(secret) > PART + 4:
        forms |= {secret[at : at + PART] for at in range(len(secret) - PART + 1)}
    return {unaccented(form).casefold() for form in forms}


def load(name: str) -> list[Case]:
    """The cases of one file, its product of names and forms and its padded texts included."""
    data = yaml.safe_load((HOME / f"{name}.yaml").read_text(encoding="utf-8"))
    carrier = data["carrier"]
    bodies: list[Any] = list(data["cases"])
    for form in data.get("forms", ()):
        bodies += [form.replace("{name}", key) for key in data["names"]]
    padded = data.get("padded", {})
    for text in padded.get("texts", ()):
        for bound in padded["bounds"]:
            bodies += [{"text": text, "pad": bound - before} for before in padded["before"]]
    return [
        Case(name, body.get("carrier", carrier) if isinstance(body, dict) else carrier, body)
        for body in bodies
    ]
