# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation of the modules that handle secrets shares."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes of a module whose arguments are secrets."""

    DOCUMENTATION = r"""
options: {}
attributes:
  diff_mode:
    support: none
    details:
      - Secrets are never shown, not even as a difference.
"""
