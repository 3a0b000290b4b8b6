#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What the backend's log costs, on this machine: no container, only PostgreSQL's programs. See docs/benchmark.md.
#
#   ROUNDS=7 tests/bench/logging.sh [--only lines|pay]
set -euo pipefail
cd "$(dirname "$0")/../.."
exec .venv/bin/python tests/bench/logging_bench.py --rounds "${ROUNDS:-7}" --out build/bench "$@"
