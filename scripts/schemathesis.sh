#!/bin/sh
# Runs schemathesis over the admin API of a balancer of its own, from the OpenAPI document that the balancer serves: no
# answer may be a server's fault or differ from the document. Installs schemathesis into target/tools when it is not there
# yet, which needs Python with venv, and PyPI.
set -eu

cd "$(dirname "$0")/.."
version=4.32.5
tools=target/tools/schemathesis-$version
if [ ! -x "$tools/bin/schemathesis" ]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet "schemathesis==$version"
fi

scratch=$(mktemp -d)
trap 'kill "$balancer" 2>/dev/null; wait; rm -rf "$scratch"' EXIT
cat >"$scratch/ringmaster.yaml" <<'YAML'
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
pools: { default: { replicas_max: 8 } }
YAML
# Names that exist, or most calls would end in 404.
cat >"$scratch/schemathesis.toml" <<'TOML'
[parameters]
"path.pool" = "default"
TOML
target/debug/ringmaster -c "$scratch/ringmaster.yaml" >"$scratch/log" 2>&1 &
balancer=$!
admin=""
for _ in $(seq 100); do
    admin=$(sed -n 's/^  admin  //p' "$scratch/log")
    [ -n "$admin" ] && break
    sleep 0.1
done
[ -n "$admin" ] || { cat "$scratch/log" >&2; exit 1; }

# Events are a stream without an end, an upgrade leaves a process that nobody here knows, and /readyz rightly answers 503
# while changes are made. What a document of this kind cannot say, such as that one of two parameters must be
# given, is refused with 400, so that check is left out.
"$tools/bin/schemathesis" --config-file "$scratch/schemathesis.toml" run "$admin/api/v1/openapi.json" --seed 1 \
    --max-examples "${EXAMPLES:-30}" --exclude-path /api/v1/events --exclude-path /api/v1/upgrade \
    --exclude-path /readyz --exclude-checks positive_data_acceptance
