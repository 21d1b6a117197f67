#!/bin/bash
# Fuzzes what bellpull reads from servers, files, browsers and its own store, with cargo-fuzz (libFuzzer, address sanitizer).
#
# Usage: tests/fuzz/run.sh [TARGET...]
#
# Each target runs FUZZ_RUNS inputs (1000000), for FUZZ_SECONDS (1200) at most, from the seeds that are committed and from what earlier
# runs found. Everything it writes is below target/: the build, the corpus, and an input for each finding. It needs Rust's nightly
# toolchain, and installs cargo-fuzz if that is absent; without nightly it says `skipped`. It exits 1 when a target found something.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
runs=${FUZZ_RUNS:-1000000}
seconds=${FUZZ_SECONDS:-1200}
# A body longer than this finds nothing that a shorter one does not; a short one is quick.
declare -A length=([xml]=2048 [csv]=1024 [feed]=2048 [html]=512 [sse]=512 [json]=1024 [charset]=512 [link]=512 [retry_after]=128
    [program]=512 [file]=2048 [redact]=512 [request]=2048 [signature]=256 [rows]=1024)

if ! command -v rustup >/dev/null || ! rustup toolchain list | grep -q '^nightly'; then
    echo "skipped: there is no nightly toolchain (rustup toolchain install nightly)"
    exit 0
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    cargo install cargo-fuzz --locked
fi
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
build=$root/target/fuzz
targets=("$@")
if [[ ${#targets[@]} -eq 0 ]]; then
    targets=(xml csv feed html sse json charset link retry_after program file redact request signature rows)
fi
found=0
for target in "${targets[@]}"; do
    if [[ -z ${length[$target]:-} ]]; then
        echo "there is no target '$target': ${!length[*]}" >&2
        exit 2
    fi
done
if [[ " ${targets[*]} " == *" program "* && -z ${BELLPULL_BINARY:-} ]]; then
    # Programs run in processes of the real program.
    cargo build --release --manifest-path "$root/Cargo.toml"
    export BELLPULL_BINARY=$root/target/release/bellpull
fi
cargo +nightly fuzz build --fuzz-dir "$here" --target-dir "$build" --target "$host"
for target in "${targets[@]}"; do
    corpus=$root/target/fuzz-corpus/$target
    findings=$root/target/fuzz-findings/$target
    log=$root/target/fuzz-$target.log
    mkdir -p "$corpus" "$findings"
    command=("$build/$host/release/$target" "$corpus" "$here/seeds/$target" "-runs=$runs" "-max_len=${length[$target]}"
        -timeout=10 -rss_limit_mb=2048 "-max_total_time=$seconds" "-artifact_prefix=$findings/" -print_final_stats=1)
    if [[ -f $here/dictionaries/$target.dict ]]; then
        command+=("-dict=$here/dictionaries/$target.dict")
    fi
    started=$(date +%s)
    status=0
    "${command[@]}" >"$log" 2>&1 || status=$?
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "$target"
    echo "  command     ${command[*]}"
    echo "  executions  ${executions:-unknown, see $log} in $(($(date +%s) - started)) s"
    echo "  corpus      $(find "$corpus" -type f | wc -l) inputs, and $(find "$here/seeds/$target" -type f | wc -l) seeds"
    if [[ $status -eq 0 ]]; then
        echo "  findings    none"
    else
        found=1
        echo "  findings    exit $status: $(find "$findings" -type f -newermt "@$started" | sort | tr '\n' ' '); see $log"
    fi
done
exit "$found"
