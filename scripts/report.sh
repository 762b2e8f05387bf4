#!/bin/sh
# report.sh NAME RESULTS EXPERIMENT…: writes docs/NAME.md and its charts from the results of a run: the hand-written
# docs/NAME.in.md, then the report of each experiment. One without results keeps the section that it has.
set -eu

cd "$(dirname "$0")/.."
name=$1
results=$2
shift 2
mkdir -p docs/charts
# $1: experiment. Its report one level deeper, its charts under its own name.
section() {
    echo "<!-- $1 -->"
    if [ -e "$results/$1/report.md" ]; then
        for chart in "$results/$1"/*.svg; do
            [ ! -e "$chart" ] || cp "$chart" "docs/charts/$1-$(basename "$chart")"
        done
        sed -e 's/^#/##/' -e "s#](\([a-z]*\.svg\))#](charts/$1-\1)#" "$results/$1/report.md"
    elif [ -e "docs/$name.md" ]; then
        awk -v mark="<!-- $1 -->" '/^<!-- [a-z0-9]+ -->$/ { on = $0 == mark; next } on' "docs/$name.md" | sed -e '$ { /^$/d }'
    fi
}
{
    cat "docs/$name.in.md"
    for experiment in "$@"; do
        echo
        section "$experiment"
    done
} >"docs/$name.md.new"
mv "docs/$name.md.new" "docs/$name.md"
echo "report: wrote docs/$name.md" >&2
