# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that stand after a telling name: ``password=…``, ``"cpf": …``, ``Authorization: …``, ``--token …``."""

from __future__ import annotations

import re

_I = re.IGNORECASE
_MASK = "[masked]"

# Every name below holds one of these, which are found many times faster than the names.
_STEMS = """
    pass pwd senha secret segredo token auth key cred cookie ses jwt onnection database otp cvv cvc dsn pan sid
    srf nonce sal seed sig pin cpf cnpj rg cns crm mail card cart nom name client custom pa phone tel cel mobile
    addres endere birth nasc
""".split()  # noqa: SIM905 - a list of forty strings is no easier to read
# What may stand between a name and its value; how far from it the name begins, in characters.
_SIGNS = (":", "=", ">", "|", "%")
VERBS = frozenset(["is", "was", "são", "é", "era"])
_REACH = 70

_CREDENTIAL = (
    r"(?:pass(?:word|wd|phrase|code|_?key)|pwd|senha|secret|segredo|token|authori[sz]ation|auth[_-]?(?:key|data)"
    r"|(?:api|access|private|signing|encryption|master|account|shared|client|host)[_. -]?key|keyring"
    r"|credential\w{0,20}|credenciais|cookie|sess(?:ion)?[_-]?(?:id|key)|jwt|connection[_-]?string|database_?url"
    r"|(?<![a-z])(?:pin|otp|totp|cvv2?|cvc2?|dsn|pan|sid|csrf|xsrf|nonce|salt|seed|signature|sig)(?![a-z])"
    r"|(?-i:(?<=[a-z])(?:Pin|Otp|Cvv|Cvc|Dsn|Pan|Sid|Pwd|Sig)(?![a-z])))"
)
_PERSONAL_NAME = (
    r"(?:cpf|cnpj|(?<![a-z])(?:rg|cns|crm)(?![a-z])|e-?mail|card[_. -]?(?:number|no|num|holder)|cart[aã]o"
    r"|(?:full|first|last|given|family|customer|client|patient|person|holder|mother|social)[_. -]?names?"
    r"|nome(?:[_. -]?\w{1,20})?|sobrenome|cliente|customer|paciente|patient"
    r"|phone\w{0,20}|telefone|celular|mobile|address|endere[cç]o|birth\w{0,20}|nascimento)"
)
# A value may be quoted, a list, the rest of the line for what has a scheme, or words up to a delimiter or
# the next name; one that is no value at all (`password authentication failed`) has no separator before it.
_VALUE = (
    r"""(?:(?P<q>\\{0,8}["'])(?:\\.|(?!(?P=q)).)*(?:(?P=q))?"""
    r"""|[\[{(][^\]})]*[\]})]*"""
    r"""|[^\s"',;&<>)}\]]+(?:[ \t]+(?![\w.\[\]-]+["']?\s*[=:])[^\s"',;&<>)}\]=]+)*)"""
)
_SEPARATOR = (
    r"""(?:\\{0,8}["'`])?[\])]*(?:\s*(?::=|=>|->|[:=|])|\s*%3[aAdD]|\s+(?:is|was|são|é|era)\b(?!\s+(?:not|no|in|re|ex|mis|wro|too|emp|un|nul|non|n[aã]o|obr|tru|fal|kn|va|set|already))"""
    r"""|,(?=\s*b?\\{0,8}["'])|>(?=[^<\s]))[\s>]*b?"""
)
_KEYED = re.compile(
    rf"({_CREDENTIAL}|{_PERSONAL_NAME})"
    r"(?![a-z]{{0,20}}[_-]?(?:type|count|ttl|length|policy|max_age|expir\w*)\b)"
    rf"([\w.\[\]-]{{0,40}}{_SEPARATOR}){_VALUE}",
    _I | re.DOTALL,
)
# Header lines, whose values hold spaces, commas and semicolons.
_HEADER = re.compile(
    r"\b((?:proxy-|x-)?(?:authorization|set-cookie|cookie|auth-token|api-key|amz-security-token)\w*)"
    r"""((?:\\{0,8}["'])?\s*[:=,]\s*)(?:b?(?P<q>\\{0,8}["'])(?:\\.|(?!(?P=q)).)*(?:(?P=q))?|[^\s"'][^\r\n]*)""",
    _I | re.DOTALL,
)
_ELEMENT = re.compile(rf"(<[\w:.-]{{0,60}}(?:{_CREDENTIAL}|{_PERSONAL_NAME})[^<>]*>)[^<]+", _I)
_OPTION = re.compile(rf"(-{{1,2}}[\w-]{{0,40}}{_CREDENTIAL}[\w-]{{0,40}})[ =]+\S+", _I)
_MULTIPART = re.compile(
    rf"""(name=\\*"?[\w.\[\]-]{{0,60}}(?:{_CREDENTIAL}|{_PERSONAL_NAME})[^\r\n]*)(?:\\r|\\n|\s)+[^\r\n]+""",
    _I,
)
# With no sign between them: `password hunter2`, `wrong password (hunter2)`, `pin 1234`. Words stay.
_LOOSE = re.compile(
    rf"({_CREDENTIAL}[\w.-]{{0,40}}[^\w\"'\r\n]{{1,4}})(?=[^\s,;]*\d)(?:(?=\S*[A-Z])[^\s,;)\]>]{{4,}}|\d{{3,}}(?!\w))",
    _I,
)
_LOOSE_STEMS = ("pass", "pwd", "senha", "secret", "token", "key", "cred", "pin", "otp", "cvv", "cvc")
_LOGIN_OPTION = re.compile(r"(\s(?:-u|--user)[ =]+[^\s:]+:)\S+")
_KEY_NAMES = re.compile(rf"{_CREDENTIAL}|{_PERSONAL_NAME}", _I)


def may_hold(lower: str, words: frozenset[str]) -> bool:
    """Whether a telling name with a value can stand in the text, given in small letters and as words."""
    lists = "," in lower and ("'" in lower or '"' in lower)
    if lists or " -" in lower or lower[:1] == "-" or not VERBS.isdisjoint(words):
        near = lower
    else:
        near = ""
        for sign in _SIGNS:
            at = lower.find(sign)
            while at >= 0:
                near += lower[max(0, at - _REACH) : at] + "\n"
                at = lower.find(sign, at + 1)
    if near:
        for stem in _STEMS:
            if stem in near:
                return True
    return False


def mask_loose(value: str, lower: str) -> str:
    """Mask what follows the name of a secret with nothing but blanks or brackets between them."""
    for stem in _LOOSE_STEMS:
        if stem in lower:
            value = _LOOSE.sub(rf"\1{_MASK}", value)
            break
    return _LOGIN_OPTION.sub(rf"\1{_MASK}", value) if " -" in value else value


def names_something(text: str) -> bool:
    """Whether a telling name stands in the text."""
    return bool(_KEY_NAMES.search(text))


def mask(value: str) -> str:
    """Mask what stands after the name of a secret or of personal data."""
    if not _KEY_NAMES.search(value):
        return value
    value = _MULTIPART.sub(rf"\1 {_MASK}", value)
    value = _ELEMENT.sub(rf"\1{_MASK}", value)
    value = _HEADER.sub(rf"\1\2{_MASK}", value)
    value = _KEYED.sub(rf"\1\2{_MASK}", value)
    return _OPTION.sub(rf"\1 {_MASK}", value)
