#!/bin/bash
# bellpull against servers and verifiers that none of us wrote.
#
# Usage: tests/interop/run.sh [BINARY]
#
# Installs json-server, @octokit/fixtures-server and standardwebhooks from npm, and standardwebhooks and jsonpatch from PyPI, into a temporary
# directory (or $INTEROP_CACHE, which is kept), then runs drive.py. Everything listens on 127.0.0.1, on free ports. It says `skipped`
# only when npm or pip is absent; it exits 1 when a check fails, or when it takes over three minutes.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
limit_s=180

if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
    echo "skipped: npm is absent"
    exit 0
fi
if ! command -v python3 >/dev/null || ! python3 -m pip --version >/dev/null 2>&1; then
    echo "skipped: pip is absent"
    exit 0
fi

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

work=$(mktemp -d /tmp/bellpull-interop.XXXXXX)
group=
# The driver leads a process group (that is what timeout does), and all servers are in it.
finish() {
    if [[ -n $group ]]; then
        kill -TERM -- "-$group" 2>/dev/null || true
        wait "$group" 2>/dev/null || true
        kill -KILL -- "-$group" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# within COMMAND...: what is left of the limit is its limit. In the background, so that a signal to this script is not kept waiting.
within() {
    local status=0
    if ((SECONDS >= limit_s)); then
        echo "over the limit of $limit_s s" >&2
        return 1
    fi
    timeout --kill-after=10 "$((limit_s - SECONDS))" "$@" &
    group=$!
    wait "$group" || status=$?
    # Whatever the command left behind, should it have been killed itself.
    kill -KILL -- "-$group" 2>/dev/null || true
    group=
    if ((status == 124 || status == 137)); then
        echo "over the limit of $limit_s s: $1 was stopped" >&2
    fi
    return "$status"
}

# quietly COMMAND...: its output is shown only when it fails.
quietly() {
    if ! within "$@" >"$work/install.log" 2>&1; then
        cat "$work/install.log" >&2
        echo "failed to install: $*" >&2
        return 1
    fi
}

packages=${INTEROP_CACHE:-$work/packages}
wanted=$(cat "$here/package.json" "$here/requirements.txt" | sha256sum)
if [[ "$(cat "$packages/installed" 2>/dev/null || true)" != "$wanted" ]]; then
    echo "installing from npm and PyPI"
    mkdir -p "$packages"
    cp "$here/package.json" "$packages/"
    quietly npm install --prefix "$packages" --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error
    quietly python3 -m pip install --quiet --disable-pip-version-check --upgrade --target "$packages/python" -r "$here/requirements.txt"
    printf '%s\n' "$wanted" >"$packages/installed"
fi
# Node resolves a module beside the file that imports it.
cp "$here"/*.mjs "$packages/"

export PYTHONPATH="$packages/python" PYTHONDONTWRITEBYTECODE=1
unset STATE_DIRECTORY RUNTIME_DIRECTORY CREDENTIALS_DIRECTORY NOTIFY_SOCKET http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
within python3 "$here/drive.py" "$binary" "$packages" "$work"
