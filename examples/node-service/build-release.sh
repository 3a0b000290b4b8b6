#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Writes a release of this service:   build-release.sh VERSION OUT   makes OUT/hello-VERSION and prints its path.
# A release of kind `tree` is its files, SHA256SUMS of all of them, and release.json with the digest of that list.
set -eu
[ $# -eq 2 ] || {
  echo "usage: build-release.sh VERSION OUT" >&2
  exit 2
}
version=$1
source=$(cd "$(dirname "$0")" && pwd)
release=$2/hello-$version

rm -rf "$release"
mkdir -p "$release"
cp "$source/server.mjs" "$release/"
cd "$release"
printf '{"name": "hello", "version": "%s", "private": true}\n' "$version" >package.json
sha256sum package.json server.mjs >SHA256SUMS
digest=$(sha256sum SHA256SUMS | cut -d' ' -f1)
printf '{"name": "hello", "version": "%s", "digest": "%s"}\n' "$version" "$digest" >release.json
pwd
