# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files on a host that hold the secrets of a store of a role's variables."""

from __future__ import annotations

DOCUMENTATION = r"""
name: store_files
short_description: Which files hold the secrets of a store
version_added: 0.2.0
description:
  - Credentials, certificate authority and key of SSE-C of a store, each as the file that holds it on the host.
  - What the store does not have is left out.
author:
  - Contributors to the pharma.hardening project (@pharma-hardening)
positional: _input, base
options:
  _input:
    description: The store, as the roles of this collection take it.
    type: dict
    required: true
  base:
    description: What the paths of its files begin with.
    type: str
    required: true
seealso:
  - plugin: pharma.hardening.store_config
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show where a store's secrets go
  ansible.builtin.debug:
    msg: >-
      {{ backup_stores[0] | pharma.hardening.store_files('/etc/pharma-ops/keys/backup-store-offsite')
      | map(attribute='path') }}
"""

RETURN = r"""
_value:
  description: Files, each with C(path) and C(content).
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.pharma.hardening.plugins.filter.to_toml import to_toml

# Key of a store, and the ending of the file that holds it.
ENDINGS = {"ca": "-ca.crt", "sse_customer_key": "-sse.key"}
CREDENTIALS = ("access_key", "secret_key", "account_key", "sas_token")
CREDENTIALS_ENDING = ".toml"


def credentials(store: Mapping[str, Any]) -> dict[str, str]:
    """The credentials that a store has."""
    return {key: store[key] for key in CREDENTIALS if store.get(key)}


def store_files(store: Mapping[str, Any], base: str) -> list[dict[str, str]]:
    """The files of a store's secrets, with their content.

    :raises AnsibleFilterError: the input is no dictionary.
    """
    if not isinstance(store, Mapping):
        raise AnsibleFilterError(f"store_files needs a dictionary, not {type(store).__name__}")
    keys = credentials(store)
    files = [{"path": f"{base}{CREDENTIALS_ENDING}", "content": to_toml(keys)}] if keys else []
    return files + [
        {"path": f"{base}{ending}", "content": str(store[key])}
        for key, ending in ENDINGS.items()
        if store.get(key)
    ]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., list[dict[str, str]]]]:
        """By their names."""
        return {"store_files": store_files}
