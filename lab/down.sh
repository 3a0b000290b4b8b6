#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Removes the lab's hosts and network. Images and keys stay, so that the next `make lab-up` is quick.
set -euo pipefail
# shellcheck source=lab/common.sh disable=SC1091
source "$(dirname "$0")/common.sh"
cd "$LAB_ROOT"
need_root lab-down

lab/bootstrap.sh demo
say "hosts: removing lab $LAB_NAME"
ansible-playbook lab/destroy.yml "$@"
