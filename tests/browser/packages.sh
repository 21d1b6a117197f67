# What tests with a browser need: sourced by their run.sh, which has set $here (the script's directory), $work (a temporary one) and $limit_s.
#
# Unpacks Debian's chromium and chromium-driver, and what of their libraries the system lacks, into $work (or $BROWSER_CACHE, which is kept); a chromium and
# a chromedriver that are installed are used as they are. Installs selenium from PyPI and axe-core from npm there too. Sets $chromium, $driver, $cache and
# what their processes need of the environment. Ends the script with `skipped` when npm, pip or apt is absent, or when a package cannot be had.
browser=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

. "$browser/../within.sh"

skip() {
    echo "skipped: $1"
    exit 0
}
command -v npm >/dev/null || skip "npm is absent"
python3 -m pip --version >/dev/null 2>&1 || skip "pip is absent"

cache=${BROWSER_CACHE:-$work/packages}
mkdir -p "$cache"

# once NAME KEY COMMAND...: installs something, once for one KEY; when it cannot be had, that is the reason to skip.
once() {
    local name=$1 key=$2
    if [[ "$(cat "$cache/installed-$name" 2>/dev/null || true)" == "$key" ]]; then
        return
    fi
    echo "installing $name"
    rm -f "$cache/installed-$name"
    if ! within "${@:3}" >"$work/install.log" 2>&1; then
        cat "$work/install.log" >&2
        skip "$name's packages are not to be had: $(grep -iE '^(E:|error|npm error)' "$work/install.log" | head -n 1)"
    fi
    printf '%s\n' "$key" >"$cache/installed-$name"
}

npm_packages() {
    npm install --prefix "$1" --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error
}
pip_packages() {
    rm -rf "$1/python"
    python3 -m pip install --quiet --disable-pip-version-check --target "$1/python" -r "$2"
}

# debian_browser DIRECTORY: unpacked, not installed. apt says what the system lacks for it. With its own package lists where the system has none,
# or old ones whose packages are gone; an update of those needs root.
debian_browser() {
    set -e
    local lists=$1/lists download=$1/download
    local user=(-o "APT::Sandbox::User=$(id -un)")
    local private=("${user[@]}" -o "Dir::State::Lists=$lists" -o "Dir::Cache=$1/cache")
    local wanted=(chromium chromium-driver fonts-dejavu-core)
    rm -rf "$1"
    mkdir -p "$lists/partial" "$1/cache/archives/partial" "$download"
    cd "$download"
    lacking() {
        apt-get -q --simulate --no-install-recommends "$@" install "${wanted[@]}" | sed -n 's/^Inst \([^ ]*\) .*/\1/p'
    }
    local packages
    if packages=$(lacking "${user[@]}") && [[ -n $packages ]] && apt-get -q "${user[@]}" download $packages; then
        :
    else
        rm -f ./*.deb
        apt-get -q "${private[@]}" update
        packages=$(lacking "${private[@]}")
        apt-get -q "${private[@]}" download $packages
    fi
    for package in *.deb; do
        dpkg -x "$package" "$1"
    done
    rm -rf "$lists" "$1/cache" "$download"
    test -x "$1/usr/lib/chromium/chromium" -a -x "$1/usr/bin/chromedriver"
}
export -f npm_packages pip_packages debian_browser

once PyPI "$(sha256sum <"$browser/requirements.txt")" bash -c 'pip_packages "$@"' bash "$cache" "$browser/requirements.txt"
cp "$browser/package.json" "$cache/"
once npm "$(sha256sum <"$browser/package.json")" bash -c 'npm_packages "$@"' bash "$cache"
if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then
    chromium=$(command -v chromium) driver=$(command -v chromedriver)
else
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || skip "chromium and chromedriver are absent, and so is apt"
    # apt gives the version of this release of Debian; another one has another.
    once Debian "$(cat /etc/debian_version 2>/dev/null || echo none)" bash -c 'debian_browser "$1"' bash "$cache/debian"
    chromium=$cache/debian/usr/lib/chromium/chromium driver=$cache/debian/usr/bin/chromedriver
    # For the browser alone: Python and bellpull have their own. PulseAudio's client keeps a part of itself in a directory below.
    for directory in "$cache/debian"/{usr/,}lib/*-linux-gnu{,/pulseaudio}; do
        BROWSER_LIBRARIES=${BROWSER_LIBRARIES:+$BROWSER_LIBRARIES:}$directory
    done
    export BROWSER_LIBRARIES
fi

export PYTHONPATH="$cache/python" PYTHONDONTWRITEBYTECODE=1
# Selenium has a helper that fetches browsers and counts its users: it is not needed, and must not ask anybody.
export SE_OFFLINE=true SE_AVOID_STATS=true
# Nothing of the caller's service or proxies reaches what is tested.
unset STATE_DIRECTORY RUNTIME_DIRECTORY CREDENTIALS_DIRECTORY NOTIFY_SOCKET http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
