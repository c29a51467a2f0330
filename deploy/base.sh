#!/usr/bin/env bash
# A stand-in for python:3.13-slim where no registry can be reached: Debian trixie with its own Python 3.13, out of Debian's
# packages. To try the image out with, never to ship. Becomes the image $1 of podman or docker ($ENGINE); needs root.
set -euo pipefail
name=${1:?usage: base.sh IMAGE} engine=${ENGINE:-podman}
command -v mmdebstrap >/dev/null || { echo "base: mmdebstrap is missing; on Debian and Ubuntu: apt install mmdebstrap" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # apt reads as a user of its own
# What slim images leave out; pip may install here; python3 is where PATH finds it first, as in the public image.
mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3,python3-venv,python3-pip \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED "$1"/etc/resolv.conf "$1"/etc/hostname' \
  --customize-hook='ln -s /usr/bin/python3 "$1"/usr/local/bin/python3' \
  trixie "$work/base.tar"
"$engine" import --change 'CMD ["python3"]' "$work/base.tar" "$name" >/dev/null
