#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The main job from nothing: brings up the lab, deploys, loads data, backs up, drills, and says what was proven.
# DEMO_SALES: number of sales (default 20000).
set -euo pipefail
# shellcheck source=lab/common.sh disable=SC1091
source "$(dirname "$0")/common.sh"
cd "$LAB_ROOT"

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
play() { ansible-playbook "$@"; }

started=$SECONDS
step "1/5  The lab: four hosts and the release"
MAKE_TARGET=demo lab/up.sh demo
step "2/5  Deploy: database, backup, backend, proxy, staging"
play playbooks/site.yml
step "3/5  Sell: ${DEMO_SALES:-20000} sales"
play lab/demo-data.yml -e "demo_sales=${DEMO_SALES:-20000}"
step "4/5  Back up to the object store"
play playbooks/backup.yml
step "5/5  Prove it on the staging host"
proven=0
play playbooks/drill.yml || proven=$?
[[ -e evidence/latest/evidence.json ]] || die "the drill left no evidence; its messages stand above"
lab/summary.py evidence/latest
say "make demo: $(seconds "$started") s in all"
exit "$proven"
