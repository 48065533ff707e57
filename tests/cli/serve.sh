#!/usr/bin/env bash
# A process that keeps a pool open, and commands that run in it. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

mkdir -m 0700 runtime
export XDG_RUNTIME_DIR=$work/runtime
# A command's process has called the one that serves.
has_called() { # PID
	for _ in $(seq 200); do
		if find "/proc/$1/fd" -lname 'socket:*' 2>/dev/null | grep -q .; then return 0; fi
		sleep 0.05
	done
	return 1
}
# Nobody reads from the pipe any more; whoever holds it open for writing still does.
is_left() { # HOLDER
	for _ in $(seq 200); do
		find /proc/[0-9]*/fd -lname "$work/pipe" 2>/dev/null | grep -qv "^/proc/$1/" || return 0
		sleep 0.05
	done
	return 1
}
stop_all() { "$szpool" serve --stop "$work/store" 2>/dev/null; }
trap 'stop_all; cleanup' EXIT
# In the foreground of the background, so that its number is known; it returns once commands are served.
serve_here() { # OPTION…
	"$szpool" serve --foreground "$@" store 2>served &
	server=$!
	while ! env -u SZPOOL_PASSPHRASE_FILE "$szpool" ls store >/dev/null 2>&1; do
		kill -0 "$server" || return 1
		sleep 0.1
	done
}

head -c 30000000 /dev/urandom >big
mkdir -p tree/deep && printf one >tree/file && ln -s file tree/link && printf two >tree/deep/file

fails "stop, where nothing is" 1 "missing: no process serves it" run serve --stop missing
ok "create" create store
fails "stop, and nobody serves it" 1 "store: no process serves it" run serve --stop store
printf 'not the one\n' >wrong
fails "a wrong passphrase" 4 "wrong passphrase" run serve --passphrase-file wrong store
ok "serve" run serve store
fails "a second time" 5 "is open in another process" run serve store
passphrase=$SZPOOL_PASSPHRASE_FILE
unset SZPOOL_PASSPHRASE_FILE # is not needed any more
ok "put" run put store big tree /
prints "ls" $'big\ntree' run ls store
ok "cat" bash -c "'$szpool' cat store /big | cmp - big"
ok "get" run get store /tree copy
ok "is the same" diff -r --no-dereference tree copy
ok "stdin" bash -c "printf typed | '$szpool' put store - /typed"
prints "which is there" typed run cat store /typed
mkdir -p elsewhere && cd elsewhere || exit 1
prints "from another folder, a relative path of its own" typed run cat ../store /typed
ok "get to it" run get ../store /typed here
cd .. || exit 1
prints "arrives there" typed cat elsewhere/here
fails "an error" 1 "/missing: No such file" run cat store /missing
fails "a mistake in the command line" 2 "has no option --recursive" run cat -r store /x
prints "standard output that is closed early" big bash -c "'$szpool' ls store | head -n 1"
prints "JSON" ONLINE bash -c "'$szpool' status --json store | jq -r .state"
ok "seal" run seal store
ok "info" run info store
ok "df" run df store
ok "scrub" run scrub store
then_ok "finds nothing" grep -q "with 0 errors" out
ok "several at a time" bash -c "
	for i in 1 2 3 4; do '$szpool' put store big /big\$i & done
	for i in 1 2 3 4; do '$szpool' cat store /big >/dev/null & done
	for job in \$(jobs -p); do wait \$job || exit 1; done"
ok "all of them" bash -c "for i in 1 2 3 4; do '$szpool' cat store /big\$i | cmp - big || exit 1; done"

