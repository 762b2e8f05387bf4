#!/bin/sh
# Writes what each binary is made of into target/sbom, in CycloneDX form. Installs cargo-cyclonedx into target/tools
# when it is not there yet, which needs a registry.
set -eu

cd "$(dirname "$0")/.."
version=0.5.9
tool=target/tools/$version/bin/cargo-cyclonedx
[ -x "$tool" ] || cargo install cargo-cyclonedx --version "$version" --locked --root "target/tools/$version"

# The tool writes beside each Cargo.toml.
trap 'rm -f lb/*.cdx.json lb/fleet/*.cdx.json server/*.cdx.json loadtest/*.cdx.json' EXIT
"$tool" cyclonedx --quiet --format json --spec-version 1.5 --describe binaries --no-build-deps
mkdir -p target/sbom
for binary in lb/ringmaster server/ringmaster-server; do
    # Where this copy lies is nobody's business, and would make two equal lists differ.
    sed "s|file://$PWD|file:///src|g" "${binary}_bin.cdx.json" >"target/sbom/${binary#*/}.cdx.json"
done
ls target/sbom/*.cdx.json
