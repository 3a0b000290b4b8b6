# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation of the modules that read the configuration of the host shares."""

from __future__ import annotations


class ModuleDocFragment:
    """Options and notes of a module that calls the engine on the host."""

    DOCUMENTATION = r"""
options:
  config:
    description:
      - Path of the configuration on the host, as the roles of this collection write it.
      - Secrets are not in it, only the paths of the files that hold them.
    type: path
    default: /etc/pharma-ops/config.toml
requirements:
  - python >= 3.11 on the host
  - the Debian packages that the role P(pharma.hardening.ops#role) installs on the host
notes:
  - Run it as root on the host that the configuration belongs to (C(become=true)).
  - It does what the command C(pharma-ops) on the host does, by the same code.
"""
