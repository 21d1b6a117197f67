#!/bin/bash
# Makes the Debian package of bellpull, and prints its path as the last line.
#
# Usage: systemd/package.sh [BINARY]
#
# Without a binary it builds one with the `dist` profile. cargo-deb is the one in $PATH, else it is installed into $PACKAGE_CACHE (target/tools)
# once. What the package needs beside the tree is made in target/package. $PACKAGE_REVISION is the Debian revision, 1.
#
# The package fits the distribution that it is built on, and later ones: its C library, and the drop-in for systemd before 253.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo_deb_version=3.8.0
systemd_notify_reload=253 # the first one with Type=notify-reload

if ! command -v dpkg-shlibdeps >/dev/null; then
    echo "dpkg-shlibdeps is absent, which tells the package's dependencies: apt install dpkg-dev" >&2
    exit 1
fi
tools=${PACKAGE_CACHE:-target/tools}
cargo_deb=$(command -v cargo-deb || true)
if [[ -z $cargo_deb ]]; then
    cargo_deb=$tools/bin/cargo-deb
    if [[ ! -x $cargo_deb ]]; then
        cargo install --locked "cargo-deb@$cargo_deb_version" --root "$tools" >&2
    fi
fi

binary=${1:-}
if [[ -z $binary ]]; then
    cargo build --locked --profile dist >&2
    binary=${CARGO_TARGET_DIR:-target}/dist/bellpull
fi
made=target/package
rm -rf "$made"
mkdir -p "$made"
install -m 0755 -s "$binary" "$made/bellpull"
"$made/bellpull" man --dir "$made/man"
"$made/bellpull" completions bash >"$made/bellpull.bash"
"$made/bellpull" completions zsh >"$made/_bellpull"
"$made/bellpull" completions fish >"$made/bellpull.fish"
"$made/bellpull" schema config >"$made/bridges.schema.json"
"$made/bellpull" schema event >"$made/event.schema.json"

arguments=(--no-build --deb-revision "${PACKAGE_REVISION:-1}" --output "$made/")
# Without systemd here the distribution says which one it has.
systemd=$(systemctl --version 2>/dev/null | awk 'NR == 1 { print $2 }' || true)
systemd=${systemd%%[!0-9]*}
if [[ -z $systemd && -r /etc/os-release ]]; then
    systemd=$(. /etc/os-release && [[ ${ID:-} == debian && ${VERSION_ID:-99} -le 12 ]] && echo 252 || true)
fi
if [[ -n $systemd ]] && ((systemd < systemd_notify_reload)); then
    arguments+=(--variant debian-12)
fi
"$cargo_deb" "${arguments[@]}" >&2
ls "$made"/*.deb
