#!/bin/bash
# bellpull on a disk that fails, a machine that stops and a clock that is wrong: one row of the table in README.md here is one command.
#
# Usage: tests/faults/run.sh BINARY ROW [--count N] [--seed S] [--old PATH] [--to DIR] [--scale X]
#
#   ROW       errors failed-sync power kill full big-open conf clock memory stall rename planted walks quick, or old
#   --count   points, cycles, kills or polls, where the row has them; README.md here says how many each has by itself
#   --seed    of all choices that the row makes; it is printed, so that a run can be done again
#   --old     for kill: the program of the format before, or a directory that `old` made: its stores are converted
#   --to      for old: where the store that BINARY makes is put, with its books
#   --scale   sizes times X, for a try
#
# Prints each failure with what it took, then lost, doubled and not started, and in its last line `N passed, N failed`. It exits 1 when a point
# fails. Needs cc and Python 3.11; nothing is installed, traffic stays on 127.0.0.1. `full` and the cgroup of `memory` need root and are skipped
# without it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if (($# < 2)) || [[ ! -x $1 ]]; then
    sed -n 's/^# \{0,1\}//; 3,15p' "${BASH_SOURCE[0]}" >&2
    exit 64
fi
binary=$(realpath "$1")
row=$2
shift 2
# Of the row itself drive.py sees to the time; this is for what it does not end by itself.
limit_s=10800

work=$(mktemp -d "${TMPDIR:-/tmp}/bellpull-faults.XXXXXX")
. "$here/../within.sh"
finish() {
    end_group
    local mounted
    for mounted in "$work"/*/state; do
        if mountpoint --quiet "$mounted" 2>/dev/null; then
            umount --lazy "$mounted" || true
        fi
    done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if ! command -v cc >/dev/null; then
    echo "cc is absent: it builds what is preloaded" >&2
    exit 1
fi
cc -Wall -Wextra -Werror -shared -fPIC -O2 -o "$work/shim.so" "$here/shim.c" -ldl -pthread
cc -Wall -Wextra -Werror -shared -fPIC -O2 -o "$work/clock.so" "$here/clock.c"

export PYTHONDONTWRITEBYTECODE=1
unset STATE_DIRECTORY RUNTIME_DIRECTORY CREDENTIALS_DIRECTORY NOTIFY_SOCKET http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
within python3 "$here/drive.py" "$row" --binary "$binary" --work "$work" "$@"
