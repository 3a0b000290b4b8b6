#!/usr/bin/python
# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a database back on its host from a backup set."""

from __future__ import annotations

DOCUMENTATION = r"""
module: recovery
short_description: Bring a database back on its host from a backup set
version_added: 0.1.0
description:
  - Chooses a set in the off-site store, restores it into a new cluster beside the present data directory, compares it
    with its manifest row for row, sets the present data directory aside under another name, and puts the new one in its
    place.
  - Nothing is touched unless O(confirm) is the name of the database. Nothing is ever overwritten or removed.
  - The roles come back without passwords; the role P(pharma.hardening.postgresql#role) sets them afterwards.
author:
  - Contributors to the pharma.hardening project (@pharma-hardening)
extends_documentation_fragment:
  - pharma.hardening.ops
  - pharma.hardening.attributes
options:
  database:
    description: The database to bring back.
    type: str
    required: true
  confirm:
    description: The name of the database once more. Not needed in check mode.
    type: str
  backup_id:
    description: Which set; by default the newest complete one.
    type: str
  ledger:
    description: Take the newest set that a drill of this ledger (C(ledger.jsonl) on the host) has proven.
    type: path
  evidence_keys_file:
    description: Public keys (PEM, on the host) of the drills whose proofs in O(ledger) count.
    type: path
  cluster:
    description: Name of Debian's cluster, of the major version that the set was made with.
    type: str
    default: main
  others_too:
    description: Whether other databases of the cluster may be set aside with it.
    type: bool
    default: false
  fail_when_not_recovered:
    description:
      - Whether another verdict than V(passed) fails the task.
      - With V(false) the task returns the verdict, so that a playbook can fetch the evidence first and fail then.
    type: bool
    default: true
attributes:
  check_mode:
    details:
      - Chooses the set and looks at the host, as C(pharma-ops recover --dry-run) does. It needs the store.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Every run brings the database back to what the set holds.
seealso:
  - module: pharma.hardening.restore_drill
  - module: pharma.hardening.pg_backup
"""

EXAMPLES = r"""
- name: Bring the pharmacy back from its newest set
  pharma.hardening.recovery:
    database: pharma
    confirm: pharma
  become: true
  register: recovery

- name: Say where the data from before are
  ansible.builtin.debug:
    msg: "{{ recovery.cause }} The old data: {{ recovery.set_aside }}"
"""

RETURN = r"""
verdict:
  description: V(passed), V(failed) or V(unknown).
  returned: when the recovery ran
  type: str
cause:
  description: Why the verdict is what it is, in one sentence.
  returned: when the recovery ran
  type: str
recovery_id:
  description: Identifier of the recovery; C(pharma-ops recover undo) takes it.
  returned: when the recovery ran
  type: str
backup_id:
  description: The set that was restored.
  returned: when the recovery ran
  type: str
manifest_sha256:
  description: Digest of its manifest.
  returned: when the recovery ran
  type: str
release:
  description: The release of the application that the set belongs to (name, version, sha256); null when it names none.
  returned: when the recovery ran
  type: dict
migration_head:
  description: The last migration that the set's database had.
  returned: when the recovery ran
  type: str
data_directory:
  description: The data directory of the cluster.
  returned: when the recovery ran
  type: str
set_aside:
  description: Where the data directory from before lies, or would lie; null when there was none.
  returned: when the recovery ran
  type: str
touched:
  description: Whether the data directory was touched, so that there is something to undo.
  returned: when the recovery ran
  type: bool
rto_seconds:
  description: From the start to the end of the stage settle; null when it did not get there.
  returned: when the recovery ran
  type: float
rpo_seconds:
  description: Age of the newest committed change in the set when the recovery began.
  returned: when the recovery ran
  type: float
evidence_dir:
  description: Directory on the host that holds the evidence; null when the recovery ended before it was confirmed.
  returned: when the recovery ran
  type: str
report_path:
  description: The report on the host, one self-contained page.
  returned: when the recovery ran
  type: str
stages:
  description: Name, verdict and seconds of every stage.
  returned: when the recovery ran
  type: list
  elements: dict
code:
  description: Stable code of the error that kept the recovery from running, see docs/errors.md.
  returned: failure
  type: str
action:
  description: What to do next.
  returned: failure
  type: str
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pharma.hardening.plugins.module_utils import ops_module
from ansible_collections.pharma.hardening.plugins.module_utils._ops.config import Drill
from ansible_collections.pharma.hardening.plugins.module_utils._ops.evidence.record import Verdict
from ansible_collections.pharma.hardening.plugins.module_utils._ops.progress import Silent
from ansible_collections.pharma.hardening.plugins.module_utils._ops.recover import run as recover_run
from ansible_collections.pharma.hardening.plugins.module_utils._ops.recover.context import Request

MAX_JOBS = 8


def main() -> None:
    """Run the module."""
    arguments = ops_module.CONFIG_ARGUMENT | {
        "database": {"type": "str", "required": True},
        "confirm": {"type": "str"},
        "backup_id": {"type": "str"},
        "ledger": {"type": "path"},
        "evidence_keys_file": {"type": "path"},
        "cluster": {"type": "str", "default": "main"},
        "others_too": {"type": "bool", "default": False},
        "fail_when_not_recovered": {"type": "bool", "default": True},
    }
    module = AnsibleModule(
        argument_spec=arguments,
        supports_check_mode=True,
        mutually_exclusive=[("backup_id", "ledger")],
        required_by={"ledger": ("evidence_keys_file",)},
    )
    ops_module.run(module, lambda: _recover(module))


def _recover(module: AnsibleModule) -> dict:
    config = ops_module.load_config(module)
    given = module.params
    drill = config.drill or Drill()
    request = Request(
        database=given["database"],
        store=drill.store,
        identity=drill.identity_file,
        signers_file=drill.trusted_signers_file,
        confirm=lambda _preview: given["confirm"] or "",
        backup_id=given["backup_id"],
        ledger=Path(given["ledger"]) if given["ledger"] else None,
        evidence_keys_file=Path(given["evidence_keys_file"]) if given["evidence_keys_file"] else None,
        cluster=given["cluster"],
        others_too=given["others_too"],
        jobs=min(os.cpu_count() or 1, MAX_JOBS),
        rto_objective_seconds=drill.rto_objective_seconds,
        rpo_objective_seconds=drill.rpo_objective_seconds,
    )
    outcome = recover_run.run_recovery(
        config,
        request,
        dry_run=module.check_mode,
        log=ops_module.quiet_log(config.environment, "recover"),
        progress=Silent(),
    )
    changed = outcome.touched or (module.check_mode and outcome.record.verdict is Verdict.PASSED)
    result = outcome.as_dict() | {"changed": changed}
    if outcome.record.verdict is not Verdict.PASSED and given["fail_when_not_recovered"]:
        module.fail_json(msg=f"The recovery ended with {outcome.record.verdict}. {outcome.cause}", **result)
    return result


if __name__ == "__main__":
    main()
