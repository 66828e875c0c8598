# Sourced by the checks: `step NAME COMMAND...` runs a command and says on one line how it went.
# Else each of the hundreds of processes that tests start would compile the sources, and each of pytest's workers all tests.
unset PYTHONDONTWRITEBYTECODE
log="${TMPDIR:-/tmp}/boiler_beam_check.$$"
trap 'rm -f "$log"' EXIT

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
