#!/bin/sh
# Builds static release binaries into target/static: what runs in an image without a system around it.
# Takes the packages to build; without any, ringmaster and ringmaster-server.
set -eu

cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- ringmaster ringmaster-server

host=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-target}
for package in "$@"; do
    set -- "$@" --package "$package"
    shift
done
# The target is named although it is the host: so the flags do not reach build scripts and procedural macros, which
# cannot be static, and the binaries do not share a directory with those of other builds.
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" \
    cargo build --release --locked --target "$host" "$@"

mkdir -p target/static
while [ $# -gt 0 ]; do
    cp "$target/$host/release/$2" target/static/
    shift 2
done
