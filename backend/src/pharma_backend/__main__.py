# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m pharma_backend`` is ``pharma-backend``."""

import sys

from .cli import main

sys.exit(main())
