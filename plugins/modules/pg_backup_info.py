#!/usr/bin/python
# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""List the backup sets of a database."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_info
short_description: List the backup sets of a PostgreSQL database in a store
version_added: 0.1.0
description:
  - Lists what a store holds of a database, oldest first, complete and unfinished sets apart.
  - Needs an identity that may list the store, such as the one of the staging host; a production host that can only
    put is refused by the store.
author:
  - Contributors to the pharma.hardening project (@pharma-hardening)
extends_documentation_fragment:
  - pharma.hardening.ops
  - pharma.hardening.attributes
options:
  store:
    description: Name of the store in the configuration; by default the one of the drill, else the one of the backup.
    type: str
  database:
    description: Name of the database; by default the one that the configuration names.
    type: str
attributes:
  diff_mode:
    support: N/A
    details:
      - It changes nothing.
seealso:
  - module: pharma.hardening.pg_backup
"""

EXAMPLES = r"""
- name: Ask what the off-site store holds
  pharma.hardening.pg_backup_info:
    store: offsite
  become: true
  register: estate

- name: Require a complete set
  ansible.builtin.assert:
    that: estate.sets | selectattr('state', 'eq', 'complete') | length > 0
"""

RETURN = r"""
database:
  description: Name of the database.
  returned: success
  type: str
store:
  description: Where the sets are.
  returned: success
  type: str
sets:
  description: The sets, oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    backup_id:
      description: Identifier of the set.
      type: str
    database:
      description: Name of the database.
      type: str
    state:
      description: V(complete), or V(unfinished) for a set without a manifest, which is never offered for restore.
      type: str
    started_at:
      description: When the backup started, RFC 3339 in UTC.
      type: str
    bytes:
      description: Size of all its objects together.
      type: int
    objects:
      description: Names of its objects.
      type: list
      elements: str
code:
  description: Stable code of the error, see docs/errors.md.
  returned: failure
  type: str
action:
  description: What to do next.
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pharma.hardening.plugins.module_utils import ops_module
from ansible_collections.pharma.hardening.plugins.module_utils._ops.backup import catalogue
from ansible_collections.pharma.hardening.plugins.module_utils._ops.backup.place import place


def main() -> None:
    """Run the module."""
    arguments = ops_module.CONFIG_ARGUMENT | {"store": {"type": "str"}, "database": {"type": "str"}}
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)

    def action() -> dict:
        config = ops_module.load_config(module)
        store, database = place(config, module.params["store"], module.params["database"])
        sets = catalogue.list_sets(store, database)
        return {
            "changed": False,
            "database": database,
            "store": store.description,
            "sets": [found.as_dict() for found in sets],
        }

    ops_module.run(module, action)


if __name__ == "__main__":
    main()
