# A limit for all that a script runs: sourced by those that have set $limit_s and $work.
#
# What `within` starts leads a process group (that is what timeout does), and all that it starts in turn is in it: `end_group`.
group=
end_group() {
    if [[ -n $group ]]; then
        kill -TERM -- "-$group" 2>/dev/null || true
        wait "$group" 2>/dev/null || true
        kill -KILL -- "-$group" 2>/dev/null || true
    fi
}

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
