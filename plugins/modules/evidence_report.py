#!/usr/bin/python
# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Render the report of a drill's evidence."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence_report
short_description: Verify the evidence of a drill and render its report
version_added: 0.1.0
description:
  - Verifies signature, digests and chain of an evidence directory with the public key, and renders its report into a
    file of its own, in the wanted language.
  - The evidence itself is never altered.
author:
  - Contributors to the pharma.hardening project (@pharma-hardening)
extends_documentation_fragment:
  - pharma.hardening.attributes
options:
  path:
    description: The evidence directory of a drill, on the host.
    type: path
    required: true
  dest:
    description: The file to write, a self-contained HTML page. Its directory must exist.
    type: path
    required: true
  language:
    description: Language in which the page opens; the other one is on it too.
    type: str
    choices: [pt-BR, en]
    default: pt-BR
  timezone:
    description: Time zone that stands beside UTC.
    type: str
    default: America/Sao_Paulo
  public_key:
    description: Public keys (PEM), one of which must have signed the evidence.
    type: str
    required: true
requirements:
  - python >= 3.11 on the host
  - the Debian packages python3-cryptography and python3-jinja2 on the host
attributes:
  diff_mode:
    support: full
seealso:
  - module: pharma.hardening.restore_drill
"""

EXAMPLES = r"""
- name: Render the report of the last drill for an auditor abroad
  pharma.hardening.evidence_report:
    path: /var/lib/pharma-ops/evidence/latest
    dest: /srv/reports/drill.html
    language: en
    public_key: "{{ evidence_signing_public_key }}"
  become: true
"""

RETURN = r"""
verdict:
  description: The verdict that the evidence records.
  returned: success
  type: str
drill_id:
  description: Identifier of the drill.
  returned: success
  type: str
report_path:
  description: The page.
  returned: success
  type: str
checks:
  description: What was verified, each with its verdict.
  returned: success
  type: list
  elements: dict
code:
  description: Stable code of the error, see docs/errors.md.
  returned: failure
  type: str
action:
  description: What to do next.
  returned: failure
  type: str
"""

import dataclasses
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pharma.hardening.plugins.module_utils import ops_module
from ansible_collections.pharma.hardening.plugins.module_utils._ops.errors import OpsError
from ansible_collections.pharma.hardening.plugins.module_utils._ops.evidence import publish, render, verify
from ansible_collections.pharma.hardening.plugins.module_utils._ops.evidence.record import Verdict
from ansible_collections.pharma.hardening.plugins.module_utils._ops.files import write_atomic


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "dest": {"type": "path", "required": True},
            "language": {"type": "str", "choices": ["pt-BR", "en"], "default": "pt-BR"},
            "timezone": {"type": "str", "default": "America/Sao_Paulo"},
            "public_key": {"type": "str", "required": True, "no_log": False},
        },
        supports_check_mode=True,
    )
    ops_module.run(module, lambda: _report(module))


def _report(module: AnsibleModule) -> dict:
    directory, dest = Path(module.params["path"]), Path(module.params["dest"])
    checks = verify.verify_directory(directory, module.params["public_key"].encode())
    wrong = [check for check in checks if check.verdict is not Verdict.PASSED]
    if wrong:
        raise OpsError(
            "EVIDENCE_INVALID",
            f"The evidence {directory} is not to be relied on: {wrong[0].name}: {wrong[0].observed}.",
            "Look at it with pharma-ops evidence verify; no report was written.",
        )
    record = verify.record_in(directory)
    context = publish.context_of(directory, record, module.params["timezone"])
    page = render.html(record, context, module.params["language"])
    before = dest.read_text(encoding="utf-8") if dest.exists() else ""
    if before != page and not module.check_mode:
        write_atomic(dest, page.encode())
    return {
        "changed": before != page,
        "verdict": record.verdict.value,
        "drill_id": record.drill_id,
        "report_path": str(dest),
        "checks": [dataclasses.asdict(check) for check in checks],
        "diff": {
            "before": before,
            "after": page,
            "before_header": str(dest),
            "after_header": str(dest),
        },
    }


if __name__ == "__main__":
    main()
