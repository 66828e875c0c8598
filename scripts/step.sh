# Sourced by the checks: `step NAME COMMAND...` runs a command and says on one line how it went. `later NAME COMMAND...` begins
# one beside those that follow, and `await NAME` says how it went.
# Else each of the hundreds of processes that tests start would compile the sources, and each of pytest's workers all tests.
unset PYTHONDONTWRITEBYTECODE
log="${TMPDIR:-/tmp}/boiler_beam_check.$$"
begun_later=""
trap 'kill $begun_later 2>/dev/null; rm -f "$log"*' EXIT

step() {
    name="$1"
    shift
    begun=$(date +%s)
    if "$@" >"$log" 2>&1; then
        summary=$(tail -n 1 "$log" | cut -c 1-100)
        printf '%-28s ok %4ss  %s\n' "$name" "$(($(date +%s) - begun))" "$summary"
    else
        cat "$log"
        printf '%-28s FAILED after %ss\n' "$name" "$(($(date +%s) - begun))"
        exit 1
    fi
}

later() {
    (log="$log.$1.output" && step "$@") >"$log.$1" 2>&1 &
    begun_later="$begun_later $!"
    eval "process_$1=$!"
}

await() {
    eval "process=\$process_$1"
    wait "$process" || failed="$1"
    cat "$log.$1"
    [ "${failed:-}" != "$1" ] || exit 1
}
