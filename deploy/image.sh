#!/usr/bin/env bash
# Builds the image with podman or docker, whichever works here, and tags it portway:VERSION and portway:latest.
# From outside: ENGINE=docker  BASE_IMAGE=python:3.12-slim  IMAGE=registry.example.com/portway  BUILD_FLAGS='--no-cache'
set -euo pipefail
cd "$(dirname "$0")/.."

ENGINE=${ENGINE:-$(for e in podman docker; do "$e" info >/dev/null 2>&1 && echo "$e" && break; done || true)}
[[ $ENGINE ]] || { echo "image: neither podman nor docker works here; on Debian and Ubuntu: apt install podman" >&2; exit 1; }
IMAGE=${IMAGE:-portway}
VERSION=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' gateway/__init__.py)

# How this machine's pip reaches its index goes in as build secrets, taken from pip itself: into no file, no layer.
secrets=$(mktemp -d)
trap 'rm -rf "$secrets"' EXIT
"${PYTHON:-python3}" deploy/pip_secrets.py "$secrets"

args=(--file Containerfile --tag "$IMAGE:$VERSION" --tag "$IMAGE:latest" --label "org.opencontainers.image.version=$VERSION")
revision=$(git describe --always --dirty --abbrev=40 --match '' 2>/dev/null || true)
[[ $revision ]] && args+=(--label "org.opencontainers.image.revision=$revision")
args+=(--network host)  # the build reaches the index just as this machine does: a proxy on loopback, its name servers
[[ ${BASE_IMAGE:-} ]] && args+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")
for secret in pip_conf ca; do [[ -e $secrets/$secret ]] && args+=(--secret "id=$secret,src=$secrets/$secret"); done
[[ $(basename "$ENGINE") == podman ]] && args+=(--format docker)  # the OCI format drops HEALTHCHECK, with only a warning

DOCKER_BUILDKIT=1 "$ENGINE" build "${args[@]}" ${BUILD_FLAGS:-} .
echo "image: $IMAGE:$VERSION, $(("$("$ENGINE" image inspect "$IMAGE:$VERSION" --format '{{.Size}}')" / 1000000)) MB"
