#!/bin/bash
# src/schema/config.json in the editors' own validator: Taplo, which is what TOML extensions run.
#
# Usage: tests/editor/run.sh [taplo]
#
# Every file that bellpull takes must be taken, and each mistake in MISTAKES must be refused. Taplo is the one that is named, else the one in $PATH,
# else @taplo/cli of npm, in a temporary directory or $INTEROP_CACHE, which is kept. Says `skipped` only where it cannot be had; changes nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=0.7.0     # of @taplo/cli, which is taplo 0.9
limit_s=120       # a few seconds are measured, beside the installation

# Of tests/config/bad: what a schema can see.
mistakes=(unknown-key-evry unknown-table unknown-source-kind unknown-auth-kind unknown-pages-link-key unknown-key-in-route secret-plain-string
    every-wrong-type source-two-kinds on-unknown-value size-bad)

taplo=${1:-$(command -v taplo || true)}
if [[ -z $taplo ]]; then
    if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
        echo "skipped: taplo is absent, and so is npm"
        exit 0
    fi
    cache=${INTEROP_CACHE:-}
    if [[ -z $cache ]]; then
        cache=$(mktemp -d)
        trap 'rm -rf "$cache"' EXIT
    fi
    mkdir -p "$cache/taplo"
    if ! timeout "$limit_s" npm install --prefix "$cache/taplo" --silent --no-fund --no-audit "@taplo/cli@$version" >"$cache/taplo/install.log" 2>&1; then
        echo "skipped: @taplo/cli cannot be had: $(tail -1 "$cache/taplo/install.log")"
        exit 0
    fi
    taplo=$cache/taplo/node_modules/.bin/taplo
fi

lint() { timeout "$limit_s" "$taplo" lint --schema "file://$PWD/src/schema/config.json" "$@" 2>&1; }

files=(bridges.toml systemd/package/bridges.toml tests/config/good/*.toml tests/config/good/conf.d/*.toml src/recipes/*.toml)
echo "$("$taplo" --version): ${#files[@]} files that bellpull takes"
if ! found=$(lint "${files[@]}"); then
    echo "$found"
    echo "tests/editor/run.sh: failed"
    exit 1
fi
failed=0
for name in "${mistakes[@]}"; do
    status=0
    found=$(lint "tests/config/bad/$name.toml") || status=$?
    if ((status == 0)); then
        echo "  FAILED: $name.toml was taken"
        failed=1
    elif ! grep -q 'schema validation failed' <<<"$found"; then
        echo "$found"
        echo "  FAILED: $name.toml was refused, but not by the schema"
        failed=1
    fi
done
echo "${#mistakes[@]} mistakes"
if ((failed)); then
    echo "tests/editor/run.sh: failed"
    exit 1
fi
echo "tests/editor/run.sh: ok"
