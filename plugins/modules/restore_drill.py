#!/usr/bin/python
# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove on a staging host that production could be brought back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_drill
short_description: Prove that a backup restores, equals its source and carries the application
version_added: 0.1.0
description:
  - Fetches a backup set from the off-site store, restores it into a throw-away cluster, compares every table with what
    the source held, runs the release of the application on it without any network, plays the journey, removes
    everything, and signs the evidence.
  - The drill passes only when every stage passed. C(unknown) and C(not_run) never count as passed.
author:
  - Contributors to the pharma.hardening project (@pharma-hardening)
extends_documentation_fragment:
  - pharma.hardening.ops
  - pharma.hardening.attributes
options:
  backup_id:
    description: Which set to prove; by default the newest complete one.
    type: str
  foreign:
    description:
      - Prove the newest dump made by others of this section C([foreign.<name>]) of the configuration, instead of a set.
      - The best verdict is then V(limited), see C(docs/adopting-dumps.md).
    type: str
  foreign_object:
    description: With O(foreign), this object (its key or id) instead of the newest.
    type: str
  identity:
    description:
      - Content of an age identity file that is used instead of the host's own key, such as the escrow key.
      - It stays in memory on the host as long as the module is sent through standard input (C(ansible_pipelining=true),
        as C(playbooks/drill.yml) has it); without pipelining Ansible writes it into a temporary file there.
    type: str
  fail_when_not_proven:
    description:
      - Whether a drill with another verdict than V(passed) fails the task; with O(foreign), than V(limited).
      - With V(false) the task returns the verdict, so that a playbook can fetch the evidence first and fail then.
    type: bool
    default: true
attributes:
  check_mode:
    details:
      - Tells which set would be drilled. It needs the store, and touches nothing on the host.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Every run is a proof of its own and leaves a record of its own.
seealso:
  - module: pharma.hardening.pg_backup
  - module: pharma.hardening.evidence_report
"""

EXAMPLES = r"""
- name: Prove the newest backup
  pharma.hardening.restore_drill:
    fail_when_not_proven: false
  become: true
  register: drill

- name: Prove the newest dump that a vendor left
  pharma.hardening.restore_drill:
    foreign: erp
  become: true

- name: Say how it went
  ansible.builtin.debug:
    msg: "{{ drill.verdict }}: {{ drill.cause }} RTO {{ drill.rto_seconds }} s, RPO {{ drill.rpo_seconds }} s"
"""

RETURN = r"""
verdict:
  description: V(passed), V(failed) or V(unknown); of a dump made by others V(limited) in the place of V(passed).
  returned: when the drill ran
  type: str
cause:
  description: Why the verdict is what it is, in one sentence.
  returned: when the drill ran
  type: str
rto_seconds:
  description: Measured time from the selection of the backup to the end of the journey; null when it did not get there.
  returned: when the drill ran
  type: float
rpo_seconds:
  description: Age of the newest committed change that the restored copy contains, when the drill started.
  returned: when the drill ran
  type: float
backup_id:
  description: The set, or the dump made by others, that was restored.
  returned: when the drill ran
  type: str
drill_id:
  description: Identifier of the drill, and C(requestId) of its log lines.
  returned: when the drill ran
  type: str
evidence_dir:
  description: Directory on the host that holds the evidence.
  returned: when the drill ran
  type: str
report_path:
  description: The report on the host, one self-contained page.
  returned: when the drill ran
  type: str
stages:
  description: Name, verdict and seconds of every stage.
  returned: when the drill ran
  type: list
  elements: dict
code:
  description: Stable code of the error that kept the drill from running, see docs/errors.md.
  returned: failure
  type: str
action:
  description: What to do next.
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pharma.hardening.plugins.module_utils import ops_module
from ansible_collections.pharma.hardening.plugins.module_utils._ops.backup import catalogue, foreign
from ansible_collections.pharma.hardening.plugins.module_utils._ops.backup.foreign import ForeignDump
from ansible_collections.pharma.hardening.plugins.module_utils._ops.backup.place import place
from ansible_collections.pharma.hardening.plugins.module_utils._ops.config import Config
from ansible_collections.pharma.hardening.plugins.module_utils._ops.drill import run as drill_run
from ansible_collections.pharma.hardening.plugins.module_utils._ops.errors import ExitCode, OpsError
from ansible_collections.pharma.hardening.plugins.module_utils._ops.progress import Silent
from ansible_collections.pharma.hardening.plugins.module_utils._ops.sealing import keys
from ansible_collections.pharma.hardening.plugins.module_utils._ops.store.open import open_store


def main() -> None:
    """Run the module."""
    arguments = ops_module.CONFIG_ARGUMENT | {
        "backup_id": {"type": "str"},
        "foreign": {"type": "str"},
        "foreign_object": {"type": "str"},
        "identity": {"type": "str", "no_log": True},
        "fail_when_not_proven": {"type": "bool", "default": True},
    }
    module = AnsibleModule(
        argument_spec=arguments,
        supports_check_mode=True,
        mutually_exclusive=[("backup_id", "foreign")],
        required_by={"foreign_object": ("foreign",)},
    )
    ops_module.run(module, lambda: _check(module) if module.check_mode else _drill(module))


def _identity(module: AnsibleModule) -> bytes | None:
    if module.params["identity"] is None:
        return None
    identity = module.params["identity"].encode()
    keys.read_identities(identity)
    return identity


def _check(module: AnsibleModule) -> dict:
    config = ops_module.load_config(module)
    _identity(module)
    if name := module.params["foreign"]:
        return {"changed": True, "backup_id": _foreign(module, config, name).id}
    store, database = place(config)
    sets = catalogue.list_sets(store, database)
    wanted = module.params["backup_id"]
    found = catalogue.newest_complete(item for item in sets if wanted in (None, item.id))
    if found is None:
        raise OpsError(
            "BACKUP_MISSING",
            f"There is no complete backup {wanted or ''} of {database} in {store.description}.",
            "List the sets with pharma-ops backup list.",
        )
    return {"changed": True, "backup_id": found.id}


def _foreign(module: AnsibleModule, config: Config, name: str) -> ForeignDump:
    spec = foreign.source(config, name)
    store = open_store(config.store(spec.store))
    dumps = foreign.list_dumps(store, name, spec)
    return foreign.choose(dumps, module.params["foreign_object"], name, store.description)


def _drill(module: AnsibleModule) -> dict:
    config = ops_module.load_config(module)
    log = ops_module.quiet_log(config.environment, "drill")
    outcome = drill_run.run_drill(
        config,
        backup_id=module.params["backup_id"],
        identity=_identity(module),
        foreign_dump=(module.params["foreign"], module.params["foreign_object"])
        if module.params["foreign"]
        else None,
        log=log,
        progress=Silent(),
    )
    result = {"changed": True} | outcome.as_dict()
    if outcome.exit_code is not ExitCode.PROVEN and module.params["fail_when_not_proven"]:
        verdict, cause = outcome.record.verdict, outcome.record.cause
        module.fail_json(msg=f"The drill ended with {verdict}. {cause}", **result)
    return result


if __name__ == "__main__":
    main()
