#!/usr/bin/env bash
# Runs the Spin model checker on the two models of the ring, and on those of sockets that come back and of clients by address: the small configurations, which must hold, and the planted
# mistakes that small configurations find. `run.sh soak` (or PEAL_SOAK=1) runs the large ones instead: minutes and gigabytes.
# The tables in the heads of the models say what is what.
#
# @test soak-too timeout=900
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
soak=no
[[ ${1:-} == soak || -n ${PEAL_SOAK:-} ]] && soak=yes
for tool in spin gcc; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
n_cases=0 running=0
jobs_max=$(nproc)
[[ $soak == yes ]] && jobs_max=1 # gigabytes each

# verify CASE holds|fails MODEL DEPTH FLAGS...: one case, one line. Whatever is neither an error found nor a whole search without
# one (no memory, a search cut at its depth) is a failure of the case.
verify()
{
    local folder=$work/$1 expected=$2 model=$3 depth=$4 log=$work/$1/log got=unknown states
    local build='-O2 -DCOLLAPSE' search=
    shift 4
    # an error is found before a better compiler pays, and is one though not all states were kept apart
    [[ $expected == fails && $soak == no ]] && build='-O0 -DBITSTATE' search=-w27
    (cd "$folder" && spin "$@" -a "$here/$model.pml" && gcc $build -w -DSAFETY -o pan pan.c &&
        ./pan -m"$depth" $search) >"$log" 2>&1
    if grep -q 'errors: 0' "$log"; then
        grep -qE 'max search depth too small|out of memory|not complete' "$log" || got=holds
    elif grep -qE 'errors: [1-9]' "$log"; then
        got=fails
    fi
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$log" | head -n 1)
    if [[ $got == "$expected" ]]; then
        printf 'ok    %-5s %-6s %10s states  %s\n' "$model" "$got" "$states" "$*"
    else
        printf 'FAIL  %-5s %-6s %10s states  %s: it must be one that %s\n' "$model" "$got" "$states" "$*" "$expected"
        tail -n 40 "$log"
    fi
}

# Cases run beside each other; what they say is printed in their order.
begin()
{
    if ((running >= jobs_max)); then wait -n; running=$((running - 1)); fi
    mkdir "$work/$n_cases"
    verify "$n_cases" "$@" >"$work/$n_cases.out" &
    running=$((running + 1)) n_cases=$((n_cases + 1))
}

holds() { begin holds "$@"; }
fails() { begin fails "$@"; }

deep=1000000
small=(-DR0=1 -DR1=1)
tiny=(-DR0=1 -DR1=1 -DCAP=1 -DQUARTER=0)

if [[ $soak == no ]]; then
    holds ring $deep
    for mistake in FIRST_DEAD_WINS COMMIT_READ_FIRST KEEP_INTENT_WHEN_FULL PLAIN_COMMIT_FLAG; do
        fails ring $deep -D$mistake
    done
    holds bell $deep "${small[@]}"
    holds bell $deep "${tiny[@]}"
    for mistake in BELL_ONLY_TARGETS NO_TARGET_BELL NO_REREAD NO_BELL_AFTER_REAP NO_BELL_AFTER_VOID \
        MASK_AT_PUBLISH DIRECTORY_BEFORE_COMMIT PARKED_BEFORE_COMMIT; do
        fails bell $deep "${small[@]}" -D$mistake
    done
    for mistake in NO_LAGGARD_BELL CURSOR_AFTER_SLEEP FULL_SLEEPS; do
        fails bell $deep "${tiny[@]}" -D$mistake
    done
    fails bell $deep -DR0=2 -DR1=1 -DCAP=1 -DQUARTER=0 -DWAIT_BEFORE_BELL
    fails bell $deep -DALL_AWAKE
    holds claim $deep
    for mistake in CLAIM_BY_STORE ARENA_AFTER_CLAIM ONE_COPY FORGET_CLAIMED; do
        fails claim $deep -D$mistake
    done
    holds ips $deep
    for mistake in LOOK_FIRST NO_FENCE CLAIMS_DO_NOT_COUNT CLAIM_STAYS REFUSE_ON_CLAIMS NOT_CLEARED; do
        fails ips $deep -D$mistake
    done
else
    holds ring $deep -DP=3 -DRECORDS=1
    holds ips $deep -DASKS=3 -DLIMIT=2
    holds ips $deep -DWORKERS=3 -DASKS=1 -DLIMIT=2
    holds bell $deep
    holds bell $deep -DR0=3 -DR1=2 -DCAP=4 -DUNTARGETED
    holds bell $deep -DCAP=3 -DQUARTER=2
    holds bell $deep -DDIRECTORY_AFTER_RESERVATION
    holds bell $deep -DAS_WRITTEN
    holds bell $deep -DAS_WRITTEN -DALL_AWAKE
    holds bell $deep -DAS_WRITTEN -DALL_AWAKE -DNO_TARGET_BELL -DNO_LAGGARD_BELL
    for mistake in BELL_ONLY_TARGETS NO_LAGGARD_BELL TAIL_PARK_STANDS WAIT_BEFORE_BELL; do
        fails bell $deep -D$mistake
    done
    fails bell $deep -DQUARTER=2
    fails bell $deep "${small[@]}" -DTAIL_PARK_STANDS
    fails claim $deep -DSEQ_FIRST
fi
wait
for ((i = 0; i < n_cases; i++)); do cat "$work/$i.out"; done | tee "$work/all"
passed=$(grep -c '^ok ' "$work/all") failed=$((n_cases - passed))
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
