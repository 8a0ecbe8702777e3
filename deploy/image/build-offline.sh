#!/usr/bin/env bash
# Builds the image with buildah, as root, on a Debian base made here: for machines that reach package indexes but no
# image registry. Needs buildah, crun and mmdebstrap (Debian: apt-get install).    build-offline.sh TAG
set -euo pipefail
tag=$1
cd "$(dirname "$0")/../.."
work=${OPERA_IMAGE_WORK:-.deploy-tools/image}
base=localhost/opera-base:bookworm
export BUILDAH_ISOLATION=chroot

if ! buildah inspect --type image "$base" >/dev/null 2>&1; then
  mkdir -p "$work"
  [ -s "$work/base.tar" ] || mmdebstrap --variant=minbase \
    --include=python3,python3-venv,python3-pip,ca-certificates bookworm "$work/base.tar"
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$work/base.tar" /
  buildah commit --quiet --rm "$container" "$base"
fi

# pip in there as pip out here: certificates, local indexes and wheels. Mounted, so that nothing of it is in the image.
mounts=(--volume /etc/ssl/certs:/etc/ssl/certs:ro)
settings=$(mktemp)
trap 'rm -f "$settings"' EXIT
{
  echo "[global]"
  echo "cert = /etc/ssl/certs/ca-certificates.crt"
  for name in index-url extra-index-url find-links; do
    value=$(python3 -m pip config get "global.$name" 2>/dev/null || true)
    [ -z "$value" ] || echo "$name = $value"
    for part in $value; do
      path=${part#file://}
      # An index links to files beside itself.
      [ "$name" = find-links ] || path=$(dirname "$path")
      case $path in /*) mounts+=(--volume "$path:$path:ro") ;; esac
    done
  done
} >"$settings"
chmod 644 "$settings"

buildah bud --pull-never --format docker --layers --quiet --build-arg "BASE_IMAGE=$base" \
  --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
  "${mounts[@]}" --volume "$settings:/etc/pip.conf:ro" --tag "$tag" .
