#!/usr/bin/python
# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a release of a service into service, or go back, without a failed request."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_release
short_description: Put a release of a service into service, renew it, or roll it back
version_added: 0.1.0
description:
  - Starts an installed release in the colour that is not in service, proves it there (readiness, smoke journey),
    switches to it by replacing one link, watches what it serves, and switches back by itself when it exceeds its gate.
  - The work is done by a transient unit of the host, C(pharma-release-SERVICE). A lost connection or a killed
    controller does not interrupt it; the next run of the task waits for it and then says how things are.
author:
  - Contributors to the pharma.hardening project (@pharma-hardening)
extends_documentation_fragment:
  - pharma.hardening.ops
  - pharma.hardening.attributes
options:
  service:
    description: Name of the service, as the configuration of the host has it.
    type: str
    required: true
  state:
    description:
      - V(deployed) puts O(version) into service. Nothing changes when it serves already and is ready.
      - V(renewed) starts the release in service anew, with settings and credentials as they are now, and switches to
        it.
      - V(rolled_back) goes back to O(version), or to what served before the release in service was deployed.
    type: str
    choices: [deployed, renewed, rolled_back]
    default: deployed
  version:
    description: Version of the release. Required with O(state=deployed), not possible with O(state=renewed).
    type: str
  who:
    description: Who asks for it; stands in the journal of deployments.
    type: str
    default: ansible
  wait_seconds:
    description: How long to wait for a deployment of this service that runs already, before this one begins.
    type: int
    default: 900
attributes:
  check_mode:
    details:
      - A release that is not installed yet is told as a change.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - V(renewed) always starts the release anew. V(rolled_back) without O(version) goes back one release each time.
seealso:
  - module: pharma.hardening.restore_drill
"""

EXAMPLES = r"""
- name: Put a release into service
  pharma.hardening.service_release:
    service: pharma-backend
    version: 1.4.0
    who: "{{ awx_user_name | default('ansible') }}"
  become: true

- name: Have the service read its secrets anew
  pharma.hardening.service_release:
    service: pharma-backend
    state: renewed
  become: true

- name: Go back to the release before
  pharma.hardening.service_release:
    service: pharma-backend
    state: rolled_back
  become: true
  register: back

- name: Say what serves
  ansible.builtin.debug:
    msg: "{{ back.version }} serves on {{ back.colour }} after {{ back.seconds }} s"
"""

RETURN = r"""
verdict:
  description:
    - V(deployed), V(renewed), V(rolled_back), V(switched_back) or V(refused); the last two fail the task.
    - V(unchanged) when nothing was to do.
  returned: when the host could be asked
  type: str
version:
  description: The release that is in service now; in check mode the one that would be.
  returned: when the host could be asked
  type: str
previous_version:
  description: The release that was in service when the task began; null before the first deployment.
  returned: when the host could be asked
  type: str
colour:
  description: The colour that is in service now.
  returned: when the host could be asked
  type: str
seconds:
  description: How long the deployment took; 0 when nothing was to do.
  returned: when the host could be asked
  type: float
stages:
  description: Name, verdict, seconds and detail of every stage; empty when nothing was to do.
  returned: when the host could be asked
  type: list
  elements: dict
requests:
  description: What it served while it was watched, C(total), C(errors5xx), C(p95Seconds); null without a watch.
  returned: when the host could be asked
  type: dict
cause:
  description: Why the release was refused or switched back; empty otherwise.
  returned: when the host could be asked
  type: str
release_id:
  description: Identifier in the journal, and C(requestId) of the log lines; null when nothing was to do.
  returned: when the host could be asked
  type: str
code:
  description: Stable code of the error, see docs/errors.md.
  returned: failure
  type: str
action:
  description: What to do next.
  returned: failure
  type: str
