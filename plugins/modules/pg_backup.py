#!/usr/bin/python
# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a backup set of a PostgreSQL database."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup
short_description: Make an encrypted backup set of a PostgreSQL database
version_added: 0.1.0
description:
  - Dumps a database of the host's configuration from one exported snapshot, encrypts the dump once for every recipient
    while it is streamed to all stores, and takes rows and content hash of every table in the same snapshot.
  - The manifest is published last; a run that dies leaves no set that could be taken for whole.
  - A store that fails is dropped while the others get the set; the module then fails with the result for each store.
  - Neither plain text nor a temporary copy is written to the disk of the host.
author:
  - Contributors to the pharma.hardening project (@pharma-hardening)
extends_documentation_fragment:
  - pharma.hardening.ops
  - pharma.hardening.attributes
options:
  database:
    description: Name of the database in the configuration; by default the only one.
    type: str
attributes:
  check_mode:
    details:
      - Checks the configuration, the recipients, the keys, the database and the stores, and makes no set.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Every run makes a set of its own.
seealso:
  - module: pharma.hardening.pg_backup_info
  - module: pharma.hardening.restore_drill
"""

EXAMPLES = r"""
- name: Back up the pharmacy's database now
  pharma.hardening.pg_backup:
  become: true
  register: backup

- name: Back up one of several databases
  pharma.hardening.pg_backup:
    database: crm
  become: true

- name: Show which set it made
  ansible.builtin.debug:
    msg: "{{ backup.backup_id }}: {{ backup.rows }} rows in {{ backup.seconds }} s"
"""

RETURN = r"""
backup_id:
  description: Identifier of the set, unique in the store. Not returned in check mode.
  returned: success
  type: str
  sample: 20260215T020000Z-3fa9c1
database:
  description: Name of the database.
  returned: success
  type: str
  sample: pharma
verdict:
  description: V(complete) when every store has the set, V(partial) when some have it.
  returned: when a set was made
  type: str
stores:
  description: What came of the backup at each store, in the order of the configuration.
  returned: when a set was made, and in check mode
  type: list
  elements: dict
  contains:
    name:
      description: Name of the store in the configuration.
      type: str
    description:
      description: Where it is, as messages and evidence name it.
      type: str
      sample: s3://pharma-backups at https://s3:7443
    verdict:
      description: V(complete), or V(failed), which leaves an unfinished set or none.
      type: str
    error:
      description: Code, message and action of what failed; null otherwise.
      type: dict
manifest_sha256:
  description: Digest of the manifest; evidence of a drill names the same one.
  returned: success
  type: str
tables:
  description: Number of tables whose content was hashed.
  returned: success
  type: int
rows:
  description: Number of rows in all of them.
  returned: success
  type: int
bytes:
  description: Size of the encrypted objects of the set, in each store.
  returned: success
  type: int
seconds:
  description: How long it took, in seconds.
  returned: success
  type: float
code:
  description: Stable code of the error, see docs/errors.md.
  returned: failure
  type: str
  sample: STORE_UNREACHABLE
action:
  description: What to do next.
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pharma.hardening.plugins.module_utils import ops_module
from ansible_collections.pharma.hardening.plugins.module_utils._ops.backup import create
from ansible_collections.pharma.hardening.plugins.module_utils._ops.progress import Silent


def main() -> None:
    """Run the module."""
    arguments = ops_module.CONFIG_ARGUMENT | {"database": {"type": "str"}}
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)

    def action() -> dict:
        config = ops_module.load_config(module)
        database = module.params["database"]
        if module.check_mode:
            stores = create.preflight(config, database)
            for store in stores:
                if store.error:
                    module.warn(f"{store.name}: {store.error}")
            return {"changed": True, "stores": [store.as_dict() for store in stores]}
        log = ops_module.quiet_log(config.environment, "backup")
        made = create.create_backup(config, log, Silent(), database)
        result = {"changed": True} | made.as_dict()
        for warning in result.pop("warnings"):
            module.warn(warning)
        if made.error:
            ops_module.fail(module, made.error, result | {"rc": 1})
        return result

    ops_module.run(module, action)


if __name__ == "__main__":
    main()
