#!/bin/bash
# The first day of an admin, by docs/operating.md alone: the package installed in a Debian that systemd boots, a bridge added, a reload, the page in a browser, an
# endpoint broken and mended, an upgrade, a backup restored. walk.py has the steps; each command of theirs stands in a code block of the documents.
#
# Usage: tests/package/walk.sh DEB [SUITE...]
#
# Without a suite it takes bookworm and trixie. debootstrap makes each in a temporary directory (or once in $WALK_CACHE), and its systemd runs as process 1
# of namespaces of its own: nothing of this machine's systemd, processes, mounts or network is touched. In that network api.github.com is an address on
# the loopback interface, where walk.py answers. A browser comes as for tests/browser. Needs root and dpkg; says `skipped` without them, or where namespaces,
# a Debian or a browser cannot be had. Ends with 1 when a check fails, or after fifteen minutes. The screenshots stay in a directory that it names.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
limit_s=900

if [[ $# -lt 1 || ! -f $1 ]]; then
    echo "usage: tests/package/walk.sh DEB [SUITE...]; systemd/package.sh makes one" >&2
    exit 64
fi
deb=$(realpath "$1")
suites=("${@:2}")
if ((${#suites[@]} == 0)); then
    suites=(bookworm trixie)
fi

work=$(mktemp -d /tmp/bellpull-walk.XXXXXX)
shots=${BROWSER_SHOTS:-$(mktemp -d /tmp/bellpull-screenshots.XXXXXX)}
mkdir -p "$shots"
finish() {
    if declare -F end_group >/dev/null; then
        end_group
    fi
    # What ran in the machine's control groups is killed with it; the groups themselves stay until they are removed.
    if [[ -d $work/cgroup/bellpull-walk ]]; then
        find "$work/cgroup/bellpull-walk" -depth -type d -exec rmdir {} + 2>/dev/null || true
    fi
    umount "$work/cgroup" 2>/dev/null || true
    rm -rf --one-file-system "$work"
    rmdir "$shots" 2>/dev/null || true
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

. "$here/../browser/packages.sh"
. "$here/debian.sh"
((EUID == 0)) || skip "only root can boot a machine"
command -v dpkg-deb >/dev/null || skip "dpkg is absent"
command -v ip >/dev/null || skip "ip is absent: apt install iproute2"
mkdir "$work/cgroup"
mount -t cgroup2 none "$work/cgroup" 2>"$work/mount.log" && unshare --net --pid --mount --cgroup --uts --ipc --fork true 2>>"$work/mount.log" ||
    skip "namespaces cannot be had: $(head -n 1 "$work/mount.log")"

# The names of the vendor that docs/operating.md polls, for a machine that trusts walk.py.
mkdir "$work/tls"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=walk.sh" -keyout "$work/tls/ca.key" -out "$work/tls/ca.pem" 2>/dev/null
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=api.github.com" -keyout "$work/tls/key.pem" -out "$work/tls/request.pem" 2>/dev/null
openssl x509 -req -days 2 -in "$work/tls/request.pem" -CA "$work/tls/ca.pem" -CAkey "$work/tls/ca.key" -CAcreateserial -out "$work/tls/cert.pem" \
    -extfile <(printf 'subjectAltName=DNS:api.github.com\nbasicConstraints=CA:FALSE\n') 2>/dev/null

# as_on SUITE DEB OUT: the package as systemd/package.sh makes it there. Only Debian 12 needs the drop-in.
as_on() {
    if [[ $1 == bookworm || $(dpkg-deb -c "$2") != *debian-12.conf* ]]; then
        cp "$2" "$3"
        return
    fi
    dpkg-deb -R "$2" "$work/as-on"
    rm -r "$work/as-on/usr/lib/systemd/system/bellpull.service.d"
    rm -f "$work/as-on/DEBIAN/md5sums" # `later` and dpkg make do without
    dpkg-deb --root-owner-group -Z gzip -z 1 -b "$work/as-on" "$3" >/dev/null
    rm -r "$work/as-on"
}

failed=0
for suite in "${suites[@]}"; do
    base=${WALK_CACHE:-$work}/base-$suite
    if [[ ! -e $base/installed ]]; then
        rm -rf --one-file-system "$base"
        mkdir -p "$base"
        echo "making a Debian: $suite"
        debian "$base/root" "$suite" systemd systemd-sysv dbus ca-certificates procps || skip "no Debian can be had: $suite"
        : >"$base/installed"
    fi
    root=$work/root
    rm -rf --one-file-system "$root"
    cp -a "$base/root" "$root"
    as_on "$suite" "$deb" "$work/first.deb"
    later "$work/first.deb" "$work/second.deb"
    cp "$work/tls/ca.pem" "$root/usr/local/share/ca-certificates/walk.crt"
    chroot "$root" update-ca-certificates >/dev/null 2>&1
    printf '127.0.0.1 localhost\n140.82.121.6 api.github.com\n' >"$root/etc/hosts"
    mkdir "$root/root/systemd"
    cp "$here/../../systemd"/{verify.sh,bellpull.service,bellpull.socket,debian-12.conf} "$root/root/systemd/"

    echo "systemd/verify.sh in $suite:"
    chroot "$root" bash /root/systemd/verify.sh || failed=1
    rm -rf "$work/files"
    mkdir -p "$work/files" "$work/cgroup/bellpull-walk"
    # The group that namespaces begin in is the machine's own: its systemd sees no other.
    within bash -c 'echo $$ >"$1/cgroup.procs" && exec unshare --net --cgroup --mount "${@:2}"' bash "$work/cgroup/bellpull-walk" \
        python3 "$here/walk.py" /usr/bin/bellpull "$chromium" "$driver" none "$work/files" "$shots" "$suite" "$root" "$work/tls" "$work/first.deb" "$work/second.deb" || failed=1
done
echo "screenshots: $shots"
if ((failed)); then
    echo "tests/package/walk.sh: failed"
    exit 1
fi
echo "tests/package/walk.sh: ok, $SECONDS s"
