#!/bin/sh
# Has libFuzzer look for bytes that a reader does not stand: FUZZ_SECONDS (60) for each target, or for those that are
# named. What it finds is left in lb/fuzz/artifacts, what taught it something in lb/fuzz/corpus. Needs g++.
set -eu

cd "$(dirname "$0")/../lb/fuzz"
[ $# -gt 0 ] || set -- config payload head chunks frames key spawner

# The versions are those of the workspace; what only the targets need is added.
cp ../../Cargo.lock .
host=$(rustc -vV | sed -n 's/^host: //p')
# What libFuzzer learns by: counters of edges, and the operands of comparisons. The target is named although it is the
# host, so that the flags do not reach build scripts.
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares" \
    cargo build --release --target "$host"

for target in "$@"; do
    echo "fuzz: $target" >&2
    mkdir -p "corpus/$target" "artifacts/$target"
    "target/$host/release/$target" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target/" "corpus/$target" "seeds/$target"
done
