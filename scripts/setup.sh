#!/bin/sh
# Installs what the build needs beside Rust, gcc and make: cmake, for the zlib-ng inside Pingora.
# Does nothing where it is there already; without the right to install it says what to install.
set -eu

missing=""
for tool in cmake gcc curl; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: cargo is missing; install Rust with rustup (https://rustup.rs)" >&2
    exit 1
fi
[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: please install:$missing" >&2
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo"
else
    echo "setup: please run: sudo apt-get install$missing" >&2
    exit 1
fi
echo "setup: installing$missing" >&2
# shellcheck disable=SC2086 # A list of words, and an empty one without sudo.
$as_root apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
