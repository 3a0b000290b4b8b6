#!/usr/bin/python
# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let a login role of PostgreSQL log in with a password, or not at all, without any log seeing the password."""

from __future__ import annotations

DOCUMENTATION = r"""
module: database_login
short_description: Let login roles of a database take turns
version_added: 0.1.0
description:
  - Two login roles with the same rights take turns, so that a password can be replaced without a moment in which
    none works.
  - The SCRAM-SHA-256 verifier is made on this side and statement logging is off in the session, so neither the
    password nor the verifier reaches the server's log.
author:
  - Contributors to the pharma.hardening project (@pharma-hardening)
extends_documentation_fragment:
  - pharma.hardening.secrets
  - pharma.hardening.attributes
options:
  role:
    description: The login role. It must exist.
    type: str
    required: true
  state:
    description:
      - V(allowed) lets it log in with O(password).
      - V(denied) takes login and password away, unless it has sessions.
      - V(in_use) requires that O(role) has sessions and O(other) has none, within O(timeout_seconds).
    type: str
    choices: [allowed, denied, in_use]
    default: allowed
  password:
    description: The password, for V(allowed).
    type: str
  other:
    description: The role that it takes turns with; for V(allowed) it must have the same memberships and rights.
    type: str
  database:
    description: The database that both connect to.
    type: str
    required: true
  login_unix_socket:
    description: Directory of the server's socket.
    type: path
    default: /var/run/postgresql
  login_port:
    description: Port that names the socket.
    type: int
    default: 5432
  timeout_seconds:
    description: How long V(in_use) waits.
    type: int
    default: 60
requirements:
  - python >= 3.11 and python3-psycopg on the host
notes:
  - Run it on the database host as the account of the server's superuser (C(become_user=postgres)).
"""

EXAMPLES = r"""
- name: Let the other role log in
  pharma.hardening.database_login:
    role: pharma_app_alt
    other: pharma_app
    database: pharma
    password: "{{ vault_database_app_password_next }}"
  become: true
  become_user: postgres
"""

RETURN = r"""
sessions:
  description: How many sessions each role has.
  returned: O(state=in_use)
  type: dict
code:
  description: Stable code of the error, see docs/errors.md.
  returned: failure
  type: str
action:
  description: What to do next.
  returned: failure
  type: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pharma.hardening.plugins.module_utils import ops_module
from ansible_collections.pharma.hardening.plugins.module_utils._ops.custody import login
from ansible_collections.pharma.hardening.plugins.module_utils._ops.errors import ExitCode, OpsError
from ansible_collections.pharma.hardening.plugins.module_utils._ops.postgres.connection import Target

ARGUMENTS = {
    "role": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["allowed", "denied", "in_use"], "default": "allowed"},
    "password": {"type": "str", "no_log": True},
    "other": {"type": "str"},
    "database": {"type": "str", "required": True},
    "login_unix_socket": {"type": "path", "default": "/var/run/postgresql"},
    "login_port": {"type": "int", "default": 5432},
    "timeout_seconds": {"type": "int", "default": 60},
}


def _in_use(target: Target, role: str, other: str, seconds: float) -> dict:
    """Wait until only the one role has sessions."""
    deadline = time.monotonic() + seconds
    while True:
        counts = login.count_sessions(target, (role, other))
        if counts[role] and not counts[other]:
            return {"changed": False, "sessions": counts}
        if time.monotonic() > deadline:
            raise OpsError(
                "SESSIONS_LEFT",
                f"After {seconds:g} s {role} has {counts[role]} session(s) in {target.description}, and {other},"
                f" which should have none, has {counts[other]}.",
                "Find in pg_stat_activity who uses the old login; nothing was retired.",
                ExitCode.FAILED,
            )
        time.sleep(0.5)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_if=[("state", "allowed", ("password", "other")), ("state", "in_use", ("other",))],
    )
    given = module.params

    def action() -> dict:
        target = Target(dbname=given["database"], host=given["login_unix_socket"], port=given["login_port"])
        if given["state"] == "allowed":
            changed = login.allow(
                target, given["role"], given["password"], given["other"], check=module.check_mode
            )
            return {"changed": changed}
        if given["state"] == "denied":
            return {"changed": login.deny(target, given["role"], check=module.check_mode)}
        if module.check_mode:
            return {
                "changed": False,
                "sessions": login.count_sessions(target, (given["role"], given["other"])),
            }
        return _in_use(target, given["role"], given["other"], given["timeout_seconds"])

    ops_module.run(module, action)


if __name__ == "__main__":
    main()
