# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the attributes of all modules of this collection mean."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes of a module; each says itself what it shows in diff mode, and where it differs from the rest."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and tell what would be done without doing it.
    support: full
  diff_mode:
    description: Returns details of what has changed, or would change in check mode, in diff mode.
  idempotent:
    description: When run twice without changes in between, does not change anything the second time.
    support: full
  platform:
    description: Where the module can run.
    support: full
    platforms: posix
"""
