#!/usr/bin/python
# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the service, with tokens of a real login, whether the rotation of its signing secret works."""

from __future__ import annotations

DOCUMENTATION = r"""
module: secret_probe
short_description: Try tokens from before and after the rotation of a signing secret
version_added: 0.1.0
description:
  - O(state=sampled) logs in and keeps the tokens in a file of root's.
  - O(state=verified) logs in again and requires that new tokens are made with the first secret of the key ring and
    work, that an altered token is refused, and that the sample still works.
  - O(state=forgotten) removes the sample.
author:
  - Contributors to the pharma.hardening project (@pharma-hardening)
extends_documentation_fragment:
  - pharma.hardening.ops
  - pharma.hardening.secrets
  - pharma.hardening.attributes
options:
  name:
    description: Name of the rotation.
    type: str
    required: true
    choices: [jwt, refresh]
  state:
    description: What to do.
    type: str
    required: true
    choices: [sampled, verified, forgotten]
  socket:
    description: Unix socket of the service.
    type: path
  file:
    description: The credential file with the key ring.
    type: path
  username:
    description: A user who may log in; it needs no more than to read.
    type: str
  password:
    description: Password of the user.
    type: str
  path:
    description: A path that the user may GET.
    type: str
    default: /products?limit=1
seealso:
  - module: pharma.hardening.secret_rotation
"""

EXAMPLES = r"""
- name: Keep the tokens of a login from before the switch
  pharma.hardening.secret_probe:
    name: jwt
    state: sampled
    socket: /opt/pharma/slots/active.sock
    username: probe
    password: "{{ vault_probe_password }}"
  become: true
"""

RETURN = r"""
seen:
  description: What was seen, one sentence each.
  returned: success
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

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pharma.hardening.plugins.module_utils import ops_module
from ansible_collections.pharma.hardening.plugins.module_utils._ops.custody import probe, record

ARGUMENTS = {
    "name": {"type": "str", "required": True, "choices": ["jwt", "refresh"]},
    "state": {"type": "str", "required": True, "choices": ["sampled", "verified", "forgotten"]},
    "socket": {"type": "path"},
    "file": {"type": "path"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "path": {"type": "str", "default": "/products?limit=1"},
}


def _ask(given: dict, store: Path) -> dict:
    service = probe.Probe(
        socket=Path(given["socket"]),
        username=given["username"],
        password=given["password"],
        path=given["path"],
    )
    if given["state"] == "sampled":
        return {"changed": probe.sample(service, store), "seen": []}
    seen = probe.verify(service, given["name"], Path(given["file"]), store)
    return {"changed": False, "seen": seen}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=ops_module.CONFIG_ARGUMENT | ARGUMENTS,
        supports_check_mode=True,
        required_if=[
            ("state", "sampled", ("socket", "username", "password")),
            ("state", "verified", ("socket", "username", "password", "file")),
        ],
    )

    def action() -> dict:
        config = ops_module.load_config(module)
        store = record.record_path(config, module.params["name"]).with_suffix(".sample")
        if module.params["state"] == "forgotten":
            there = store.exists()
            if not module.check_mode:
                probe.forget(store)
            return {"changed": there, "seen": []}
        if module.check_mode:
            return {"changed": module.params["state"] == "sampled" and not store.exists(), "seen": []}
        return _ask(module.params, store)

    ops_module.run(module, action)


if __name__ == "__main__":
    main()
