#!/bin/sh
# `make bench`: measures, and writes docs/performance.md with its charts. Needs about ten minutes after the build, and
# a machine that has nothing else to do; leaves nothing running. On Debian it installs the peers that are missing.
set -eu

cd "$(dirname "$0")/.."

missing=""
for tool in nginx:nginx-light haproxy:haproxy caddy:caddy wrk:wrk valgrind:valgrind strace:strace; do
    command -v "${tool%%:*}" >/dev/null 2>&1 || missing="$missing ${tool##*:}"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "bench: installing$missing" >&2
        # shellcheck disable=SC2086 # A list of words.
        scripts/install.sh $missing
    else
        echo "bench: not installed, so not compared with:$missing" >&2
    fi
fi

cargo build --release --locked -p ringmaster -p ringmaster-bare -p ringmaster-loadtest
loadtest=target/release/ringmaster-loadtest
results=${RESULTS:-results/bench-$(date +%s)}
mkdir -p "$results"

# Each leaves its files and goes on: a broken promise is told at the end, with all figures there.
failed=""
run() {
    echo "bench: $1" >&2
    "$loadtest" "$@" || failed="$failed $1"
}
run all --rounds "${ROUNDS:-2}" --seconds "${SECONDS_EACH:-1}" --out "$results"
run scaling --rounds 1 --seconds 4 --out "$results/scaling"
run guard

scripts/report.sh performance "$results" compare scaling a1 a2 a3 a4 failover
[ -z "$failed" ] || { echo "bench: not as it should be:$failed" >&2; exit 1; }
