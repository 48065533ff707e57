#!/usr/bin/env bash
# Snapshots: taking, listing, reading, destroying, going back; in a process of their own, and in one that
# serves. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

mkdir -m 0700 runtime
export XDG_RUNTIME_DIR=$work/runtime
trap '"$szpool" serve --stop "$work/store" 2>/dev/null; cleanup' EXIT
put_text() { printf '%s' "$1" | "$szpool" put store - "$2"; }
names() { run snapshots --json store | jq -r '.[].name' | paste -sd ' '; }

round() { # HOW
	head -c 3000000 /dev/urandom >big
	ok "$1: put" put_text one /file
	ok "put" run put store big /big
	ok "snapshot" run snapshot store first
	fails "a second of that name" 1 "there is a snapshot szpool@first already" run snapshot store first
	fails "a name that is none" 1 "cannot be a snapshot's name" run snapshot store a/b
	ok "what is there changes" bash -c "printf two | '$szpool' put store - /file && '$szpool' rm store /big"
	ok "a second snapshot" run snapshot store second
	ok "and again" put_text three /file
	prints "they are listed, oldest first" "first second" names
	ok "with sizes and times" run snapshots store
	then_ok "which are those" grep -qE '^20.* +[0-9.]+M +[0-9.]+M +first' out
	prints "cat of the first" one run cat --snapshot first store /file
	prints "of the second" two run cat --snapshot second store /file
	prints "of what is there" three run cat store /file
	prints "ls" $'big\nfile' run ls --snapshot first store /
	ok "get" run get --snapshot first store /big got
	then_ok "it is the same" cmp got big
	rm got
	fails "of none" 1 "there is no snapshot 'third'" run cat --snapshot third store /file
	fails "destroying without consent" 1 "takes --yes" run destroy-snapshot store second </dev/null
	fails "rollback, and there are newer ones" 1 "--destroy-newer destroys them" run rollback --yes store first
	fails "to none" 1 "there is no snapshot 'third'" run rollback --yes store third
	fails "without consent" 1 "takes --yes" run rollback --destroy-newer store first </dev/null
	prints "nothing was lost" three run cat store /file
	ok "rollback to the newest" run rollback --yes store second
	prints "it is as it was" two run cat store /file
	ok "it can be written to" put_text four /file
	ok "rollback to an older one" run rollback --yes --destroy-newer store first
	ok "it is as it was" bash -c "'$szpool' cat store /big | cmp - big"
	prints "the newer one is gone" first names
	ok "destroy" run destroy-snapshot --yes store first
	prints "none is left" "" names
	fails "once more" 1 "there is no snapshot 'first'" run destroy-snapshot --yes store first
}

ok "create" create store
round "alone"
ok "serve" run serve store
round "served"
mkfifo pipe
ok "snapshot" run snapshot store kept
sleep 60 >pipe &
holder=$!
"$szpool" put store - /late <pipe 2>/dev/null &
putter=$!
ok "no rollback while another command runs" timeout 30 bash -c "
	until ! '$szpool' rollback --yes store kept 2>err && grep -q 'used by other commands' err; do sleep 0.2; done"
kill $holder
wait $putter
ok "afterwards" run rollback --yes store kept
fails "all is as it was" 1 "No such file" run cat store /late
ok "stop" run serve --stop store
ok "scrub" run scrub store
then_ok "finds nothing" grep -q "with 0 errors" out
prints "it is there still" kept names
done_testing
