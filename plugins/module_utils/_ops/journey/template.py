# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``{{name}}`` in the texts of a journey: found before anything is sent, replaced while it runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import OpsError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


def names_in(value: Any) -> frozenset[str]:
    """The names of all placeholders in a JSON value.

    :raises OpsError: ``JOURNEY_INVALID`` when braces remain that are no placeholder.
    """
    if isinstance(value, str):
        rest = _PLACEHOLDER.sub("", value)
        if "{{" in rest or "}}" in rest:
            raise OpsError(
                "JOURNEY_INVALID",
                f"{value!r} has double braces that are not a placeholder.",
                "A placeholder is {{name}}: letters, digits and underscores.",
            )
        return frozenset(_PLACEHOLDER.findall(value))
    if isinstance(value, Mapping):
        return frozenset().union(*(names_in(item) for item in value.values()))
    if isinstance(value, list | tuple):
        return frozenset().union(*(names_in(item) for item in value))
    return frozenset()


def fill(value: Any, variables: Mapping[str, Any], quote: Callable[[str], str] = str) -> Any:
    """A copy of a JSON value with its placeholders replaced.

    A string that is one placeholder and nothing else becomes the variable itself, with its type;
    inside a longer text the variable stands as text.

    :param quote: applied to every text that is put into a longer one (percent-encoding in paths).
    :raises KeyError: a variable is not defined (the parser has ruled this out).
    """
    if isinstance(value, str):
        whole = _PLACEHOLDER.fullmatch(value)
        if whole:
            return variables[whole[1]]
        return _PLACEHOLDER.sub(lambda found: quote(as_text(variables[found[1]])), value)
    if isinstance(value, Mapping):
        return {key: fill(item, variables, quote) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [fill(item, variables, quote) for item in value]
    return value


def as_text(value: Any) -> str:
    """A variable as it stands in a path, a header or a longer text (JSON's words for true and null)."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