mkfifo pipe
sleep 30 >pipe &
holder=$!
"$szpool" put store - /never <pipe 2>err &
putter=$!
has_called $putter
kill -INT $putter
status=0
wait $putter || status=$?
kill $holder
ok "an interrupt ends the command, here and there" test $status = 130
fails "and leaves nothing" 1 "No such file" run cat store /never
sleep 30 >pipe &
holder=$!
"$szpool" put store - /never <pipe 2>/dev/null &
putter=$!
has_called $putter
kill -KILL $putter
wait $putter 2>/dev/null
ok "so does the caller's death" is_left $holder
kill $holder
fails "and leaves nothing, too" 1 "No such file" run cat store /never

printf 'many bees over the hill\n' >new
fails "a new passphrase for who does not know the old" 4 "wrong passphrase" \
	run passphrase --passphrase-file wrong --new-passphrase-file new store
ok "for who does" run passphrase --passphrase-file "$passphrase" --new-passphrase-file new store
if is_root; then
	chmod 0755 . store && chmod 0644 passphrase new
	fails "another user" 1 "Permission denied" run_as_nobody ls --passphrase-file new store
else
	skip "another user" "needs root"
fi

sleep 30 >pipe &
holder=$!
"$szpool" put store - /late <pipe 2>/dev/null &
putter=$!
has_called $putter
ok "stop waits until all is on disk" run serve --stop store
kill $holder
wait $putter 2>/dev/null
ok "nobody serves it then" bash -c "! '$szpool' serve --stop store 2>/dev/null"
ok "what was running has ended" bash -c "! '$szpool' cat --passphrase-file new store /late 2>/dev/null"
export SZPOOL_PASSPHRASE_FILE=$work/new
ok "all is there" bash -c "'$szpool' cat store /big3 | cmp - big"

ok "serve again" serve_here
ok "put" run put store big /last
kill -KILL "$server"
wait "$server" 2>/dev/null
ok "after its death a command runs by itself, and nothing is lost" bash -c "'$szpool' cat store /last | cmp - big"
within_seconds() { # COMMAND…: it succeeds soon
	local tries=100
	while ! "$@"; do
		[ $((tries -= 1)) -gt 0 ] || return 1
		sleep 0.1
	done
}

# What the intent log has is there for who reads too, and nothing is written for that.
mkdir many
for ((i = 0; i < 5000; i++)); do echo $i >many/$i; done
ok "a pool that syncs always" create -o sync=always synced
ok "is served" run serve --seal-interval off synced
pid=$(pgrep -nf "serve --seal-interval off synced")
"$szpool" put synced many / 2>/dev/null &
putter=$!
arrived() { env -u SZPOOL_PASSPHRASE_FILE "$szpool" ls -R synced / >arrived && [ "$(wc -l <arrived)" -gt 200 ]; }
ok "some of it arrives" within_seconds arrived
# What is listed may be on its way to the log still. One after the other comes, so it is there when more has come.
more_arrived() {
	env -u SZPOOL_PASSPHRASE_FILE "$szpool" ls -R synced / >later && [ "$(wc -l <later)" -gt "$(wc -l <arrived)" ]
}
ok "and more" within_seconds more_arrived
kill -KILL "$pid"
wait $putter 2>/dev/null
while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
contents() { find synced -type f -printf '%P %s %T@ %i\n' | sort; }
contents >before
ok "what had arrived is read from the log" run get synced /many from-log
then_ok "all of it" bash -c 'sed 1,/many:/d arrived | (cd from-log && xargs ls)'
are_right() {
	local file content
	for file in from-log/*; do
		read -r content <"$file" && [ "$content" = "${file##*/}" ] || return 1
	done
}
then_ok "right" are_right
contents >after
ok "and nothing is written" cmp before after
ok "then it is written to" run rm -r synced /many
prints "and lists nothing" "" run ls synced
ok "serve in its socket's place" run serve store
ok "stop" run serve --stop store
ok "scrub" run scrub store
then_ok "finds nothing" grep -q "with 0 errors" out

