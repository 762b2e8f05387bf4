#!/bin/sh
# chaos.sh EXPERIMENT…: runs `chaos`, `overload` or `soak`, and writes docs/reliability.md with their charts. Leaves nothing
# running. MINUTES is how long the soak lasts.
set -eu

cd "$(dirname "$0")/.."
cargo build --release --locked -p ringmaster -p ringmaster-loadtest
results=${RESULTS:-results/reliability-$(date +%s)}
mkdir -p "$results"

# Each leaves its files and goes on: a broken promise is told at the end, with all figures there.
failed=""
for experiment in "$@"; do
    echo "chaos: $experiment" >&2
    case $experiment in
        soak) set -- --minutes "${MINUTES:-30}" ;;
        *) set -- ;;
    esac
    target/release/ringmaster-loadtest "$experiment" "$@" --out "$results/$experiment" || failed="$failed $experiment"
done

scripts/report.sh reliability "$results" chaos overload soak
[ -z "$failed" ] || { echo "chaos: not as it should be:$failed" >&2; exit 1; }
