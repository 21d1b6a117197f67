#!/bin/bash
# bellpull against servers and verifiers that none of us wrote.
#
# Usage: tests/interop/run.sh [BINARY [PART...]]
#
#   PART      A json-server, a list that changes         B GitHub's recorded answers          lists: A and B, the default
#             soap11 soap12 graphql grpc-unary grpc-stream websocket graphql-ws socket-io rss atom xml csv html alerts          sources: these 14
#             signatures node-red receivers          sinks: these 3
#             all: lists, sources and sinks
#
# Installs json-server, @octokit/fixtures-server and standardwebhooks from npm, and standardwebhooks and jsonpatch from PyPI, into a temporary
# directory (or $INTEROP_CACHE, which is kept), and for the sources what servers/package.json and servers/requirements.txt name, and Debian's
# prometheus and prometheus-alertmanager, unpacked there. The sinks need what sinks/ and node-red/ name, the crates of receivers/Cargo.lock, and
# Debian's Go where there is none. Then it runs drive.py. Everything listens on 127.0.0.1, on free ports. All is `skipped` only when
# npm or pip is absent, and a source or a sink only when its packages cannot be had; it exits 1 when a check fails, or when it takes over three
# minutes (with sources or sinks, ten; with both, twenty).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lists=(A B)
sources=(soap11 soap12 graphql grpc-unary grpc-stream websocket graphql-ws socket-io rss atom xml csv html alerts)
sinks=(signatures node-red receivers)
limit_s=180

parts=()
for part in "${@:2}"; do
    case $part in
        lists) parts+=("${lists[@]}") ;;
        sources) parts+=("${sources[@]}") ;;
        sinks) parts+=("${sinks[@]}") ;;
        all) parts+=("${lists[@]}" "${sources[@]}" "${sinks[@]}") ;;
        *)
            if [[ " ${lists[*]} ${sources[*]} ${sinks[*]} " != *" $part "* ]]; then
                echo "there is no part '$part': ${lists[*]} ${sources[*]} ${sinks[*]}, lists, sources, sinks, all" >&2
                exit 1
            fi
            parts+=("$part")
            ;;
    esac
