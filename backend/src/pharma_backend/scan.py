# SPDX-License-Identifier: GPL-3.0-or-later
"""The value scan: secrets and personal data are masked in free text, before it is cut.

Only text that others wrote comes here (exceptions, libraries, warnings). It is scanned for values after
a telling name, quoted values, rows that PostgreSQL quotes, URLs, tokens, e-mail addresses, CPF, CNPJ and
card numbers, and names of people, in the text as it is and as it reads without its escapes. Each search is
made only where a quicker look has found what it needs, so that plain words cost next to nothing.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from dataclasses import dataclass

from . import identifiers, keyed, names, readable

# Characters that are kept of a text, and that are looked at. What is cut off unseen takes its neighbours
# with it: a secret that lies across that cut would no longer be known by its form.
MAX_TEXT = 1000
MAX_SCANNED = 8 * 1024
_UNSURE_TAIL = 2 * 1024

_I = re.IGNORECASE
_MASK = "[masked]"

# PostgreSQL's fields that quote rows, parameters and statements; they end at the next field or the text.
_QUOTING_FIELD = re.compile(
    r"\b(?:DETAIL|DETALHE|CONTEXT|CONTEXTO|QUERY|CONSULTA|STATEMENT|COMANDO|PARAMETERS|LINE \d+|LINHA \d+):.*?"
    r"(?=\b(?:HINT|DICA|LOCATION):|\Z)",
    re.DOTALL,
)
_FIELD_NAME = re.compile(r"\b(?:DETAIL|DETALHE|CONTEXT|QUERY|CONSULTA|STATEMENT|COMANDO|PARAMETERS|LIN)")
_ROW = re.compile(
    r"(Failing row contains |Key \([^)]*\)\s*=\s*|\bvalues\s*)\(.*?(?:\)(?=[\s.,;]|$)|\Z)", _I | re.DOTALL
)
_PYDANTIC_INPUT = re.compile(r"\binput(?:_value)?=.*?(?=, input_type=|\]|\Z)", re.DOTALL)

_QUOTED = re.compile(
    r"""(?<!\w)'(?:\\.|[^'\\])*(?:'|\Z)|"(?:\\.|[^"\\])*(?:"|\Z)|`[^`]*(?:`|\Z)""", re.DOTALL
)
# What may stay in quotes: numbers, times, versions, UUIDs, hexadecimal digits; other rules still see it.
_PLAIN = re.compile(
    r"[0-9][0-9.,:TZ+ -]{0,39}|v?\d+(?:\.\d+)+(?:[-+.]?[a-z]+\d*)?|[0-9a-f]{7,64}|[0-9a-f-]{36}|", _I
)

_URL = re.compile(r"\b([a-z][a-z0-9+.-]{0,30}):/{1,3}([^\s\"'<>]+)", _I)
_QUERY_VALUE = re.compile(r"([?&;#][\w.%\[\]-]+=)([^\s&;#\"'<>]*)")
_USERINFO = re.compile(r"[^\s:/@\"']+:(?!//)[^\s@\"']+@[\w.\[\]-]+")
_SCHEME = re.compile(
    r"\b(bearer|basic|digest(?=\s+\w+=)|negotiate|apikey|token)[\s:=]+"
    r"(?!(?:token|auth\w*|scheme|realm|is|was|required|missing|or|and|invalid|expired|has|not|of|for|error)\b)[\w.~+/=:-]{3,}",
    _I,
)
_JWT = re.compile(r"eyJ[\w-]{4,}(?:\.[\w-]*){0,4}|e30\.[\w-]+\.[\w-]*")
_KNOWN_TOKEN = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY.*?(?:-----END [A-Z ]*-----|\Z)|AGE-SECRET-KEY-\w+|\b(?:AKIA|ASIA)[0-9A-Z]{12,}"
    r"|\bgh[pousr]_\w{8,}|\bgithub_pat_\w+|\bglpat-[\w-]{8,}|\bxox[a-z]-[\w-]+|\b[srp]k_(?:live|test)_\w+|\bAIza[\w-]{20,}"
    r"|\$(?:argon2\w*|2[aby]|pbkdf2[\w-]*|scrypt|[156y])\$\S+|\bSCRAM-SHA-256\$\S+|\bmd5[0-9a-f]{32}\b"
    r"|\b[0-9a-f]{16}\.[\w-]{20,}",
    re.DOTALL,
)
_EMAIL = re.compile(
    r"[^\s@\"'<>()\[\],;:=/]+@(?:[^\s@\"'<>()\[\],;:=/]+\.([^\W\d_][\w-]+)|localhost\b)|\"[^\"]*\"@\S+"
)
_UNITS = frozenset(
    {"service", "socket", "timer", "target", "mount", "slice", "scope", "path", "device", "swap"}
)
_OPAQUE = re.compile(r"[A-Za-z0-9_+/-]{16,}={0,2}|[A-Za-z0-9+/]{6,}={1,2}")
_TIME = re.compile(r"\d{8}T\d{6}Z?")
_HEXADECIMAL = re.compile(r"(?<![0-9A-Za-z])(?:\\?x)?((?:[2-7][0-9a-f]){7,})(?![0-9A-Za-z])", _I)

