# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of ``source_tree``: reads the sources and hands them over in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible has no types
    """Adds ``files`` to the arguments of the module."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read the sources and run the module."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        source = Path(str(arguments.get("src", "")))
        if not arguments.get("src") or not source.is_dir():
            raise AnsibleActionFail(f"src: there is no directory {str(source)!r} on the controller.")
        arguments["files"] = {
            str(path.relative_to(source)): path.read_text(encoding="utf-8")
            for path in sorted(source.rglob("*.py"))
        }
        result.update(
            self._execute_module(
                module_name="pharma.hardening.source_tree", module_args=arguments, task_vars=task_vars
            )
        )
        return result
