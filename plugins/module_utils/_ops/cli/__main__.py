# Copyright: Contributors to the pharma.hardening project
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m pharma_ops.cli``: what /usr/local/bin/pharma-ops starts."""

from __future__ import annotations

import sys

from .leaving import leave
from .main import main

if __name__ == "__main__":
    raise SystemExit(leave(main(sys.argv[1:])))
