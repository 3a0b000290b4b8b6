# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What every script of the lab shares: where things are, how progress is said.
# Sourced; the caller has set -euo pipefail.

LAB_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export LAB_ROOT
export LAB_NAME=${LAB_NAME:-pharma-lab}
export LAB_PREFIX=${LAB_PREFIX:-10.77.7}
export LAB_STATE_DIR=${LAB_STATE_DIR:-$LAB_ROOT/.lab}
export LAB_DEBIAN=${LAB_DEBIAN:-13}
export LAB_IMAGE_STATE=${LAB_IMAGE_STATE:-prepared}
export LAB_HOSTS=${LAB_HOSTS:-}
export CONTAINERS_CONF=$LAB_ROOT/lab/containers.conf
export ANSIBLE_CONFIG=$LAB_ROOT/ansible.cfg
# Ansible's working files belong to the checkout, not to the operator's home.
export ANSIBLE_HOME=${ANSIBLE_HOME:-$LAB_ROOT/.cache/ansible}
export PATH=$LAB_ROOT/.venv/bin:$PATH:/usr/sbin:/sbin

# Every container carries this label with its lab's name, every image this repository; `clean` goes by them.
export LAB_LABEL=io.pharma.lab
export LAB_REPOSITORY=${LAB_REPOSITORY:-localhost/pharma-lab}

say() { printf '%(%H:%M:%S)T  %s\n' -1 "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

# as_root COMMAND...: apt needs root; an operator may have sudo only.
as_root() {
  if [[ $(id -u) -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

# need_root: podman networks with static addresses and systemd inside need root's podman.
need_root() {
  [[ $(id -u) -eq 0 ]] || die "the lab runs podman as root; start this with: sudo make ${1:-lab-up}"
}

# seconds SINCE: whole seconds since a value of $SECONDS.
seconds() { echo $((SECONDS - $1)); }

# boot NAME IMAGE OPTION...: a container whose process 1 is systemd, as the lab's hosts are (lab/create.yml says why each
# option is needed); OPTION: more of `podman run`. Without network, or in the one that BOOT_NETWORK names.
boot() {
  local name=$1 image=$2 controller mounts=()
  for controller in memory cpu cpuacct pids; do
    [[ ! -e /sys/fs/cgroup/$controller ]] ||
      mounts+=(--volume "/sys/fs/cgroup/$controller:/sys/fs/cgroup/$controller:rw")
  done
  [[ ! -e /sys/module/apparmor/parameters/enabled ]] || mounts+=(--security-opt apparmor=unconfined)
  podman run --detach --name "$name" --hostname "$name" --label "$LAB_LABEL=$LAB_NAME" --network "${BOOT_NETWORK:-none}" --pull never \
    --systemd=always --ulimit nofile=20000:20000 --ulimit nproc=10000:10000 --pids-limit -1 --shm-size 256m \
    --cap-add SYS_ADMIN,SYS_NICE,NET_ADMIN,SYS_PTRACE "${mounts[@]}" "${@:3}" "$image" \
    /bin/sh -c 'mount --make-rshared / && exec /sbin/init' >/dev/null
  for _ in {1..50}; do
    if podman exec "$name" systemctl is-system-running --quiet 2>/dev/null; then break; fi
    sleep 0.2
  done
}

# discard NAME: removes a container if it is there; nothing of it is kept, so nothing is asked to end in order.
discard() { podman rm --force --time 0 --ignore "$1" >/dev/null; }
