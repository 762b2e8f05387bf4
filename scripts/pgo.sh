#!/bin/sh
# `make pgo`: builds target/release-pgo/ringmaster, laid out by what a trial load runs through (profile-guided optimisation). Takes
# three builds, the last two with everything below. Needs wrk and nginx for the load, and llvm-profdata: rustup's component
# llvm-tools has it, or Debian's package llvm-19. Without one of them it says so, and builds as `make build` does.
set -eu

cd "$(dirname "$0")/.."
root=$PWD/target/pgo
out=target/release-pgo
host=$(rustc -vV | sed -n 's/^host: //p')
flags=${RUSTFLAGS:-}

profdata() {
    own=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata
    # Under its bare name it may be older, and not read what this compiler writes.
    for tool in "$own" llvm-profdata-22 llvm-profdata-21 llvm-profdata-20 llvm-profdata-19; do
        if command -v "$tool" >/dev/null 2>&1; then
            echo "$tool"
            return
        fi
    done
}

plain() {
    echo "pgo: $1; building without a profile" >&2
    mkdir -p "$out"
    cargo build --release --locked -p ringmaster
    cp target/release/ringmaster "$out/ringmaster"
    exit 0
}

# build NAME FLAGS: with flags for what runs, not for what only builds.
build() {
    RUSTFLAGS="$flags $2" cargo build --profile release-pgo --locked -p ringmaster \
        --target "$host" --target-dir "$root/$1"
}

if [ -z "$(profdata)" ] || ! command -v wrk >/dev/null 2>&1 || ! command -v nginx >/dev/null 2>&1; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "pgo: installing llvm-19, wrk and nginx-light" >&2
        scripts/install.sh llvm-19 wrk nginx-light || plain "they cannot be installed"
    else
        plain "llvm-profdata, wrk or nginx is missing"
    fi
fi

cargo build --release --locked -p ringmaster-loadtest
rm -rf "$root/raw" "$root/trial"
mkdir -p "$root/raw" "$root/trial" "$out"
build instrumented "-Cprofile-generate=$root/raw"

# The load finds the balancer beside itself; the balancer writes its profile when it is told to end.
cp "$root/instrumented/$host/release-pgo/ringmaster" target/release/ringmaster-loadtest "$root/trial/"
"$root/trial/ringmaster-loadtest" compare --peers ringmaster --scenarios json,10k,1m,post-10k,connect,tls \
    --rounds 1 --seconds 3 --out "$root/trial/results" >"$root/trial/log" 2>&1 || plain "the trial failed, see $root/trial/log"
"$(profdata)" merge -o "$root/merged.profdata" "$root/raw" || plain "llvm-profdata does not read what this compiler writes"

build optimised "-Cprofile-use=$root/merged.profdata"
cp "$root/optimised/$host/release-pgo/ringmaster" "$out/ringmaster"
echo "pgo: $out/ringmaster" >&2