# Generations end while the pool is open.
fails "an interval that is none" 2 "--seal-interval '5': has to be a time" run serve --seal-interval 5 store
fails "one that is too long" 2 "at most 7d" run serve --seal-interval 8d store
fails "get has none" 2 "has no option --seal-interval" run get --seal-interval 5s store /big .
generation() { run info --json store | jq .generation; }
is_after() { [ "$(generation)" -gt "$1" ]; }
reports() { run status --json store | jq -e "$1" >/dev/null; }
# Also while a command has it open that takes long.
before=$(generation)
ok "put of what comes slowly" bash -c "(cat big; sleep 5) | '$szpool' put --seal-interval 1s store - /slow"
# One at the end, without the clock.
ok "is sealed meanwhile" test "$(generation)" -gt $((before + 1))
ok "serve" serve_here --seal-interval 1s
fails "it is said when it is opened" 1 "how often it is sealed is said when it is opened" run put --seal-interval 5s store big /
before=$(generation)
ok "put" run put store big /sealed
ok "it is sealed" within_seconds is_after "$before"
# ZFS settles first: it frees and trims what the put has replaced some transaction groups later.
is_idle() {
	before=$(generation)
	sleep 4
	[ "$(generation)" = "$before" ]
}
ok "nothing is written, nothing sealed" within_seconds is_idle
ok "status" run status --json store
then_ok "has the interval" jq -e '.sealing.interval_s == 1 and .sealing.problem == ""' out
# A lock record that is gone is another process's, for all that the server knows.
lock=$(find store -maxdepth 1 -type f -size -2 -printf '%f\n')
mv "store/$lock" lock
ok "put while no seal may be" run put store big /unsealed
ok "status tells that sealing fails" within_seconds reports '.sealing.problem | test("another process has taken the store over")'
fails "not all is well then" 6 "not all is well" bash -c "'$szpool' status --check store >/dev/null"
ok "it is told once" test "$(grep -c 'taken the store over.*tried again' served)" = 1
mv lock "store/$lock"
ok "once it can be, it is sealed" within_seconds is_after "$before"
ok "and status says so" within_seconds reports '.sealing.problem == ""'
kill -TERM "$server"
status=0
wait "$server" || status=$?
ok "a terminated server ends in good order" test $status = 0
# Callers that do not read: as many as there may be, and one that waits for its turn.
ok "serve" serve_here
mkfifo unread
exec 4<>unread # a reader that does not read
"$szpool" cat store /big >unread 2>/dev/null &
stuck=($!)
has_called "${stuck[0]}"
for i in $(seq 65); do
	"$szpool" cat store /typed >unread 2>/dev/null &
	stuck+=($!)
done
for i in "${stuck[@]}"; do has_called "$i"; done
sleep 1
kill -TERM "$server"
timeout 60 tail --pid="$server" -f /dev/null || kill -KILL "$server"
status=0
wait "$server" || status=$?
ok "a terminated server ends, though nobody reads what commands write" test $status = 0
exec 4<&-
wait "${stuck[@]}" 2>/dev/null
ok "serve that never seals" run serve --seal-interval off store
ok "status" run status --json store
then_ok "says so" jq -e '.sealing.interval_s == 0' out
ok "stop" run serve --stop store
# Two homes that name the same devices' folders: one at a time, whoever reads or writes.
mkdir far
ok "create with folders elsewhere" create --devices 3 --raid raidz1 --device-dir far/1 --device-dir far/2 --device-dir far/3 home
cp -a home twin
twin_does() { run "$1" --device-dir far/1 --device-dir far/2 --device-dir far/3 twin "$2"; }
ok "serve" run serve home
find far twin -type f -exec sha256sum {} + | sort >before
fails "another home does not write to its devices" 5 "far/1, a device's folder, is in use by another process" twin_does mkdir /x
fails "nor read them" 5 "is in use by another process" twin_does ls /
find far twin -type f -exec sha256sum {} + | sort >after
ok "nothing changed" cmp before after
ok "stop" run serve --stop home
ok "then it does" twin_does mkdir /x
done_testing
