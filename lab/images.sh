#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The images of the lab: a Debian made by mmdebstrap, and layers of packages on top of it.
#
#   images.sh build [NAME...]    makes what is missing or whose recipe changed; default: all
#   images.sh list               name, recipe, size
#   images.sh remove             removes all of them
#
# NAME: debian13:bare debian13:prepared debian12:bare debian12:prepared s3
set -euo pipefail
# shellcheck source=lab/common.sh disable=SC1091
source "$(dirname "$0")/common.sh"

RECIPE_LABEL=$LAB_LABEL.recipe
ALL_IMAGES=(debian13:bare debian13:prepared s3 debian12:bare debian12:prepared)

codename() {
  case $1 in
    12) echo bookworm ;;
    13) echo trixie ;;
    *) die "no Debian $1 in this lab; LAB_DEBIAN is 12 or 13" ;;
  esac
}

packages() { sed -e 's/#.*//' -e '/^\s*$/d' "$LAB_ROOT/lab/images/$1.txt"; }

# mirror LABEL: the address from which this machine's own apt takes Debian packages of that label.
mirror() {
  apt-get indextargets --format "\$(CREATED_BY)|\$(ORIGIN)|\$(LABEL)|\$(COMPONENT)|\$(REPO_URI)" 2>/dev/null |
    awk -F'|' -v label="$1" '!found && $1 == "Packages" && $2 == "Debian" && $3 == label && $4 == "main" { print $5; found = 1 }'
}

# sources CODENAME: apt lines for that release on this machine's mirrors; nothing where it has none (then mmdebstrap chooses).
sources() {
  local main security
  main=$(mirror Debian)
  security=$(mirror Debian-Security)
  [[ -n $main ]] || return 0
  echo "deb $main $1 main"
  echo "deb $main $1-updates main"
  [[ -z $security ]] || echo "deb $security $1-security main"
}

make_bare() {
  local image=$1 release=$2 digest=$3 suite lines unfinished=$1-unfinished
  suite=$(codename "$release")
  lines=$(sources "$suite")
  # shellcheck disable=SC2016  # $1 is the hook's own argument, the directory of the new system
  mmdebstrap --quiet --variant=minbase --include="$(packages bare | paste -sd,)" \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' --dpkgopt=force-unsafe-io \
    --aptopt='APT::Install-Recommends "false"' \
    --customize-hook='mkdir -p "$1/root/.ssh" && chmod 0700 "$1/root/.ssh"' \
    --customize-hook='chroot "$1" systemctl set-default --quiet multi-user.target' \
    --customize-hook='chroot "$1" systemctl mask --quiet console-getty.service getty@tty1.service apt-daily.timer apt-daily-upgrade.timer' \
    --customize-hook='ln -sf /usr/share/zoneinfo/UTC "$1/etc/localtime"' \
    --customize-hook='touch -d @0 "$1/var/lib/apt/lists"' \
    "$suite" - "${lines:+-}" <<<"$lines" |
    podman import --quiet --change "LABEL $LAB_LABEL=image" --change "LABEL $RECIPE_LABEL=$digest" \
      --change 'CMD ["/sbin/init"]' - "$unfinished" >/dev/null
  # The name is given last: podman also imports the part of an archive that came before a failure.
  podman tag "$unfinished" "$image"
  podman untag "$unfinished" "$unfinished"
}