_PUNCTUATION = "=,.:;()[]{}<>!?'\""
_SCHEMES = frozenset(["bearer", "basic", "digest", "negotiate", "apikey", "token"])


# Small words and short numbers with the marks of a sentence between them; words that make a sentence tell.
_CALM = re.compile(r"[A-Z]?(?:(?:[a-z]{1,13}+|[0-9]{1,6}+)(?:[ ,.:]++|\Z))*+")
_NO_WORDS: frozenset[str] = frozenset()
_TELLING = (
    names.FAMILY
    | _SCHEMES
    | keyed.VERBS
    | frozenset(
        ("values", "pin", "otp", "cvv", "cvc", "senha", "password", "passwd", "pwd", "secret", "token")
    )
)


@dataclass(slots=True)
class _Look:
    """What a quick look at a text tells."""

    lower: str
    words: frozenset[str]
    capitals: bool  # others than the first letter of all
    longest: int  # part between blanks and full stops, in characters

    @classmethod
    def at(cls, value: str) -> _Look:
        lower = value.lower()
        parts = lower
        for sign in _PUNCTUATION:
            if sign in parts:
                parts = parts.replace(sign, " ")
        words = parts.split()
        return cls(lower, frozenset(words), value[1:] != lower[1:], len(max(words, key=len, default="")))


def text(value: str, limit: int = MAX_TEXT) -> str:
    """The text as it may stand in a line, at most ``limit`` characters and an ellipsis."""
    cut = len(value) > MAX_SCANNED
    if not cut and _is_calm(value):
        return value if len(value) <= limit else value[:limit] + "…"
    if cut:
        value = value[:MAX_SCANNED]
    value = _masked(value)
    if cut:
        value = value[: max(0, len(value) - _UNSURE_TAIL)]
    return value if len(value) <= limit and not cut else value[:limit] + "…"


def _is_calm(value: str) -> bool:
    """Whether the text is a plain sentence in which nothing of what is looked for can stand."""
    if not _CALM.fullmatch(value):
        return False
    lower = value.lower()
    words = lower.replace(",", " ").replace(".", " ").replace(":", " ").split()
    if not _TELLING.isdisjoint(words) or identifiers.may_hold(value, capitals=False):
        return False
    return ":" not in value or not keyed.may_hold(lower, _NO_WORDS)


def _masked(value: str) -> str:
    look = _Look.at(value)
    masked = _before_reading(value, look)
    if "\\" in masked or "%" in masked or "&" in masked or not (masked.isascii() and masked.isprintable()):
        plain = readable.plain(masked)
        if plain != masked:
            masked = _before_reading(plain, _Look.at(plain))
    return _by_form(masked, look if masked is value else _Look.at(masked))


def _before_reading(value: str, look: _Look) -> str:
    if look.capitals or "(" in value or "input" in value:
        value = _without_rows(value)
    if keyed.may_hold(look.lower, look.words):
        value = keyed.mask(value)
    if "'" in value or '"' in value or "`" in value:
        value = _QUOTED.sub(_quoted, value)
    return value


