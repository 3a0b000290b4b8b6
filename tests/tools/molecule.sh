#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs molecule for one scenario with the lab's own inventory and images.   molecule.sh SCENARIO [COMMAND] [OPTION...]
set -euo pipefail
# shellcheck source=lab/common.sh disable=SC1091
source "$(dirname "$0")/../../lab/common.sh"
cd "$LAB_ROOT"
need_root molecule

scenario=${1:-}
[[ -n $scenario && -e molecule/$scenario/molecule.yml ]] ||
  die "name a scenario: make molecule SCENARIO=lab (there are: $(cd molecule && printf '%s ' */ | tr -d /))"
shift
[[ $# -gt 0 ]] || set -- test

# What the scenario's lab is made of; it stands beside the scenario.
if [[ -e molecule/$scenario/lab.env ]]; then
  set -a
  # shellcheck source=/dev/null
  source "molecule/$scenario/lab.env"
  set +a
fi
lab/images.sh build "debian$LAB_DEBIAN:$LAB_IMAGE_STATE" s3
lab/release.sh
# A lab of its own beside the one that may be running and those of other scenarios: a name, a network and a state of its
# own. Molecule sweeps the directory above its ephemeral one.
scenarios=(molecule/*/molecule.yml)
for number in "${!scenarios[@]}"; do
  [[ ${scenarios[number]} != "molecule/$scenario/molecule.yml" ]] || break
done
export LAB_NAME=$LAB_NAME-$scenario LAB_PREFIX=${LAB_MOLECULE_PREFIX:-10.77.$((100 + number))}
export LAB_STATE_DIR=$LAB_STATE_DIR/$scenario
export LAB_EVIDENCE_DIR=$LAB_STATE_DIR/evidence
export MOLECULE_EPHEMERAL_DIRECTORY=$LAB_ROOT/.cache/molecule/$scenario/state
exec molecule --base-config molecule/base.yml "$1" --scenario-name "$scenario" "${@:2}"
