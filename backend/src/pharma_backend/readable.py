# SPDX-License-Identifier: GPL-3.0-or-later
"""Text as it reads without its escapes: percent, backslash, entities, widths, invisible characters."""

from __future__ import annotations

import html
import re
import unicodedata
from urllib.parse import unquote

from . import keyed

_ROUNDS = 3

_DISGUISED = re.compile(
    r"(?:\\{1,8}x[2-7][0-9a-f]|\\{1,8}u00[2-7][0-9a-f]|%[2-7][0-9a-f]){5,}", re.IGNORECASE
)
_ESCAPED = re.compile(r"\\{1,8}u\{?([0-9a-fA-F]{4})\}?|\\{1,8}x([0-9a-fA-F]{2})")
_BACKSLASHED = re.compile(r"""\\{1,8}(["'/nrt])""")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ue000-\uf8ff]")
_DASH = re.compile("[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")


def plain(value: str) -> str:
    """The text without escapes; characters that steer a terminal become spaces."""
    if "\\" in value or "%" in value:
        value = _DISGUISED.sub(_disguised, value)
    for _ in range(_ROUNDS):
        before = value
        value = _round(value)
        if value == before:
            break
    return value if value.isprintable() else _CONTROL.sub(" ", value)


def _disguised(found: re.Match[str]) -> str:
    """Mask letters that were written as escapes without need, unless they read as a name of something."""
    letters = unquote(re.sub(r"\\+u00|\\+x", "%", found[0]))
    disguise = sum(character.isalnum() for character in letters) > 3 and not keyed.names_something(letters)
    return "[encoded]" if disguise else found[0]


def _round(value: str) -> str:
    if "\\" in value:
        value = _ESCAPED.sub(lambda found: chr(int(found[1] or found[2], 16)), value)
        value = _BACKSLASHED.sub(_unescaped, value)
    if "%" in value:
        value = unquote(value)
    if "&" in value:
        value = html.unescape(value)
    if not value.isascii():
        value = _DASH.sub("-", _INVISIBLE.sub("", unicodedata.normalize("NFKC", value)))
        value = "".join(_ascii_digit(character) for character in value)
    return value


def _unescaped(found: re.Match[str]) -> str:
    return {"n": "\n", "r": "\n", "t": "\t"}.get(found[1], found[1])


def _ascii_digit(character: str) -> str:
    return str(unicodedata.digit(character)) if not character.isascii() and character.isdigit() else character