# make_layer IMAGE BASE DIGEST SCRIPT: runs a shell script in a container of the base and keeps the result.
make_layer() {
  local image=$1 base=$2 digest=$3 script=$4 container
  container=pharma-lab-build-$$-${image//[^a-z0-9]/-}
  # shellcheck disable=SC2064  # the name as it is now
  trap "podman rm --force --ignore $container >/dev/null" EXIT
  # The machine's own network: a build needs packages, not an address in the lab.
  if ! podman run --name "$container" --label "$LAB_LABEL=$LAB_NAME-build" --network host --pull never \
    "$base" /bin/sh -c "$script" >"$BUILD_LOGS/${image##*/}.log" 2>&1; then
    tail -n 20 "$BUILD_LOGS/${image##*/}.log" >&2
    die "building $image failed; the last lines of its log stand above"
  fi
  podman commit --quiet --change "LABEL $LAB_LABEL=image" --change "LABEL $RECIPE_LABEL=$digest" \
    --change 'CMD ["/sbin/init"]' "$container" "$image" >/dev/null
}

APT='export DEBIAN_FRONTEND=noninteractive; printf "#!/bin/sh\nexit 101\n" >/usr/sbin/policy-rc.d; chmod 0755 /usr/sbin/policy-rc.d; apt-get update -q;'
TIDY='apt-get clean; rm -f /usr/sbin/policy-rc.d /etc/machine-id; : >/etc/machine-id; touch -d @0 /var/lib/apt/lists'

make_prepared() {
  local image=$1 base=$2 digest=$3
  make_layer "$image" "$base" "$digest" "set -e; $APT
    mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    printf 'en_US.UTF-8 UTF-8\npt_BR.UTF-8 UTF-8\n' >/etc/locale.gen
    apt-get install -q -y --no-install-recommends -o Dpkg::Options::=--force-confold $(packages prepared | paste -sd' ')
    locale-gen
    systemctl disable --quiet nginx.service
    $TIDY"
}

make_s3() {
  local image=$1 base=$2 digest=$3
  make_layer "$image" "$base" "$digest" "set -e; $APT
    apt-get install -q -y --no-install-recommends $(packages s3 | paste -sd' ')
    systemctl disable --quiet ceph-crash.service rbdmap.service blk-availability.service lvm2-monitor.service lvm2-lvmpolld.socket dm-event.socket \
      nvmf-autoconnect.service nvmefc-boot-connections.service smartmontools.service
    $TIDY"
}

# recipe NAME: the digest of all that decides what is in an image.
recipe() {
  case $1 in
    *:bare) { declare -f make_bare; codename "${1:6:2}"; packages bare; } ;;
    *:prepared) { recipe "${1%:*}:bare"; declare -f make_prepared make_layer; echo "$APT$TIDY"; packages prepared; } ;;
    s3) { recipe debian13:bare; declare -f make_s3 make_layer; echo "$APT$TIDY"; packages s3; } ;;
    *) die "no image $1; there are: ${ALL_IMAGES[*]}" ;;
  esac | sha256sum | cut -c1-16
}

reference() { case $1 in *:*) echo "$LAB_REPOSITORY/$1" ;; *) echo "$LAB_REPOSITORY/$1:latest" ;; esac; }

is_current() {
  [[ $(podman image inspect --format "{{index .Labels \"$RECIPE_LABEL\"}}" "$(reference "$1")" 2>/dev/null) == "$2" ]]
}

base_of() { case $1 in *:prepared) echo "${1%:*}:bare" ;; s3) echo debian13:bare ;; esac; }

# build_one NAME: the image and first the one below it. Held by a lock per image, so that builds may run side by side.
build_one() {
  local name=$1 digest base started image
  digest=$(recipe "$name")
  image=$(reference "$name")
  base=$(base_of "$name")
  is_current "$name" "$digest" && return 0
  [[ -z $base ]] || build_one "$base"
  (
    exec 9>"$BUILD_LOGS/${name/:/-}.lock"
    flock 9
    is_current "$name" "$digest" && exit 0
    started=$SECONDS
    say "image $name: building"
    case $name in
      *:bare) make_bare "$image" "${name:6:2}" "$digest" ;;
      *:prepared) make_prepared "$image" "$(reference "$base")" "$digest" ;;
      s3) make_s3 "$image" "$(reference "$base")" "$digest" ;;
    esac
    say "image $name: built in $(seconds "$started") s"
  )
}

build() {
  local name pids=() status=0 pid
  BUILD_LOGS=$LAB_ROOT/.cache/images
  mkdir -p "$BUILD_LOGS"
  for name in "$@"; do
    recipe "$name" >/dev/null
    build_one "$name" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || status=1; done
  # A rebuilt image leaves its predecessor without a name.
  podman image prune --force --filter "label=$LAB_LABEL=image" >/dev/null
  return "$status"
}

list() {
  podman images --filter "label=$LAB_LABEL=image" --format '{{.Repository}}:{{.Tag}}  {{.Size}}  {{.CreatedSince}}' |
    grep "^$LAB_REPOSITORY/" | sort
}

# remove: all tags of this repository; an image under a container of another lab stays until that one is gone.
remove() {
  local tags
  mapfile -t tags < <(podman images --filter "label=$LAB_LABEL=image" --format '{{.Repository}}:{{.Tag}}' |
    grep "^$LAB_REPOSITORY/" | sort --reverse)
  [[ ${#tags[@]} -eq 0 ]] || podman rmi "${tags[@]}" >/dev/null
  podman image prune --force --filter "label=$LAB_LABEL=image" >/dev/null
}

main() {
  need_root lab-up
  local verb=${1:-build}
  shift || true
  case $verb in
    build)
      [[ $# -gt 0 ]] || set -- "${ALL_IMAGES[@]}"
      build "$@"
      ;;
    list) list ;;
    remove) remove ;;
    *) die "usage: images.sh build [NAME...] | list | remove" ;;
  esac
}

main "$@"
