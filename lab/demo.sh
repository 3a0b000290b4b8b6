#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The main job from nothing: brings up the lab, deploys, backs up, drills, and says where the evidence is.
set -euo pipefail
# shellcheck source=lab/common.sh disable=SC1091
source "$(dirname "$0")/common.sh"
cd "$LAB_ROOT"

PLAYBOOKS=(site backup drill)
for name in "${PLAYBOOKS[@]}"; do
  [[ -e playbooks/$name.yml ]] || die "playbooks/$name.yml is not there: the demonstration needs ${PLAYBOOKS[*]}"
done

started=$SECONDS
MAKE_TARGET=demo lab/up.sh demo
for name in "${PLAYBOOKS[@]}"; do
  say "playbook $name"
  ansible-playbook "playbooks/$name.yml"
done
say "demo: done in $(seconds "$started") s; the evidence: $LAB_ROOT/evidence/latest/report.html"
