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
  - Dumps the database that the host's configuration names from one exported snapshot, encrypts the dump for every
    recipient while it is streamed to the store, and takes rows and content hash of every table in the same snapshot.
  - The manifest is published last; a run that dies leaves no set that could be taken for whole.
  - Neither plain text nor a temporary copy is written to the disk of the host.
author:
  - Contributors to the pharma.hardening project (@pharma-hardening)
extends_documentation_fragment:
  - pharma.hardening.ops
attributes:
  check_mode:
    description: Can run in check mode and tell what would be done without doing it.
    support: full
    details:
      - Checks the configuration, the recipients, the keys, the database and the store, and makes no set.
  diff_mode:
    description: Returns details of what has changed, or would change in check mode, in diff mode.
    support: none
  idempotent:
    description: When run twice without changes in between, does not change anything the second time.
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
store:
  description: Where the set is, as messages and evidence name it.
  returned: success
  type: str
  sample: s3://pharma-backups at https://s3:7443
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
  description: Size of the encrypted objects of the set.
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
    module = AnsibleModule(argument_spec=ops_module.CONFIG_ARGUMENT, supports_check_mode=True)

    def action() -> dict:
        config = ops_module.load_config(module)
        if module.check_mode:
            create.preflight(config)
            return {"changed": True}
        log = ops_module.quiet_log(config.environment, "backup")
        return {"changed": True} | create.create_backup(config, log, Silent()).as_dict()

    ops_module.run(module, action)


if __name__ == "__main__":
    main()
