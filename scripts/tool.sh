#!/bin/sh
# tool.sh NAME VERSION: prints where the cargo tool of this name is. Installs it into target/tools when it is not there yet,
# which needs a registry.
set -eu

cd "$(dirname "$0")/.."
root=target/tools/$1-$2
[ -x "$root/bin/$1" ] || cargo install "$1" --version "$2" --locked --root "$root" >&2
echo "$PWD/$root/bin/$1"
