# A Debian in a directory, and a later version of a package: sourced by the tests here, which have set $work, a temporary directory.

bootstrap_limit_s=400 # of debootstrap; a minute is measured with a near mirror
download_limit_s=120  # of debootstrap's own package

# debian DIRECTORY SUITE [PACKAGE...]: fails, and says why, where none can be had. debootstrap is taken from the archive where it is not installed.
debian() {
    local directory=$1 suite=$2 bootstrap mirror
    local packages=("${@:3}")
    bootstrap=$(command -v debootstrap || true)
    if [[ -z $bootstrap ]]; then
        mkdir -p "$work/apt"
        (cd "$work/apt" && timeout "$download_limit_s" apt-get -q -o "APT::Sandbox::User=$(id -un)" download debootstrap) >"$work/apt.log" 2>&1 || {
            tail -n 3 "$work/apt.log"
            return 1
        }
        dpkg -x "$work"/apt/debootstrap_*.deb "$work/debootstrap"
        export DEBOOTSTRAP_DIR=$work/debootstrap/usr/share/debootstrap
        bootstrap=$work/debootstrap/usr/sbin/debootstrap
    fi
    # Where apt has its packages from, so that a machine behind a mirror uses that.
    mirror=$(apt-cache policy base-files | awk '$2 ~ /^https?:/ && $3 ~ "/main$" && $2 !~ /security/ { print $2; exit }')
    timeout "$bootstrap_limit_s" "$bootstrap" --variant=minbase ${packages:+"--include=$(IFS=,; echo "${packages[*]}")"} "$suite" "$directory" \
        ${mirror:+"$mirror"} >"$work/bootstrap.log" 2>&1 || {
        tail -n 3 "$work/bootstrap.log"
        return 1
    }
}

# later DEB OUT [LINE]: the same files under a higher version, with a line more in /etc/bellpull/bridges.toml.
later() {
    local files=$work/later
    rm -rf "$files"
    dpkg-deb -R "$1" "$files"
    sed -i "s/^Version: .*/Version: $(dpkg-deb -f "$1" Version)+upgrade/" "$files/DEBIAN/control"
    if [[ -n ${3:-} ]]; then
        printf '%s\n' "$3" >>"$files/etc/bellpull/bridges.toml"
    fi
    (cd "$files" && find usr etc -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    dpkg-deb --root-owner-group -Z gzip -z 1 -b "$files" "$2" >/dev/null
    rm -rf "$files"
}
