#!/bin/sh
# Builds target/release/ringmaster with the list of its crates inside it, so that scanners (cargo audit bin, trivy, grype) can tell
# years later what it was made of; then shows that the list is there.
set -eu

cd "$(dirname "$0")/.."
tool=$(scripts/tool.sh cargo-auditable 0.7.7)
PATH="${tool%/*}:$PATH" cargo auditable build --release --locked -p ringmaster
readelf --sections --wide target/release/ringmaster | grep -q '\.dep-v0' || {
    echo "auditable: the binary has no section .dep-v0" >&2
    exit 1
}
echo "auditable: target/release/ringmaster" >&2