"""

import json
import time
from datetime import datetime
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pharma.hardening.plugins.module_utils import ops_module
from ansible_collections.pharma.hardening.plugins.module_utils._ops import process
from ansible_collections.pharma.hardening.plugins.module_utils._ops.errors import OpsError
from ansible_collections.pharma.hardening.plugins.module_utils._ops.release import journal, status, units
from ansible_collections.pharma.hardening.plugins.module_utils._ops.release.journal import Action

PROGRAM = "/usr/local/bin/pharma-ops"
ACTIONS = {"deployed": Action.DEPLOY, "renewed": Action.RENEW, "rolled_back": Action.ROLLBACK}
_POLL_SECONDS = 1.0
_NOTHING_DONE = {
    "verdict": "unchanged",
    "seconds": 0.0,
    "stages": [],
    "requests": None,
    "cause": "",
    "release_id": None,
}


def main() -> None:
    """Run the module."""
    arguments = ops_module.CONFIG_ARGUMENT | {
        "service": {"type": "str", "required": True},
        "state": {"type": "str", "choices": list(ACTIONS), "default": "deployed"},
        "version": {"type": "str"},
        "who": {"type": "str", "default": "ansible"},
        "wait_seconds": {"type": "int", "default": 900},
    }
    module = AnsibleModule(
        argument_spec=arguments,
        required_if=[("state", "deployed", ["version"])],
        supports_check_mode=True,
    )
    if module.params["state"] == "renewed" and module.params["version"]:
        module.fail_json(msg="state=renewed takes no version: it renews the release in service.")
    ops_module.run(module, lambda: _check(module) if module.check_mode else _release(module))


def _wanted(module: AnsibleModule, config) -> str | None:
    """What the task would put into service; None when nothing is to do."""
    action, version = ACTIONS[module.params["state"]], module.params["version"]
    try:
        release = status.would_change(config, module.params["service"], action, version)
    except OpsError as error:
        # In a dry run the task that installs the release has not installed it.
        if module.check_mode and error.code == "RELEASE_NOT_INSTALLED":
            return version
        raise
    return release.version if release else None


def _check(module: AnsibleModule) -> dict:
    config = ops_module.load_config(module)
    before = status.serving(config, module.params["service"])
    wanted = _wanted(module, config)
    after = wanted or before["version"]
    return _NOTHING_DONE | {
        "changed": wanted is not None,
        "verdict": module.params["state"] if wanted else "unchanged",
        "version": after,
        "previous_version": before["version"],
        "colour": before["active"],
        "diff": _diff(before, {"version": after, "active": before["active"]}),
    }


def _release(module: AnsibleModule) -> dict:
    config = ops_module.load_config(module)
    service = module.params["service"]
    unit = f"pharma-release-{service}.service"
    _wait(unit, module.params["wait_seconds"])
    before = status.serving(config, service)
    output = journal.directory(config.state_dir) / f"{service}.result.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    done = process.run(_command(module, unit, output), check=False)
    said = _said(output, done)
    if "error" in said:
        error = said["error"]
        raise OpsError(error["code"], error["message"], error["action"])
    record = said["record"]
    result = {
        "changed": said["changed"],
        "version": said["version"],
        "previous_version": before["version"],
        "colour": said["colour"],
        "diff": _diff(before, {"version": said["version"], "active": said["colour"]}),
    }
    if record is None:
        return result | _NOTHING_DONE
    result |= _of_record(record)
    if done.returncode != 0:
        module.fail_json(
            msg=f"{service} {record['version']} was not put into service for good ({record['verdict']}): "
            f"{record['cause']}",
            code=record["code"] or "GATE_EXCEEDED",
            action="Correct the release and deploy it again; pharma-ops release status shows what serves.",
            **result,
        )
    return result


def _command(module: AnsibleModule, unit: str, output: Path) -> list[str]:
    params = module.params
    words = [ACTIONS[params["state"]].value, *([params["version"]] if params["version"] else [])]
    return [
        "systemd-run",
        "--quiet",
        "--wait",
        "--collect",
        f"--unit={unit}",
        # What it says is in a file, so that this process may go away while it works.
        f"--property=StandardOutput=truncate:{output}",
        "--property=StandardError=journal",
        "--property=SyslogIdentifier=pharma-ops",
        "--",
        PROGRAM,
        "release",
        *words,
        f"--service={params['service']}",
        f"--who={params['who']}",
        f"--config={params['config']}",
        "--json",
    ]


def _wait(unit: str, seconds: float) -> None:
    """Wait for a deployment that an earlier task began and did not see the end of.

    :raises OpsError: ``LOCK_HELD``.
    """
    deadline = time.monotonic() + seconds
    while not units.state(unit).dead:
        if time.monotonic() > deadline:
            raise OpsError(
                "LOCK_HELD",
                f"{unit} still runs after {seconds:g} s.",
                f"Look at systemctl status {unit}; stop it if it hangs: what serves is then as it was.",
            )
        time.sleep(_POLL_SECONDS)


def _said(output: Path, done: process.Completed) -> dict:
    """The result that the engine wrote.

    :raises OpsError: ``COMMAND_FAILED``.
    """
    try:
        return json.loads(output.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OpsError(
            "COMMAND_FAILED",
            f"{PROGRAM} ended with exit status {done.returncode} and no result. {done.stderr}",
            "Read journalctl -t pharma-ops on the host; pharma-ops release status shows what serves.",
        ) from error


def _of_record(record: dict) -> dict:
    began, ended = (datetime.fromisoformat(record[key]) for key in ("startedAt", "finishedAt"))
    return {
        "verdict": record["verdict"],
        "seconds": round((ended - began).total_seconds(), 3),
        "stages": record["stages"],
        "requests": record["requests"],
        "cause": record["cause"],
        "release_id": record["id"],
    }


def _diff(before: dict, after: dict) -> dict:
    def shown(state: dict) -> str:
        return f"version: {state['version']}\ncolour: {state['active']}\n"

    return {"before": shown(before), "after": shown(after)}


if __name__ == "__main__":
    main()
