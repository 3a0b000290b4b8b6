#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Removes what this checkout made: containers, networks, images, .venv, keys, caches, evidence. Nothing else: Debian
# packages that were installed stay, and so do files that git ignores and an operator put here.
set -euo pipefail
# shellcheck source=lab/common.sh disable=SC1091
source "$(dirname "$0")/common.sh"
cd "$LAB_ROOT"

# Names of this lab and of those that the tests make beside it.
is_ours() { [[ $1 == "$LAB_NAME" || $1 == "$LAB_NAME"-* ]]; }

remove_containers() {
  local name lab
  while read -r name lab; do
    is_ours "$lab" || continue
    podman rm --force --volumes --time 5 "$name" >/dev/null
    say "removed container $name"
  done < <(podman ps --all --filter "label=$LAB_LABEL" --format "{{.Names}} {{index .Labels \"$LAB_LABEL\"}}")
}

remove_networks() {
  local name
  while read -r name; do
    is_ours "$name" || continue
    podman network rm "$name" >/dev/null
    say "removed network $name"
  done < <(podman network ls --format '{{.Name}}')
}

remove_files() {
  local path
  for path in .venv .lab .cache build evidence .hypothesis .pytest_cache .mypy_cache .ruff_cache .ansible; do
    [[ -e $path ]] || continue
    rm -rf "${LAB_ROOT:?}/$path"
    say "removed $path"
  done
  find . -path ./.git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
  [[ $LAB_STATE_DIR == "$LAB_ROOT"/* ]] || rm -rf "$LAB_STATE_DIR"
}

if command -v podman >/dev/null; then
  need_root clean
  remove_containers
  remove_networks
  lab/images.sh remove
  say "removed the images of $LAB_REPOSITORY"
  for directory in "/run/$LAB_NAME-ssh" /run/"$LAB_NAME"-*-ssh; do
    [[ ! -d $directory ]] || rm -rf "$directory"
  done
fi
remove_files
say "clean"
