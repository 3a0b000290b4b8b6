# SPDX-License-Identifier: GPL-3.0-or-later
"""``pharma-backend`` with its log switched off, which the product has no switch for."""

from __future__ import annotations

import sys

from pharma_backend import cli, log


def nothing(*_arguments: object, **_meta: object) -> None:
    """Write no line."""


for name in ("info", "warn", "error", "refused", "_emit"):
    setattr(log, name, nothing)

if __name__ == "__main__":
    sys.exit(cli.main())