def _without_rows(value: str) -> str:
    if ":" in value and _FIELD_NAME.search(value):
        value = _QUOTING_FIELD.sub("", value).rstrip()
    if "(" in value:
        value = _ROW.sub(r"\1(…)", value)
    if "input" in value:
        value = _PYDANTIC_INPUT.sub(f"input={_MASK}", value)
    return value


def _quoted(found: re.Match[str]) -> str:
    content = found[0][1:-1] if found[0][-1] == found[0][0] and len(found[0]) > 1 else found[0][1:]
    return found[0] if content == _MASK or _PLAIN.fullmatch(content) else f"{found[0][0]}[value]{found[0][0]}"


def _by_form(value: str, look: _Look) -> str:
    """Mask what is known by its form."""
    value = keyed.mask_loose(_tokens(value, look), look.lower)
    if not _SCHEMES.isdisjoint(look.words):
        value = _SCHEME.sub(r"\1 [token]", value)
    if "@" in value:
        value = _USERINFO.sub("[credentials]", value)
        value = _EMAIL.sub(lambda found: found[0] if found[1] in _UNITS else "[email]", value)
    if "=" in value:
        value = _QUERY_VALUE.sub(_query_value, value)
    if identifiers.may_hold(value, look.capitals):
        value = identifiers.mask(value)
    if look.longest >= 14:
        value = _HEXADECIMAL.sub(
            lambda found: "[encoded]" if re.search("[a-f]", found[1], _I) else found[0], value
        )
    if look.longest >= 16 or "=" in value:
        value = _OPAQUE.sub(_opaque, value)
    if look.capitals or not value.isascii() or not names.FAMILY.isdisjoint(look.words):
        value = names.mask(value)
    return value


def _tokens(value: str, look: _Look) -> str:
    if look.longest >= 12 or "$" in value or "PRIVATE" in value:
        value = _KNOWN_TOKEN.sub("[token]", value)
    if ":/" in value:
        value = _URL.sub(_url, value)
    if "eyJ" in value or "e30." in value:
        value = _JWT.sub("[token]", value)
    return value


def _url(found: re.Match[str]) -> str:
    scheme, rest = found.groups()
    _head, at, tail = rest.rpartition("@")
    if at:
        authority = f"[credentials]@{tail}"
    else:
        # The end may have been cut off by whoever quoted the URL: a word after the colon is no port.
        host, colon, port = rest.partition(":")
        whole = not colon or "/" in host or "[" in host or re.match(r"\d{1,5}(?:[/?#,;.)\]]|$)", port)
        authority = rest if whole else "[credentials]"
    return f"{scheme}://{authority}"


def _query_value(found: re.Match[str]) -> str:
    value = found[2]
    return found[0] if re.fullmatch(r"\d{0,6}|true|false|asc|desc", value) else f"{found[1]}{_MASK}"


def _opaque(found: re.Match[str]) -> str:
    """Mask what only a machine writes: text in base64, and tokens made of random characters."""
    run = found[0]
    if _is_encoded_text(run):
        return "[encoded]"
    whole = "+" in run or run.endswith("=")
    return "[token]" if any(_is_random(part) for part in ([run] if whole else run.split("/"))) else run


def _is_encoded_text(run: str) -> bool:
    if not run.endswith("=") and (len(run) % 4 or run.islower() or run.isupper() or "/" in run[:1]):
        return False
    try:
        decoded = base64.b64decode(run.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return False
    return all(32 <= byte < 127 for byte in decoded)


def _is_random(run: str) -> bool:
    """Capitals, small letters and digits that change places more often than in any word."""
    run = _TIME.sub("", run.rstrip("="))
    if len(run) < 20:
        return False
    kinds = ["d" if c.isdigit() else "u" if c.isupper() else "l" if c.islower() else "o" for c in run]
    if not {"d", "u", "l"} <= set(kinds):
        return False
    changes = sum(one != other for one, other in itertools.pairwise(kinds))
    return changes / (len(run) - 1) > 0.35