done
if ((${#parts[@]} == 0)); then
    parts=("${lists[@]}")
fi
# wants PART...: whether one of these is to be run.
wants() {
    local part
    for part in "$@"; do
        if [[ " ${parts[*]} " == *" $part "* ]]; then
            return 0
        fi
    done
    return 1
}
if wants "${sources[@]}"; then
    limit_s=600
fi
if wants "${sinks[@]}"; then
    limit_s=$((limit_s > 180 ? 1200 : 600))
fi

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
. "$here/../within.sh"
finish() {
    end_group
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

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

# optional NAME KEY COMMAND...: installs what some parts need, once for one KEY; a failure is the reason why these are skipped.
optional() {
    local name=$1 key=$2
    if [[ "$(cat "$packages/installed-$name" 2>/dev/null || true)" == "$key" ]]; then
        return
    fi
    echo "installing $name"
    rm -f "$packages/installed-$name" "$packages/skipped-$name"
    if within "${@:3}" >"$work/install.log" 2>&1; then
        printf '%s\n' "$key" >"$packages/installed-$name"
    else
        cat "$work/install.log" >&2
        echo "$name's packages are not to be had: $(grep -iE '^(E:|error|npm error)' "$work/install.log" | head -n 1)" >"$packages/skipped-$name"
    fi
}

# npm_packages DIRECTORY: what the package.json there names. pip_packages DIRECTORY FILE: what the file names.
npm_packages() {
    npm install --prefix "$1" --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error
}
pip_packages() {
    python3 -m pip install --quiet --disable-pip-version-check --upgrade --target "$1/python" -r "$2"
}

# debian_packages DIRECTORY PACKAGE...: unpacked, not installed: no service is started. With its own package lists where the system has none; an
# update of those needs root.
debian_packages() {
    set -e
    local lists=$1/lists download=$1/download
    local private=(-o "Dir::State::Lists=$lists" -o "Dir::Cache=$1/cache" -o "APT::Sandbox::User=$(id -un)")
    rm -rf "$1"
    mkdir -p "$lists/partial" "$1/cache/archives/partial" "$download"
    cd "$download"
    if ! apt-get -q -o "APT::Sandbox::User=$(id -un)" download "${@:2}"; then
        apt-get -q "${private[@]}" update
        apt-get -q "${private[@]}" download "${@:2}"
    fi
    for package in *.deb; do
        dpkg -x "$package" "$1"
        dpkg-deb --show --showformat '${Package} ${Version}\n' "$package" >>"$1/versions"
    done
    rm -rf "$lists" "$1/cache" "$download"
}
debian_servers() {
    debian_packages "$1" prometheus prometheus-alertmanager
    # Debian's Alertmanager opens its templates in /usr/share, where nothing is installed: let it look in its working directory. The other name
    # is as long, as it must be within a program.
    LC_ALL=C sed -i 's|/usr/share/prometheus/alertmanager|./////////////////////////////////|g' "$1/usr/bin/prometheus-alertmanager"
}
# golang-go is a link to the release's own version, which has a package for the programs and one for the sources of the library.
debian_go() {
    debian_packages "$1" golang-go
    local version
    version=$(readlink "$1/usr/lib/go")
    debian_packages "$1" "golang-${version#go-}-go" "golang-${version#go-}-src"
    ln -s "$version" "$1/usr/lib/go"
}
crates() {
    if ! command -v cargo; then
        echo "error: cargo is absent"
        return 1
    fi
    cargo fetch --locked --manifest-path "$1"
}
export -f npm_packages pip_packages debian_packages debian_servers debian_go crates

mkdir -p "$packages/servers"
if wants soap11 soap12 grpc-unary grpc-stream rss atom xml csv html alerts; then
    optional PyPI "$(sha256sum <"$here/servers/requirements.txt")" bash -c 'pip_packages "$@"' bash "$packages/servers" "$here/servers/requirements.txt"
fi
if wants graphql websocket graphql-ws socket-io; then
    cp "$here/servers/package.json" "$packages/servers/"
    optional npm "$(sha256sum <"$here/servers/package.json")" bash -c 'npm_packages "$@"' bash "$packages/servers"
    cp "$here"/servers/*.mjs "$packages/servers/"
fi
if wants alerts; then
    # apt gives the version of this release of Debian; another one has another.
    optional Debian "$(cat /etc/debian_version 2>/dev/null || echo none)" bash -c 'debian_servers "$1"' bash "$packages/debian"
fi
if wants signatures; then
    mkdir -p "$packages/sinks"
    cp "$here"/sinks/{package.json,*.mjs} "$packages/sinks/"
    optional PyPI-sinks "$(sha256sum <"$here/sinks/requirements.txt")" bash -c 'pip_packages "$@"' bash "$packages/sinks" "$here/sinks/requirements.txt"
    optional npm-sinks "$(sha256sum <"$here/sinks/package.json")" bash -c 'npm_packages "$@"' bash "$packages/sinks"
fi
if wants node-red; then
    mkdir -p "$packages/node-red"
    cp "$here/node-red/package.json" "$packages/node-red/"
    optional npm-node-red "$(sha256sum <"$here/node-red/package.json")" bash -c 'npm_packages "$@"' bash "$packages/node-red"
fi
if wants receivers; then
    cp "$here/receivers/receive.mjs" "$packages/"
    if ! command -v go >/dev/null; then
        optional Debian-go "$(cat /etc/debian_version 2>/dev/null || echo none)" bash -c 'debian_go "$1"' bash "$packages/go"
    fi
    # Built by samples.py, so that a sample that does not compile is a failure; here it is only fetched.
    optional crates.io "$(sha256sum <"$here/receivers/Cargo.lock")" bash -c 'crates "$1"' bash "$here/receivers/Cargo.toml"
fi

export PYTHONPATH="$packages/python:$packages/servers/python" PYTHONDONTWRITEBYTECODE=1
unset STATE_DIRECTORY RUNTIME_DIRECTORY CREDENTIALS_DIRECTORY NOTIFY_SOCKET http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
within python3 "$here/drive.py" "$binary" "$packages" "$work" "${parts[@]}"
