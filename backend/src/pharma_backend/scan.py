# SPDX-License-Identifier: GPL-3.0-or-later
"""The value scan: secrets and personal data are masked in free text, before it is cut.

Only text that others wrote comes here (exceptions, libraries, warnings). It is scanned for values after
a telling name, quoted values, rows that PostgreSQL quotes, URLs, tokens, e-mail addresses, CPF, CNPJ and
card numbers, and names of people, in the text as it is and as it reads without its escapes.
"""

from __future__ import annotations

import base64
import binascii
import html
import itertools
import re
import unicodedata
from urllib.parse import unquote

from . import identifiers, names

# Characters that are kept of a text, and that are looked at. What is cut off unseen takes its neighbours
# with it: a secret that lies across that cut would no longer be known by its form.
MAX_TEXT = 1000
MAX_SCANNED = 16 * 1024
_UNSURE_TAIL = 4 * 1024

_I = re.IGNORECASE

# Nothing below matches a text without one of these, so most texts are done after one search.
_SUSPECT = re.compile(
    r"""[^ !#$()*,.0-9;?A-Za-z\[\]^_{|}~+/-]|[A-Za-z0-9_+/-]{16}|\d[\d ./_-]{9}|\b[A-Z][A-Z'a-z]*\ [A-Zde]
      | [0-9A-Z]{4}-?\d\d\b | -- | eyJ
      | (?i:\b(?:is|was|era|bearer|basic|negotiate|token|apikey|values|detail|failing)\b)
      | \$\w+\$""",
    re.VERBOSE,
)

# PostgreSQL's fields that quote rows, parameters and statements; they end at the next field or the text.
_QUOTING_FIELD = re.compile(
    r"\b(?:DETAIL|DETALHE|CONTEXT|CONTEXTO|QUERY|CONSULTA|STATEMENT|COMANDO|PARAMETERS|LINE \d+|LINHA \d+):.*?"
    r"(?=\b(?:HINT|DICA|LOCATION):|\Z)",
    re.DOTALL,
)
_ROW = re.compile(
    r"(Failing row contains |Key \([^)]*\)\s*=\s*|\bvalues\s*)\(.*?(?:\)(?=[\s.,;]|$)|\Z)", _I | re.DOTALL
)
_PYDANTIC_INPUT = re.compile(r"\binput(?:_value)?=.*?(?=, input_type=|\]|\Z)", re.DOTALL)

_CREDENTIAL = (
    r"(?:pass(?:word|wd|phrase|code|_?key)|pwd|senha|secret|segredo|token|authori[sz]ation|auth[_-]?(?:key|data)"
    r"|(?:api|access|private|signing|encryption|master|account|shared|client|host)[_. -]?key|keyring"
    r"|credential\w*|credenciais|cookie|sess(?:ion)?[_-]?(?:id|key)|jwt|connection[_-]?string|database_?url"
    r"|(?<![a-z])(?:pin|otp|totp|cvv2?|cvc2?|dsn|pan|sid|csrf|xsrf|nonce|salt|seed|signature|sig)(?![a-z])"
    r"|(?-i:(?<=[a-z])(?:Pin|Otp|Cvv|Cvc|Dsn|Pan|Sid|Pwd|Sig)(?![a-z])))"
)
_PERSONAL_NAME = (
    r"(?:cpf|cnpj|(?<![a-z])(?:rg|cns|crm)(?![a-z])|e-?mail|card[_. -]?(?:number|no|num|holder)|cart[aã]o"
    r"|(?:full|first|last|given|family|customer|client|patient|person|holder|mother|social)[_. -]?names?"
    r"|nome(?:[_. -]?\w+)?|sobrenome|cliente|customer|paciente|patient"
    r"|phone\w*|telefone|celular|mobile|address|endere[cç]o|birth\w*|nascimento)"
)
# A value may be quoted, a list, the rest of the line for what has a scheme, or words up to a delimiter or
# the next name; one that is no value at all (`password authentication failed`) has no separator before it.
_VALUE = (
    r"""(?:(?P<q>\\*["'])(?:\\.|(?!(?P=q)).)*(?:(?P=q))?"""
    r"""|[\[{(][^\]})]*[\]})]*"""
    r"""|[^\s"',;&<>)}\]]+(?:[ \t]+(?![\w.\[\]-]+["']?\s*[=:])[^\s"',;&<>)}\]=]+)*)"""
)
_SEPARATOR = (
    r"""(?:\\*["'`])?[\])]*(?:\s*(?::=|=>|->|[:=|])|\s*%3[aAdD]|\s+(?:is|was|são|é|era)\b(?!\s+(?:not|no|in|re|ex|mis|wro|too|emp|un|nul|non|n[aã]o|obr|tru|fal|kn|va|set|already))"""
    r"""|,(?=\s*b?\\*["'])|>(?=[^<\s]))[\s>]*b?"""
)
_KEYED = re.compile(
    rf"({_CREDENTIAL}|{_PERSONAL_NAME})"
    r"(?![a-z]*[_-]?(?:type|count|ttl|length|policy|max_age|expir\w*)\b)"
    rf"([\w.\[\]-]{{0,40}}{_SEPARATOR}){_VALUE}",
    _I | re.DOTALL,
)
# Header lines, whose values hold spaces, commas and semicolons.
_HEADER = re.compile(
    r"\b((?:proxy-|x-)?(?:authorization|set-cookie|cookie|auth-token|api-key|amz-security-token)\w*)"
    r"""((?:\\*["'])?\s*[:=,]\s*)(?:b?(?P<q>\\*["'])(?:\\.|(?!(?P=q)).)*(?:(?P=q))?|[^\s"'][^\r\n]*)""",
    _I | re.DOTALL,
)
_ELEMENT = re.compile(rf"(<[\w:.-]*(?:{_CREDENTIAL}|{_PERSONAL_NAME})[^<>]*>)[^<]+", _I)
_OPTION = re.compile(rf"(-{{1,2}}[\w-]*{_CREDENTIAL}[\w-]*)[ =]+\S+", _I)
_MULTIPART = re.compile(
    rf"""(name=\\*"?[\w.\[\]-]*(?:{_CREDENTIAL}|{_PERSONAL_NAME})[^\r\n]*)(?:\\r|\\n|\s)+[^\r\n]+""", _I
)
_KEY_NAMES = re.compile(rf"{_CREDENTIAL}|{_PERSONAL_NAME}", _I)

