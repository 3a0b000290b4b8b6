# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data as TOML 1.0: what the roles write their configuration with, so that no value can break out of its place."""

from __future__ import annotations

DOCUMENTATION = r"""
name: to_toml
short_description: Turn a dictionary into TOML
version_added: 0.1.0
description:
  - Writes tables, strings, numbers, booleans and lists of these as TOML 1.0, whatever characters the strings hold.
  - Keys without a value (null) are left out; TOML has none.
author:
  - Contributors to the pharma.hardening project (@pharma-hardening)
positional: _input
options:
  _input:
    description: The dictionary.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show a store as the configuration holds it
  ansible.builtin.debug:
    msg: "{{ {'stores': {'offsite': {'type': 's3', 'bucket': 'backups'}}} | pharma.hardening.to_toml }}"
"""

RETURN = r"""
_value:
  description: The TOML text.
  type: str
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(data: Mapping[str, Any]) -> str:
    """The dictionary as TOML; tables after plain values.

    :raises AnsibleFilterError: the input is no dictionary, or holds a value that TOML cannot express here.
    """
    if not isinstance(data, Mapping):
        raise AnsibleFilterError(f"to_toml needs a dictionary, not {type(data).__name__}")
    return "\n".join(_table(data, ())) + "\n"


def _table(data: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    values = {key: value for key, value in data.items() if value is not None}
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    lines = [f"[{'.'.join(map(_key, path))}]"] if path and (plain or not values) else []
    lines += [f"{_key(key)} = {_value(value, (*path, key))}" for key, value in plain.items()]
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += ["", *_table(value, (*path, key))] if lines else _table(value, (*path, key))
    return lines


def _key(key: str) -> str:
    return str(key) if _BARE_KEY.fullmatch(str(key)) else _string(str(key))


def _value(value: Any, path: tuple[str, ...]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Sequence):
        return f"[{', '.join(_value(item, path) for item in value)}]"
    raise AnsibleFilterError(f"to_toml cannot write {'.'.join(path)}: it is of type {type(value).__name__}")


def _string(value: str) -> str:
    # JSON's escapes are TOML's too, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """By their names."""
        return {"to_toml": to_toml}
