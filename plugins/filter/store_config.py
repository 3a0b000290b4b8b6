# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store of a role's variables as the configuration of pharma-ops has it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: store_config
short_description: Turn a store of a role's variables into the configuration of pharma-ops
version_added: 0.2.0
description:
  - The section C(stores) of the configuration, in which the paths of files stand for the secrets, and the section
    C(secrets), which names those files for the inventory of secrets.
author:
  - Contributors to the pharma.hardening project (@pharma-hardening)
positional: _input, base, owner, label
options:
  _input:
    description: The store, as the roles of this collection take it.
    type: dict
    required: true
  base:
    description: What the paths of its files begin with, as for P(pharma.hardening.store_files#filter).
    type: str
    required: true
  owner:
    description: Who answers for its secrets in the inventory.
    type: str
    required: true
  label:
    description: Name of its credentials in the inventory.
    type: str
    required: true
seealso:
  - plugin: pharma.hardening.store_files
    plugin_type: filter
  - plugin: pharma.hardening.to_toml
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show a store as the configuration holds it
  ansible.builtin.debug:
    msg: >-
      {{ backup_stores[0] | pharma.hardening.store_config('/etc/pharma-ops/keys/backup-store-offsite', 'pharma-backup',
      'backup_store_offsite') | pharma.hardening.to_toml }}
"""

RETURN = r"""
_value:
  description: C(stores), and C(secrets) where it has any.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.pharma.hardening.plugins.filter.store_files import (
    CREDENTIALS_ENDING,
    ENDINGS,
    credentials,
)

# Taken over as they are; what is empty says nothing.
_PLAIN = (
    "path",
    "endpoint",
    "region",
    "bucket",
    "prefix",
    "addressing_style",
    "storage_class",
    "sse",
    "sse_kms_key_id",
    "lock_mode",
    "lock_days",
    "bandwidth_limit",
)
_CREDENTIALS_DAYS = 90
_KEY_DAYS = 180


def store_config(store: Mapping[str, Any], base: str, owner: str, label: str) -> dict[str, Any]:
    """The sections ``stores`` and ``secrets`` for one store.

    :raises AnsibleFilterError: the input is no dictionary, or has no name or type.
    """
    if not isinstance(store, Mapping) or not store.get("name") or not store.get("type"):
        raise AnsibleFilterError("store_config needs a dictionary with a name and a type")
    section = {"type": store["type"]} | {key: store[key] for key in _PLAIN if store.get(key)}
    section |= {f"{key}_file": f"{base}{ending}" for key, ending in ENDINGS.items() if store.get(key)}
    secrets: dict[str, Any] = {}
    if credentials(store):
        section["credentials_file"] = f"{base}{CREDENTIALS_ENDING}"
        secrets[label] = _secret(section["credentials_file"], owner, _CREDENTIALS_DAYS)
    if store.get("sse_customer_key"):
        secrets[f"{label}_sse"] = _secret(section["sse_customer_key_file"], owner, _KEY_DAYS)
    return {"stores": {store["name"]: section}} | ({"secrets": secrets} if secrets else {})


def _secret(file: str, owner: str, days: int) -> dict[str, Any]:
    return {"file": file, "owner": owner, "max_age_days": days}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., dict[str, Any]]]:
        """By their names."""
        return {"store_config": store_config}
