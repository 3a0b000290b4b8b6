#!/usr/bin/python
# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan and record the rotation of a secret, and make its credential file what each phase wants."""

from __future__ import annotations

DOCUMENTATION = r"""
module: secret_rotation
short_description: Replace a secret of a service phase by phase
version_added: 0.1.0
description:
  - Keeps the record of a rotation on the host and writes the credential file that the service reads. Making the
    service read it anew, and telling a database, happens between O(state=begun) and O(state=done); the playbook
    C(rotate_secrets.yml) does all of it.
  - Forward the phases are V(prepare), V(accept), V(switch), V(verify) and V(retire); back they are V(return) and
    V(withdraw). Each is recorded when it begins and when it is done, so an interrupted rotation goes on where it
    stopped.
author:
  - Contributors to the pharma.hardening project (@pharma-hardening)
extends_documentation_fragment:
  - pharma.hardening.ops
  - pharma.hardening.secrets
  - pharma.hardening.attributes
options:
  name:
    description: Name of the rotation, for example V(jwt).
    type: str
    required: true
  state:
    description:
      - V(planned) tells which phases are left.
      - V(begun) records that O(phase) begins and writes the credential file.
      - V(done) records that the effects of O(phase) are complete.
    type: str
    choices: [planned, begun, done]
    default: planned
  phase:
    description: The phase that begins or is done.
    type: str
    choices: [prepare, accept, switch, verify, retire, return, withdraw]
  back:
    description: Take the rotation back instead of going on.
    type: bool
    default: false
  old:
    description: The value that is replaced. Not needed for O(state=done).
    type: str
  new:
    description: The value that replaces it. Not needed for O(state=done).
    type: str
  file:
    description: The credential file of the service; none on a host that only keeps the record.
    type: path
  ring:
    description: Whether the file is a key ring, one secret a line, of which the first signs; else it holds one value.
    type: bool
    default: true
  overlap_seconds:
    description: How long what the secret signed is valid; the old value is not retired earlier.
    type: int
    default: 0
  logins:
    description: The two login roles of a database that take turns, the old one first.
    type: list
    elements: str
    default: []
seealso:
  - module: pharma.hardening.secret_check
  - module: pharma.hardening.secret_probe
  - module: pharma.hardening.database_login
"""

EXAMPLES = r"""
- name: Ask which phases are left
  pharma.hardening.secret_rotation:
    name: jwt
    old: "{{ backend_jwt_secret }}"
    new: "{{ backend_jwt_secret_next }}"
    file: /etc/pharma/credentials/JWT_SECRET
    overlap_seconds: 960
  become: true
  no_log: true
  register: rotation
"""

RETURN = r"""
phases:
  description: The phases that are left, in order; in check mode as they would be.
  returned: success
  type: list
  elements: str
rotation_state:
  description: V(running), V(returning), V(finished) or V(withdrawn).
  returned: success
  type: str
wait_seconds:
  description: What is left of the overlap until the value that goes may become void.
  returned: O(state=planned)
  type: float
code:
  description: Stable code of the error, see docs/errors.md.
  returned: failure
  type: str
action:
  description: What to do next.
  returned: failure
  type: str
"""

import datetime
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pharma.hardening.plugins.module_utils import ops_module
from ansible_collections.pharma.hardening.plugins.module_utils._ops.custody import rotate
from ansible_collections.pharma.hardening.plugins.module_utils._ops.custody import rotation as machine

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["planned", "begun", "done"], "default": "planned"},
    "phase": {
        "type": "str",
        "choices": ["prepare", "accept", "switch", "verify", "retire", "return", "withdraw"],
    },
    "back": {"type": "bool", "default": False},
    "old": {"type": "str", "no_log": True},
    "new": {"type": "str", "no_log": True},
    "file": {"type": "path"},
    "ring": {"type": "bool", "default": True},
    "overlap_seconds": {"type": "int", "default": 0},
    "logins": {"type": "list", "elements": "str", "default": []},
}


def _change(given: dict) -> rotate.Change:
    return rotate.Change(
        name=given["name"],
        old=given["old"],
        new=given["new"],
        file=Path(given["file"]) if given["file"] else None,
        is_ring=given["ring"],
        overlap=datetime.timedelta(seconds=given["overlap_seconds"]),
        logins=tuple(given["logins"]),
    )


def _planned(config: ops_module.config.Config, given: dict) -> dict:
    plan = rotate.plan(config, _change(given), back=given["back"])
    return {
        "changed": False,
        "phases": list(plan.phases),
        "rotation_state": plan.rotation.state,
        "wait_seconds": plan.wait.total_seconds(),
    }


def _moved(config: ops_module.config.Config, given: dict) -> dict:
    run_id = ops_module.quiet_log(config.environment, "rotation").run_id
    if given["state"] == "begun":
        record, _written = rotate.begin(config, _change(given), given["phase"], run_id)
    else:
        record = rotate.finish(config, given["name"], given["phase"], run_id)
    back = record.state == "returning"
    return {
        "changed": True,
        "phases": list(machine.plan(record, back=back)),
        "rotation_state": record.state,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=ops_module.CONFIG_ARGUMENT | ARGUMENTS,
        supports_check_mode=True,
        required_if=[
            ("state", "planned", ("old", "new")),
            ("state", "begun", ("old", "new", "phase")),
            ("state", "done", ("phase",)),
        ],
    )

    def action() -> dict:
        config = ops_module.load_config(module)
        if module.params["state"] == "planned":
            return _planned(config, module.params)
        if module.check_mode:
            return {"changed": True, "phases": [module.params["phase"]], "rotation_state": "running"}
        return _moved(config, module.params)

    ops_module.run(module, action)


if __name__ == "__main__":
    main()
