#!/bin/sh
# Writes docs/performance.md and docs/charts from the results of one `make bench`: the hand-written docs/performance.in.md,
# then the reports.
set -eu

cd "$(dirname "$0")/.."
results=$1
mkdir -p docs/charts
# $1: experiment. Its report one level deeper, its charts under its own name.
section() {
    for chart in "$results/$1"/*.svg; do
        [ ! -e "$chart" ] || cp "$chart" "docs/charts/$1-$(basename "$chart")"
    done
    [ ! -e "$results/$1/report.md" ] || sed -e 's/^#/##/' -e "s#](\([a-z]*\.svg\))#](charts/$1-\1)#" "$results/$1/report.md"
}
{
    cat docs/performance.in.md
    for experiment in compare scaling a2 a3 a4; do
        echo
        section "$experiment"
    done
} >docs/performance.md
echo "bench: wrote docs/performance.md" >&2
