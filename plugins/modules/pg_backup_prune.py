#!/usr/bin/python
# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove the backup sets that the policy lets go."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_prune
short_description: Remove the backup sets that the retention policy lets go
version_added: 0.1.0
description:
  - Decides on every set of the databases and stores that the host's policy names, and removes what no rule keeps, each
    set's manifest first.
  - Never removes the newest sets, the newest set that a drill proved, or what the store locks.
  - Removes nothing at all, and fails, when the last backup failed or is too old, when a clock ran backwards, or when a
    proof vanished from the ledger.
  - Needs stores with an identity that may delete, such as the role P(pharma.hardening.retention#role) configures, and
    the ledger of the drills on the same host.
author:
  - Contributors to the pharma.hardening project (@pharma-hardening)
extends_documentation_fragment:
  - pharma.hardening.ops
  - pharma.hardening.attributes
options:
  store:
    description: Only this store; by default all that the policy names.
    type: str
  database:
    description: Only this database; by default all that the policy names.
    type: str
  fail_when_blocked:
    description:
      - Whether the task fails when nothing may be removed, or not all could be.
      - With V(false), RV(places[].verdict) tells.
    type: bool
    default: true
attributes:
  diff_mode:
    support: full
    details:
      - A line for each set, with the reasons; after it, those that stay.
seealso:
  - module: pharma.hardening.pg_backup_info
  - module: pharma.hardening.restore_drill
"""

EXAMPLES = r"""
# ansible-playbook --check --diff shows the plan and removes nothing.
- name: Prune the sets in all stores
  pharma.hardening.pg_backup_prune:
  become: true
  register: pruned

- name: Show what it freed
  ansible.builtin.debug:
    msg: "{{ item.description }}: {{ item.removed | length }} sets, {{ item.bytes_freed }} bytes"
  loop: "{{ pruned.places }}"

- name: Look at one store without a failure when it is blocked
  pharma.hardening.pg_backup_prune:
    store: offsite-pruner
    fail_when_blocked: false
  check_mode: true
  become: true
"""

RETURN = r"""
places:
  description: What became of the sets of each database in each store.
  returned: always, once the policy and the ledger were read
  type: list
  elements: dict
  contains:
    database:
      description: Name of the database.
      type: str
    store:
      description: Name of the store in the configuration.
      type: str
    description:
      description: Where it is.
      type: str
    verdict:
      description: V(done), V(blocked) when nothing may be removed, or V(failed).
      type: str
    error:
      description: The cause of a verdict that is not V(done), with C(code), C(message) and C(action); else null.
      type: dict
    sets:
      description: The sets that were found, oldest first.
      type: list
      elements: dict
      contains:
        backup_id:
          description: Identifier of the set.
          type: str
        state:
          description: V(complete) or V(unfinished).
          type: str
        started_at:
          description: When the backup started, RFC 3339 in UTC.
          type: str
        bytes:
          description: Size of all its objects together.
          type: int
        proven:
          description: Whether a drill proved it.
          type: bool
        locked_until:
          description: Until when the store keeps it; null when it does not, or was not asked.
          type: str
        action:
          description: V(keep) or V(remove).
          type: str
        reasons:
          description: Every reason for it.
          type: list
          elements: str
    plan:
      description: The same for a person, a line for each set.
      type: list
      elements: str
    removed:
      description: Identifiers of the sets that were removed; empty in check mode.
      type: list
      elements: str
    not_removed:
      description: By identifier or key, why something that should have gone is still there.
      type: dict
    bytes_to_free:
      description: Size of what the plan lets go.
      type: int
    bytes_freed:
      description: Size of what was removed.
      type: int
    uploads:
      description: Unfinished uploads whose grace is over, with C(key) and C(started).
      type: list
      elements: dict
    uploads_aborted:
      description: How many of them were removed.
      type: int
code:
  description: Stable code of the error, see docs/errors.md.
  returned: failure
  type: str
  sample: RETENTION_NEWEST_TOO_OLD
action:
  description: What to do next.
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pharma.hardening.plugins.module_utils import ops_module
from ansible_collections.pharma.hardening.plugins.module_utils._ops.estate import pruning


def main() -> None:
    """Run the module."""
    arguments = ops_module.CONFIG_ARGUMENT | {
        "store": {"type": "str"},
        "database": {"type": "str"},
        "fail_when_blocked": {"type": "bool", "default": True},
    }
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)

    def action() -> dict:
        config = ops_module.load_config(module)
        only = {"store": module.params["store"], "database": module.params["database"]}
        if module.check_mode:
            results = pruning.look(config, **only)
        else:
            results = pruning.run(config, ops_module.quiet_log(config.environment, "prune"), **only)
        answer = {
            "changed": any(_changes(one.outcome, module.check_mode) for one in results),
            "places": [one.as_dict() | {"plan": _plan(one.outcome)} for one in results],
            "diff": [_diff(one.outcome, one.store) for one in results if one.outcome],
        }
        problem = next((one.problem for one in results if one.problem), None)
        if problem and module.params["fail_when_blocked"]:
            ops_module.fail(module, problem, answer)
        return answer

    ops_module.run(module, action)


def _changes(outcome, check_mode) -> bool:
    """Whether a run changed the store, or would have."""
    if outcome is None:
        return False
    found = outcome.survey
    if check_mode:
        return bool(found.plan.removed or found.uploads)
    return bool(outcome.removed or outcome.uploads_aborted)


def _diff(outcome, store) -> dict:
    """The sets before, and those that the plan keeps."""
    found = outcome.survey
    name = f"{found.database} in {found.description} ({store})"
    lines = [(one.action, _line(one)) for one in found.plan.decisions]
    lines += [("remove", f"unfinished upload of {upload.key}\n") for upload in found.uploads]
    return {
        "before_header": name,
        "after_header": name,
        "before": "".join(line for _kind, line in lines),
        "after": "".join(line for kind, line in lines if kind == "keep"),
    }


def _plan(outcome) -> list:
    """A line for each set: what becomes of it, and why."""
    if outcome is None:
        return []
    return [f"{one.action:<6} {_line(one)}".rstrip() for one in outcome.survey.plan.decisions]


def _line(decision) -> str:
    one = decision.candidate
    return f"{one.id} {one.state} {one.bytes} bytes: {', '.join(decision.reasons)}\n"


if __name__ == "__main__":
    main()
