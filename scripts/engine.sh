#!/bin/sh
# Says in one line why no Docker engine can be used, and fails; or says nothing.
set -eu

if ! command -v docker >/dev/null 2>&1; then
    echo "docker is not installed; install the package docker.io or https://docs.docker.com/engine/install" >&2
    exit 1
fi
if ! reason=$(docker version --format '{{.Server.Version}}' 2>&1); then
    echo "no Docker engine can be used: $(echo "$reason" | grep -v '^$' | tail -n 1)" >&2
    exit 1
fi
