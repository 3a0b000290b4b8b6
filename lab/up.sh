#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Brings up the lab: packages, images and .venv side by side, then the hosts and the object store. Does little when it is up.
set -euo pipefail
# shellcheck source=lab/common.sh disable=SC1091
source "$(dirname "$0")/common.sh"
cd "$LAB_ROOT"
need_root "${MAKE_TARGET:-lab-up}"

# wants HOST: the lab has it (LAB_HOSTS empty: all of them).
wants() { [[ -z $LAB_HOSTS || ,$LAB_HOSTS, == *,$1,* ]]; }

images_for_hosts() {
  echo "debian$LAB_DEBIAN:$LAB_IMAGE_STATE"
  if wants s3; then echo s3; fi
}

started=$SECONDS
lab/bootstrap.sh packages "${1:-demo}"
mapfile -t images < <(images_for_hosts)
lab/images.sh build "${images[@]}" &
images_pid=$!
lab/bootstrap.sh venv "${1:-demo}"
if wants app1 || wants staging1; then lab/release.sh; fi
wait "$images_pid"

say "hosts: creating (${LAB_HOSTS:-all}) in lab $LAB_NAME, $LAB_PREFIX.0/24"
ansible-playbook lab/create.yml
say "hosts: preparing"
ansible-playbook lab/prepare.yml
say "lab $LAB_NAME is up after $(seconds "$started") s: make lab-status, make lab-shell HOST=db1"
