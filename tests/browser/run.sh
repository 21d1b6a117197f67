#!/bin/bash
# The dashboard in a browser that none of us wrote, against the real daemon.
#
# Usage: tests/browser/run.sh [BINARY]
#
# packages.sh has what it needs: a browser and its driver. Then it runs drive.py. Everything listens on 127.0.0.1, on free ports. It is `skipped`
# when a package cannot be had; it exits 1 when a check fails, or when it takes over ten minutes. The screenshots stay in a directory
# ($BROWSER_SHOTS, or one that it names).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
limit_s=600

binary=${1:-}
if [[ -z $binary ]]; then
    for candidate in "$here/../../target/release/bellpull" "$here/../../target/debug/bellpull"; do
        if [[ -x $candidate ]]; then
            binary=$candidate
            break
        fi
    done
fi
if [[ -z $binary || ! -x $binary ]]; then
    echo "there is no bellpull binary at '${binary:-target/release, target/debug}': cargo build first" >&2
    exit 1
fi
binary=$(realpath "$binary")

work=$(mktemp -d /tmp/bellpull-browser.XXXXXX)
shots=${BROWSER_SHOTS:-$(mktemp -d /tmp/bellpull-screenshots.XXXXXX)}
mkdir -p "$shots"
finish() {
    end_group
    rm -rf "$work"
    rmdir "$shots" 2>/dev/null || true
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

. "$here/packages.sh"
echo "screenshots: $shots"
within python3 "$here/drive.py" "$binary" "$chromium" "$driver" "$cache/node_modules/axe-core/axe.min.js" "$work" "$shots"
