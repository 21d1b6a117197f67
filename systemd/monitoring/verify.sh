#!/bin/bash
# The alerts and the dashboard of this directory: promtool reads the rules, runs their tests, and reads each expression of the dashboard; then
# `cargo test` compares the names of metrics with those that bellpull tells (tests/it/monitoring.rs), and promtool looks at what is told.
#
# Usage: systemd/monitoring/verify.sh
#
# promtool is the one in $PATH, else that of Debian's prometheus, unpacked into a temporary directory (or $INTEROP_CACHE, which is kept).
# Says `skipped` for its part where it cannot be had. Exits 1 when something is wrong.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

download_limit_s=300
limit_s=60

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cache=${INTEROP_CACHE:-$work}
failed=0

find_promtool() {
    command -v promtool && return
    local tool=$cache/prometheus/usr/bin/promtool
    if [[ ! -x $tool ]]; then
        command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
        mkdir -p "$work/deb" "$cache/prometheus"
        (cd "$work/deb" && timeout "$download_limit_s" apt-get -q -o "APT::Sandbox::User=$(id -un)" download prometheus) >"$work/apt.log" 2>&1 || return 1
        dpkg -x "$work"/deb/prometheus_*.deb "$cache/prometheus"
    fi
    echo "$tool"
}

# The expressions of all panels, as the rules of one group; Grafana's own variables stand for something.
expressions() {
    echo 'groups: [{ name: panels, rules: ['
    grep -oE '"expr": "([^"\\]|\\.)*"' "$here/bellpull.json" | sed -E 's/^"expr": //; s/\$__rate_interval/5m/g; s/\$(job|instance)/.*/g' |
        awk '{ printf "{ record: \"panel:%d\", expr: %s },\n", NR, $0 }'
    echo ']}]'
}

promtool=
if promtool=$(find_promtool); then
    "$promtool" --version 2>&1 | head -1
    timeout "$limit_s" "$promtool" check rules "$here/bellpull.rules.yml" || failed=1
    (cd "$here" && timeout "$limit_s" "$promtool" test rules bellpull.rules.test.yml) || failed=1
    expressions >"$work/panels.yml"
    echo "expressions of bellpull.json:"
    timeout "$limit_s" "$promtool" check rules "$work/panels.yml" || failed=1
else
    promtool=
    echo "skipped: promtool is absent, and prometheus cannot be had from the archive"
fi

echo "names of metrics:"
(cd "$here/../.." && BELLPULL_METRICS=$work/metrics cargo test --quiet --locked --test it monitoring::) || failed=1
if [[ -n $promtool ]]; then
    echo "lint of /metrics:"
    timeout "$limit_s" "$promtool" check metrics <"$work/metrics" || failed=1
fi

if ((failed)); then
    echo "systemd/monitoring/verify.sh: failed"
    exit 1
fi
echo "systemd/monitoring/verify.sh: ok"
