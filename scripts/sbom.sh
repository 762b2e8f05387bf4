#!/bin/sh
# Writes what each binary is made of into target/sbom, in CycloneDX form.
set -eu

cd "$(dirname "$0")/.."
tool=$(scripts/tool.sh cargo-cyclonedx 0.5.9)

# The tool writes beside each Cargo.toml.
trap 'rm -f lb/*.cdx.json lb/fleet/*.cdx.json server/*.cdx.json loadtest/*.cdx.json' EXIT
"$tool" cyclonedx --quiet --format json --spec-version 1.5 --describe binaries --no-build-deps
mkdir -p target/sbom
for binary in lb/ringmaster server/ringmaster-server; do
    # Where this copy lies is nobody's business, and would make two equal lists differ.
    sed "s|file://$PWD|file:///src|g" "${binary}_bin.cdx.json" >"target/sbom/${binary#*/}.cdx.json"
done
ls target/sbom/*.cdx.json
