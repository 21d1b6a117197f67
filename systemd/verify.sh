#!/bin/bash
# Checks bellpull.service and bellpull.socket with this machine's systemd-analyze, as it is and with the Debian 12 drop-in.
#
# Needs no running systemd and no installed bellpull: the units are copied to a temporary directory, and a dummy stands in
# for /usr/bin/bellpull where that is absent. Exits 1 on any warning that is not in the list below, and when the exposure is over 1.3.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if ! command -v systemd-analyze >/dev/null; then
    echo "skipped: systemd-analyze is absent"
    exit 0
fi

exposure_tenths_max=13 # 1.3; systemd-analyze takes and prints tenths
version=$(systemd-analyze --version | awk 'NR == 1 { print $2 }')
version=${version%%[!0-9]*}

# What an older systemd may say about settings that are newer than it. Nothing else is tolerated.
tolerated=()
if ((version < 253)); then
    tolerated+=('Failed to parse service type, ignoring: notify-reload')
fi
if ((version < 254)); then
    tolerated+=("Unknown key 'RestartSteps' in section [Service], ignoring."
        "Unknown key 'RestartMaxDelaySec' in section [Service], ignoring.")
fi
if ((version < 260)); then
    tolerated+=("Unknown key 'RefreshOnReload' in section [Service], ignoring.")
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# verify_in DIR [DROP-IN]: one unit directory, one run of verify and one of security.
verify_in() {
    local dir=$1 drop_in=${2:-} unit=$1/bellpull.service status=0
    mkdir -p "$dir"
    cp "$here/bellpull.service" "$unit"
    if [[ -n $drop_in ]]; then
        mkdir "$unit.d"
        cp "$here/$drop_in" "$unit.d/"
    fi
    if [[ ! -x /usr/bin/bellpull ]]; then
        printf '#!/bin/sh\n' >"$dir/bellpull"
        chmod 755 "$dir/bellpull"
        sed -i "s#/usr/bin/bellpull#$dir/bellpull#" "$unit"
    fi

    cp "$here/bellpull.socket" "$dir/"
    systemd-analyze verify --man=no "$unit" "$dir/bellpull.socket" >"$dir/verify.out" 2>&1 || status=$?
    # Lines read "FILE:LINE: message"; only the message is compared, and only as a whole.
    local line message known tolerated_count=0
    while IFS= read -r line; do
        message=$(sed -E 's#^[^ ]+:[0-9]+: ##' <<<"$line")
        for known in "${tolerated[@]}"; do
            if [[ $message == "$known" ]]; then
                tolerated_count=$((tolerated_count + 1))
                continue 2
            fi
        done
        echo "  FAILED: $line"
        failed=1
    done <"$dir/verify.out"
    if ((status != 0)); then
        echo "  FAILED: systemd-analyze verify ended with $status"
        failed=1
    fi

    status=0
    systemd-analyze security --no-pager --offline=true "--threshold=$exposure_tenths_max" "$unit" >"$dir/security.out" 2>&1 || status=$?
    local overall
    overall=$(grep -o 'Overall exposure level.*' "$dir/security.out" || true)
    if ((status != 0)) || [[ -z $overall ]]; then
        cat "$dir/security.out"
        echo "  FAILED: systemd-analyze security ended with $status"
        failed=1
    fi
    echo "  verify: $tolerated_count tolerated warnings; security: ${overall:-no result}"
}

echo "bellpull.service under systemd-analyze $version:"
verify_in "$work/plain"
echo "with debian-12.conf:"
verify_in "$work/debian-12" debian-12.conf

if ((failed)); then
    echo "systemd/verify.sh: failed"
    exit 1
fi
echo "systemd/verify.sh: ok"
