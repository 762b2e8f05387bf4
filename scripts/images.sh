#!/bin/sh
# Builds the images ringmaster and ringmaster-server.
#   FORM  local (default): from static binaries built here; source: all inside Docker, which needs a registry
#   TAG   local by default
#   BASE  what the binary is put on: scratch by default, or such as debian:12-slim
set -eu

cd "$(dirname "$0")/.."
form=${FORM:-local}
scripts/engine.sh
[ "$form" = source ] || { scripts/setup.sh && scripts/static.sh; }
docker build --quiet --target "$form" --build-arg "BASE=${BASE:-scratch}" \
    --tag "ringmaster:${TAG:-local}" --file docker/lb.Dockerfile . >/dev/null
docker build --quiet --target "$form" --build-arg "BASE=${BASE:-scratch}" \
    --tag "ringmaster-server:${TAG:-local}" --file docker/server.Dockerfile . >/dev/null
docker images --filter "reference=ringmaster*:${TAG:-local}"