_QUOTED = re.compile(
    r"""(?<!\w)'(?:\\.|[^'\\])*(?:'|\Z)|"(?:\\.|[^"\\])*(?:"|\Z)|`[^`]*(?:`|\Z)""", re.DOTALL
)
# What may stay in quotes: numbers, times, versions, UUIDs, hexadecimal digits; other rules still see it.
_PLAIN = re.compile(
    r"[0-9][0-9.,:TZ+ -]{0,39}|v?\d+(?:\.\d+)+(?:[-+.]?[a-z]+\d*)?|[0-9a-f]{7,64}|[0-9a-f-]{36}|", _I
)

_URL = re.compile(r"\b([a-z][a-z0-9+.-]*):/{1,3}([^\s\"'<>]+)", _I)
_QUERY_VALUE = re.compile(r"([?&;#][\w.%\[\]-]+=)([^\s&;#\"'<>]*)")
_USERINFO = re.compile(r"[^\s:/@\"']+:(?!//)[^\s@\"']+@[\w.\[\]-]+")
_SCHEME = re.compile(
    r"\b(bearer|basic|digest(?=\s+\w+=)|negotiate|apikey|token)\s+"
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
_DIGITS = re.compile(r"(?<![\w.-])?\d(?:[ \t./_-]{0,3}\d){10,}")
_UUID = re.compile(
    r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{32,128}\b", _I
)
_CNPJ = re.compile(r"\b[0-9A-Z]{2}\.?[0-9A-Z]{3}\.?[0-9A-Z]{3}/?[0-9A-Z]{4}-?[0-9]{2}\b")
_OPAQUE = re.compile(r"[A-Za-z0-9_+/-]{16,}={0,2}|[A-Za-z0-9+/]{6,}={1,2}")
_TIME = re.compile(r"\d{8}T\d{6}Z?")
_HEXADECIMAL = re.compile(r"(?<![0-9A-Za-z])(?:\\?x)?((?:[2-7][0-9a-f]){7,})(?![0-9A-Za-z])", _I)
_DISGUISED = re.compile(r"(?:\\+x[2-7][0-9a-f]|\\+u00[2-7][0-9a-f]|%[2-7][0-9a-f]){5,}", _I)

_ESCAPED = re.compile(r"\\+u\{?([0-9a-fA-F]{4})\}?|\\+x([0-9a-fA-F]{2})")
_BACKSLASHED = re.compile(r"""\\+(["'/nrt])""")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ue000-\uf8ff]")
_DASH = re.compile("[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")

_MASK = "[masked]"
_CPF_GROUPS = frozenset({(11,), (9, 2), (3, 3, 3, 2), (3, 3, 5), (1,) * 11})
_CNPJ_GROUPS = frozenset({(14,), (12, 2), (2, 3, 3, 4, 2), (8, 4, 2), (8, 6), (1,) * 14})
_GROUP = re.compile(r"\d+")


def text(value: str, limit: int = MAX_TEXT) -> str:
    """The text as it may stand in a line, at most ``limit`` characters and an ellipsis."""
    cut = len(value) > MAX_SCANNED
    if cut:
        value = value[:MAX_SCANNED]
    if cut or _SUSPECT.search(value) or names.may_hold(value):
        value = _masked(value)
    if cut:
        value = value[: max(0, len(value) - _UNSURE_TAIL)]
    return value if len(value) <= limit and not cut else value[:limit] + "…"


def _masked(value: str) -> str:
    value = _by_name(_without_rows(value))
    value = _QUOTED.sub(_quoted, value)
    plain = _readable(_DISGUISED.sub(_disguised, value))
    if plain != value:
        value = _by_name(_without_rows(plain))
        value = _QUOTED.sub(_quoted, value)
    return _by_form(value)


