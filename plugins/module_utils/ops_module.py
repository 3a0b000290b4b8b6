# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules share: arguments, and the engine's errors turned into results in one place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ._ops import clock, config
from ._ops.cli.leaving import leave
from ._ops.errors import OpsError
from ._ops.log import Log

CONFIG_ARGUMENT: dict[str, Any] = {"config": {"type": "path", "default": "/etc/pharma-ops/config.toml"}}


def load_config(module: AnsibleModule) -> config.Config:
    """The configuration that the module's ``config`` names.

    :raises OpsError: ``CONFIG_MISSING``, ``CONFIG_INVALID``.
    """
    return config.load(Path(module.params["config"]))


def quiet_log(environment: str, job: str) -> Log:
    """A log without streams: a module prints nothing but its result, jobs keep files of their own."""
    return Log(env=environment, run_id=f"{job}-{clock.now():%Y%m%dT%H%M%SZ}", streams=[])


def run(module: AnsibleModule, action: Callable[[], dict[str, Any]]) -> None:
    """End the module with the result of ``action``, or with the engine's error, its code and next step."""
    try:
        try:
            result = action()
        except OpsError as error:
            fail(module, error, {})
        module.exit_json(**result)
    except SystemExit as ended:
        # The result is told; a store that was given up must not keep the task waiting for half an hour.
        raise SystemExit(leave(int(ended.code or 0))) from None


def fail(module: AnsibleModule, error: OpsError, result: dict[str, Any]) -> NoReturn:
    """End the module with an error of the engine, its code and next step; ``result`` is told beside it."""
    told = {"msg": str(error), "code": error.code, "action": error.action, "rc": int(error.exit_code)}
    module.fail_json(**told | result)
