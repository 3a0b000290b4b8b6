# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine: ordinary typed Python that imports nothing of Ansible.

The same directory is imported by the Ansible modules and copied to the hosts as the package
``pharma_ops``, so a systemd timer, an operator's shell and a playbook do literally the same thing.
A room imports only from floors below it (docs/architecture.md).
"""

from __future__ import annotations

__version__ = "0.1.0"