def _without_rows(value: str) -> str:
    if ":" in value:
        value = _QUOTING_FIELD.sub("", value).rstrip()
    if "(" in value:
        value = _ROW.sub(r"\1(…)", value)
    if "input" in value:
        value = _PYDANTIC_INPUT.sub(f"input={_MASK}", value)
    return value


def _by_name(value: str) -> str:
    """Mask what stands after the name of a secret or of personal data."""
    if not _KEY_NAMES.search(value):
        return value
    value = _MULTIPART.sub(rf"\1 {_MASK}", value)
    value = _ELEMENT.sub(rf"\1{_MASK}", value)
    value = _HEADER.sub(rf"\1\2{_MASK}", value)
    value = _KEYED.sub(rf"\1\2{_MASK}", value)
    return _OPTION.sub(rf"\1 {_MASK}", value)


def _quoted(found: re.Match[str]) -> str:
    content = found[0][1:-1] if found[0][-1] == found[0][0] and len(found[0]) > 1 else found[0][1:]
    return found[0] if content == _MASK or _PLAIN.fullmatch(content) else f"{found[0][0]}[value]{found[0][0]}"


def _disguised(found: re.Match[str]) -> str:
    """Mask letters that were written as escapes without need, unless they read as a name of something."""
    plain = unquote(re.sub(r"\\+u00|\\+x", "%", found[0]))
    disguise = sum(character.isalnum() for character in plain) > 3 and not _KEY_NAMES.search(plain)
    return "[encoded]" if disguise else found[0]


def _readable(value: str) -> str:
    """The text without its escapes: percent, backslash, entities, widths, invisible characters."""
    for _ in range(3):
        before = value
        if "\\" in value:
            value = _ESCAPED.sub(lambda found: chr(int(found[1] or found[2], 16)), value)
            value = _BACKSLASHED.sub(
                lambda found: {"n": "\n", "r": "\n", "t": "\t"}.get(found[1], found[1]), value
            )
        if "%" in value:
            value = unquote(value)
        if "&" in value:
            value = html.unescape(value)
        if not value.isascii():
            value = _DASH.sub("-", _INVISIBLE.sub("", unicodedata.normalize("NFKC", value)))
            value = "".join(_ascii_digit(character) for character in value)
        if value == before:
            break
    return _CONTROL.sub(" ", value)


def _ascii_digit(character: str) -> str:
    return str(unicodedata.digit(character)) if not character.isascii() and character.isdigit() else character


def _by_form(value: str) -> str:
    """Mask what is known by its form."""
    if "$" in value or "-" in value or "_" in value or "A" in value or "." in value or "md5" in value:
        value = _KNOWN_TOKEN.sub("[token]", value)
    if ":/" in value:
        value = _URL.sub(_url, value)
    if "eyJ" in value or "e30." in value:
        value = _JWT.sub("[token]", value)
    value = _SCHEME.sub(r"\1 [token]", value)
    if "@" in value:
        value = _USERINFO.sub("[credentials]", value)
        value = _EMAIL.sub(lambda found: found[0] if found[1] in _UNITS else "[email]", value)
    value = _QUERY_VALUE.sub(_query_value, value)
    value = _numbers(value)
    value = _HEXADECIMAL.sub(
        lambda found: "[encoded]" if re.search("[a-f]", found[1], _I) else found[0], value
    )
    value = _OPAQUE.sub(_opaque, value)
    return names.mask(value)


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


def _numbers(value: str) -> str:
    kept = [(found.start(), found.end()) for found in _UUID.finditer(value)]

    def digits(found: re.Match[str]) -> str:
        if any(start < found.end() and found.start() < end for start, end in kept):
            return found[0]
        return _mask_groups(found[0])

    masked = _DIGITS.sub(digits, value)
    return _CNPJ.sub(lambda found: "[cnpj]" if identifiers.is_personal(found[0]) else found[0], masked)


def _mask_groups(run: str) -> str:
    """Mask the CPF, CNPJ and card numbers of a run of digit groups."""
    groups = list(_GROUP.finditer(run))
    parts: list[str] = []
    at = first = 0
    while first < len(groups):
        last = _longest(groups, first)
        if last is not None:
            parts += [run[at : groups[first].start()], "[number]"]
            at = groups[last].end()
            first = last
        first += 1
    return "".join(parts) + run[at:]


def _longest(groups: list[re.Match[str]], first: int) -> int | None:
    """The last group of the longest number of a person that begins with group ``first``."""
    digits = ""
    shape: tuple[int, ...] = ()
    best = None
    for place in range(first, min(first + 19, len(groups))):
        group = groups[place][0]
        digits += group
        shape = (*shape, len(group))
        if len(digits) > max(identifiers.CARD_DIGITS):
            break
        if _is_number(digits, shape):
            best = place
    return best


def _is_number(digits: str, shape: tuple[int, ...]) -> bool:
    if shape in _CPF_GROUPS or shape in _CNPJ_GROUPS:
        return identifiers.is_personal(digits)
    in_fours = all(3 <= length <= 6 for length in shape) or set(shape) == {1} or len(shape) == 1
    return in_fours and len(digits) in identifiers.CARD_DIGITS and identifiers.is_card(digits)


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
