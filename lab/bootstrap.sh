#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What the controller needs: Debian packages by apt, and .venv from a hash-locked list. Does nothing when all is there.
#
#   bootstrap.sh demo|test             packages and venv for the lab and the playbooks, or for the tests as well
#   bootstrap.sh packages demo|test    only the Debian packages
#   bootstrap.sh venv demo|test        only .venv
set -euo pipefail
# shellcheck source=lab/common.sh disable=SC1091
source "$(dirname "$0")/common.sh"

# package:program that shows it is there
PACKAGES=(
  podman:podman runc:runc netavark:/usr/lib/podman/netavark aardvark-dns:/usr/lib/podman/aardvark-dns
  # netavark calls them to set up a network, and its package only suggests them: Debian 12's iptables, Debian 13's nft.
  iptables:iptables nftables:nft
  mmdebstrap:mmdebstrap openssh-client:ssh age:age zstd:zstd openssl:openssl git:git
)
# The tests start servers of their own, from the programs of whichever version the distribution has. npm installs Azurite.
TEST_PACKAGES=("${PACKAGES[@]}" "postgresql:/usr/lib/postgresql/*/bin/initdb" nodejs:node npm:npm)

has_program() {
  case $1 in
    /*) compgen -G "$1" >/dev/null ;;
    *) command -v "$1" >/dev/null || [[ -x /usr/sbin/$1 ]] ;;
  esac
}

# Debian's package makes a cluster and starts it; the tests need its programs only. The rule goes again afterwards.
NO_CLUSTER=/etc/postgresql-common/createcluster.d/pharma-hardening-tests.conf

check_python() {
  command -v python3 >/dev/null || return 0 # apt brings it with python3-venv
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "$(command -v python3) is $(python3 --version); Python 3.11 or newer is needed (Debian 12 and 13 have it)"
}

install_packages() {
  local wanted=("${PACKAGES[@]}") missing=() entry
  [[ $1 == demo ]] || wanted=("${TEST_PACKAGES[@]}")
  for entry in "${wanted[@]}"; do
    has_program "${entry#*:}" || missing+=("${entry%%:*}")
  done
  # A Python from elsewhere may bring venv itself; Debian's needs the package.
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  [[ ${#missing[@]} -gt 0 ]] || return 0

  command -v apt-get >/dev/null || die "missing: ${missing[*]}; this machine has no apt-get to install them with"
  say "packages: installing ${missing[*]}"
  local started=$SECONDS
  # Another apt may be at work on a fresh machine: wait for it rather than fail.
  as_root apt-get -qq -o DPkg::Lock::Timeout=300 update
  if [[ " ${missing[*]} " == *" postgresql "* ]]; then
    as_root mkdir -p "${NO_CLUSTER%/*}"
    as_root tee "$NO_CLUSTER" >/dev/null <<<'create_main_cluster = false'
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 \
    install --no-install-recommends "${missing[@]}" >/dev/null
  as_root rm -f "$NO_CLUSTER"
  say "packages: installed in $(seconds "$started") s"
}

lock_digest() { sha256sum "$LAB_ROOT/requirements/$1.txt" | cut -d' ' -f1; }

# has_lock NAME: .venv was filled from this very lock file.
has_lock() { [[ -x $VENV/bin/python && $(cat "$VENV/.lock-$1" 2>/dev/null) == "$(lock_digest "$1")" ]]; }

make_venv() {
  local lock=control started=$SECONDS
  [[ $1 == demo ]] || lock=dev
  # The list for tests contains the one for the playbooks.
  if has_lock "$lock" || has_lock dev; then return 0; fi
  say "python: filling .venv from requirements/$lock.txt"
  # A moved checkout or a removed interpreter leaves links that lead nowhere.
  "$VENV/bin/python" -c '' 2>/dev/null || python3 -m venv --clear "$VENV"
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes \
    -r "$LAB_ROOT/requirements/$lock.txt"
  lock_digest "$lock" >"$VENV/.lock-$lock"
  say "python: filled in $(seconds "$started") s"
}

main() {
  local part=all profile
  case ${1:-} in
    packages | venv)
      part=$1
      shift
      ;;
  esac
  profile=${1:-}
  case $profile in
    demo | test) ;;
    *) die "usage: bootstrap.sh [packages|venv] demo|test" ;;
  esac
  VENV=$LAB_ROOT/.venv
  check_python
  [[ $part == venv ]] || install_packages "$profile"
  check_python
  [[ $part == packages ]] || make_venv "$profile"
}

main "$@"
