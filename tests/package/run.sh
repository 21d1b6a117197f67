#!/bin/bash
# The Debian package, installed, upgraded, removed and purged.
#
# Usage: tests/package/run.sh DEB [chroot|here]
#
#   chroot    in a small Debian that debootstrap makes in a temporary directory (debootstrap is taken from the archive where it is not installed)
#   here      on this machine, which must know nothing of bellpull
#
# Without a word: in a chroot, else, where none can be had, here. Needs root and dpkg, and says `skipped` without them. Leaves nothing behind, and takes
# a few minutes at most. The upgrade is to the same files under a higher revision with another /etc/bellpull/bridges.toml, so that dpkg has to choose.
set -euo pipefail

if [[ $# -lt 1 || ! -f $1 ]]; then
    echo "usage: tests/package/run.sh DEB [chroot|here]; systemd/package.sh makes one" >&2
    exit 64
fi
. "$(dirname "${BASH_SOURCE[0]}")/debian.sh"
deb=$(realpath "$1")
where=${2:-}
if ! command -v dpkg >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "skipped: dpkg is absent"
    exit 0
fi
if ((EUID != 0)); then
    echo "skipped: only root can install a package"
    exit 0
fi

step_limit_s=120 # of each dpkg

work=$(mktemp -d)
root=             # of the chroot; empty: this machine
cleanup() {
    # Of bellpull nothing was here before: all there is now is of this test.
    if [[ -e $work/ours ]]; then
        dpkg --purge bellpull >/dev/null 2>&1 || true
        rm -rf /etc/bellpull /var/lib/bellpull /var/lib/private/bellpull
    fi
    if [[ -z $root && -e $work/private ]]; then
        rmdir /var/lib/private || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT

# make_chroot: a Debian of this one's release in $work/root, without systemd and man.
make_chroot() {
    debian "$work/root" "$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")" || return 1
    # A systemd that is none, to see what it is told.
    mkdir -p "$work/root/run/systemd/system"
    cat >"$work/root/usr/bin/systemctl" <<'STUB'
#!/bin/sh
echo "$*" >>/run/systemctl.log
STUB
    chmod 755 "$work/root/usr/bin/systemctl"
    root=$work/root
}

known_here() { dpkg-query -W bellpull >/dev/null 2>&1 || command -v bellpull >/dev/null || [[ -e /etc/bellpull || -e /var/lib/bellpull || -e /var/lib/private/bellpull ]]; }

if [[ $where != here ]] && ! make_chroot; then
    if [[ $where == chroot ]]; then
        echo "skipped: no chroot can be had"
        exit 0
    fi
    echo "no chroot can be had; on this machine instead"
fi
if [[ -z $root ]]; then
    if known_here; then
        echo "skipped: this machine has a bellpull already, which this would remove"
        exit 0
    fi
    : >"$work/ours"
    echo "on this machine:"
else
    echo "in a chroot of $(cat "$root/etc/debian_version"):"
fi

failed=0
# check WHAT COMMAND...: a line for each thing that must hold.
check() {
    local what=$1
    shift
    if "$@" >"$work/out" 2>&1; then
        echo "  ok: $what"
    else
        echo "  FAILED: $what"
        sed 's/^/    /' "$work/out"
        failed=1
    fi
}
inside() { if [[ -n $root ]]; then chroot "$root" "$@"; else "$@"; fi; }
mode() { [[ $(stat -c '%a %U %G' "$root$1") == "$2" ]]; }
present() { local path; for path in "$@"; do [[ -e $root$path || -L $root$path ]] || { echo "$path is absent"; return 1; }; done; }
absent() { local path; for path in "$@"; do [[ ! -e $root$path && ! -L $root$path ]] || { echo "$path is there"; return 1; }; done; }
holds() { grep -qF -- "$2" "$root$1"; }
same() { cmp "$1" "$root$2"; }
version_is() { [[ $(inside dpkg-query -W -f '${Version} ${Status}' bellpull) == "$1 install ok installed" ]]; }
told() { [[ -z $root ]] || holds /run/systemctl.log "$1"; }
not_told() { [[ -z $root ]] || ! holds /run/systemctl.log "$1"; }
install_deb() {
    local name
    name=$(basename "$1")
    cp "$1" "$root/tmp/$name"
    timeout "$step_limit_s" bash -c "$(declare -f inside); root='$root'; DEBIAN_FRONTEND=noninteractive inside dpkg --force-confdef --force-confold -i '/tmp/$name'"
    rm -f "$root/tmp/$name"
}
script_ends_0() { inside timeout 10 "$@"; }
schema_is_its_own() { inside bellpull schema config | cmp - "$root/usr/share/bellpull/bridges.schema.json"; }
bash_completes() { inside bash --norc -c '. /usr/share/bash-completion/completions/bellpull && complete -p bellpull'; }
pages_are_whole() {
    local page
    for page in "$root"/usr/share/man/man1/bellpull*.1.gz; do gzip -t "$page"; done
    zcat "$root/usr/share/man/man1/bellpull.1.gz" | grep -q '^\.SH SYNOPSIS'
    if inside sh -c 'command -v man' >/dev/null; then inside man -w bellpull; fi
}
mine_is_there() {
    holds /etc/bellpull/bridges.toml '# an edit' && holds /etc/bellpull/conf.d/mine.toml '[endpoint.mine]' && holds /etc/bellpull/secrets/mine topsecret
}
state_is_there() { holds /var/lib/private/bellpull/db/conf 'a store' && present /var/lib/bellpull; }

later "$deb" "$work/second.deb" '# what a later version would add'
version=$(dpkg-deb -f "$deb" Version)

echo "install $version"
check "dpkg takes it" install_deb "$deb"
check "it is installed" version_is "$version"
check "the binary, 755 of root" mode /usr/bin/bellpull '755 root root'
check "the unit, 644" mode /usr/lib/systemd/system/bellpull.service '644 root root'
check "the socket, 644" mode /usr/lib/systemd/system/bellpull.socket '644 root root'
check "bridges.toml, 644" mode /etc/bellpull/bridges.toml '644 root root'
check "conf.d, 755" mode /etc/bellpull/conf.d '755 root root'
check "secrets, 700" mode /etc/bellpull/secrets '700 root root'
check "it is a conffile, and the only one" bash -c "[[ \$(dpkg-deb -I '$deb' conffiles) == /etc/bellpull/bridges.toml ]]"
check "bellpull runs" script_ends_0 bellpull --version
check "bellpull check takes the installed file, without a warning" bash -c "$(declare -f inside script_ends_0); root='$root'; [[ \$(cd / && script_ends_0 bellpull check 2>&1) == '/etc/bellpull/bridges.toml: ok, 0 bridges, 0 endpoints' ]]"
check "the manual" pages_are_whole
check "a page for a command" present /usr/share/man/man1/bellpull-endpoint-test.1.gz
check "completion for bash" bash_completes
check "completion for zsh and fish" present /usr/share/zsh/vendor-completions/_bellpull /usr/share/fish/vendor_completions.d/bellpull.fish
check "the schema that bridges.toml names" schema_is_its_own
check "documents" present /usr/share/doc/bellpull/copyright /usr/share/doc/bellpull/README.md /usr/share/doc/bellpull/docs/reference.md /usr/share/doc/bellpull/examples/bridges.toml
check "the files are those of the package" inside dpkg --verify bellpull
check "systemd reads its units again, and starts nothing" told "--system daemon-reload"
check "nothing is enabled or started" not_told "start"

echo "edit, and upgrade to $version+upgrade"
printf '# an edit\n' >>"$root/etc/bellpull/bridges.toml"
printf '[endpoint.mine]\nurl = "https://example.com/"\nsign.standard.secrets = [{ credential = "secrets_mine" }]\n' >"$root/etc/bellpull/conf.d/mine.toml"
printf 'topsecret\n' >"$root/etc/bellpull/secrets/mine"
chmod 0710 "$root/etc/bellpull/secrets"
# As DynamicUser= and StateDirectory= make it.
if [[ ! -e $root/var/lib/private ]]; then
    install -d -m 0700 "$root/var/lib/private"
    : >"$work/private"
fi
install -d -m 0700 "$root/var/lib/private/bellpull/db"
printf 'a store\n' >"$root/var/lib/private/bellpull/db/conf"
ln -s private/bellpull "$root/var/lib/bellpull"
check "dpkg takes it" install_deb "$work/second.deb"
check "it is the new one" version_is "$version+upgrade"
check "what was edited is kept" mine_is_there
check "the new bridges.toml lies beside it" holds /etc/bellpull/bridges.toml.dpkg-dist '# what a later version would add'
check "the admin's mode of secrets is kept" mode /etc/bellpull/secrets '710 root root'
check "the store is kept" state_is_there
check "bellpull check takes the edited file" script_ends_0 bellpull check
check "a daemon that runs is restarted" told "try-restart bellpull.service"
check "and is not stopped before" not_told "stop bellpull.service"

echo "remove"
check "dpkg removes it" inside timeout "$step_limit_s" dpkg --remove bellpull
check "the program is gone" absent /usr/bin/bellpull /usr/lib/systemd/system/bellpull.service /usr/lib/systemd/system/bellpull.socket /usr/lib/systemd/system/bellpull.service.d /usr/share/bellpull /usr/share/man/man1/bellpull.1.gz
check "the daemon is stopped" told "stop bellpull.service"
check "the configuration is kept" mine_is_there
check "the store is kept" state_is_there

echo "install again"
check "dpkg takes it" install_deb "$work/second.deb"
check "the configuration is the old one" mine_is_there
check "no mask is left of the removal" absent /etc/systemd/system/bellpull.service /etc/systemd/system/bellpull.socket

echo "purge"
check "dpkg purges it" inside timeout "$step_limit_s" dpkg --purge bellpull
check "the configuration and the secrets are gone" absent /etc/bellpull
check "the store is gone" absent /var/lib/bellpull /var/lib/private/bellpull
check "nothing of systemd's is left" absent /etc/systemd/system/bellpull.service /etc/systemd/system/bellpull.socket /etc/systemd/system/multi-user.target.wants/bellpull.service
check "dpkg knows nothing of it" bash -c "$(declare -f inside); root='$root'; ! inside dpkg-query -W bellpull"
check "no file of it is left" bash -c "! find '$root/usr' '$root/etc' '$root/var/lib' -xdev -name '*bellpull*' -not -path '$work/*' 2>/dev/null | grep -v -e /usr/src -e /usr/local | grep ."

if ((failed)); then
    echo "tests/package/run.sh: failed"
    exit 1
fi
echo "tests/package/run.sh: ok"
