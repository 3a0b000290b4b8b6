#!/usr/bin/python
# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse values that a rotation retired, and tell which secrets a running rotation manages."""

from __future__ import annotations

DOCUMENTATION = r"""
module: secret_check
short_description: Refuse retired secrets before they are deployed
version_added: 0.1.0
description:
  - Compares values that are about to be deployed with the records of rotations on the host.
  - A value that a rotation made void is refused. A secret whose rotation is under way is named, so that a deployment
    leaves its file alone.
author:
  - Contributors to the pharma.hardening project (@pharma-hardening)
extends_documentation_fragment:
  - pharma.hardening.ops
  - pharma.hardening.secrets
  - pharma.hardening.attributes
options:
  candidates:
    description: Name of the rotation, and the values to deploy (a string or a list of them).
    type: dict
    required: true
seealso:
  - module: pharma.hardening.secret_rotation
"""

EXAMPLES = r"""
- name: Refuse a retired value
  pharma.hardening.secret_check:
    candidates:
      jwt: "{{ backend_jwt_secret }}"
  become: true
  register: secrets
"""

RETURN = r"""
under_rotation:
  description: Names of the rotations that are under way; their files are not to be written.
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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pharma.hardening.plugins.module_utils import ops_module
from ansible_collections.pharma.hardening.plugins.module_utils._ops.custody import record


def main() -> None:
    """Run the module."""
    arguments = ops_module.CONFIG_ARGUMENT | {
        "candidates": {"type": "dict", "required": True, "no_log": True}
    }
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)

    def action() -> dict:
        candidates = {
            name: [values] if isinstance(values, str) else list(values)
            for name, values in module.params["candidates"].items()
        }
        left = record.under_rotation(ops_module.load_config(module), candidates)
        return {"changed": False, "under_rotation": left}

    ops_module.run(module, action)


if __name__ == "__main__":
    main()
