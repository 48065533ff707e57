#!/usr/bin/env bash
# Commands that are interrupted: the pool is closed in good order, no part of a file has a name,
# nothing older is lost; also after kill -9. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

# Until a condition holds, at most 30 s.
wait_for() {
	for _ in $(seq 1500); do
		"$@" && return 0
		sleep 0.02
	done
	return 1
}
used() { run df --json store | jq .used_bytes; }

# Starts the program in the background, with the signals that a shell takes from background jobs.
start() { # ARGUMENT…
	env --default-signal=INT,QUIT timeout --foreground -k 10 60 "$szpool" "$@" <&0 >out 2>err &
	job=$!
}
program() { pgrep -P "$job" >pid; }
send() { # SIGNAL
	program && kill "-$1" "$(cat pid)"
}
ends_with() { # STATUS
	local got=0
	wait "$job" || got=$?
	[ $got = "$1" ] || {
		echo "status $got"
		return 1
	}
}
fed() { # the pipe's writer is done with its first part
	[ -e fed ]
}

head -c 300000000 /dev/urandom >big
printf 'older\n' >older
ok "create" create store
ok "put" run put store older big /
before=$(used)

# A source whose end never comes: the command waits for input when the signal does.
for signal in INT:130 TERM:143 HUP:129; do
	rm -f pipe fed && mkfifo pipe
	{ head -c 20000000 big && touch fed && sleep 60; } >pipe &
	feeder=$!
	start put store - /piped <pipe
	wait_for fed
	ok "put, interrupted by ${signal%:*}" send "${signal%:*}"
	ok "exit code ${signal#*:}" ends_with "${signal#*:}"
	then_ok "it says what that means" grep -q 'what is complete stays in the pool' err
	pkill -P $feeder
	kill $feeder 2>/dev/null
	wait $feeder 2>/dev/null
	fails "the part has no name" 1 "/piped: No such file" run ls store /piped
done
ok "nothing that was there is lost" bash -c "'$szpool' cat store /big | cmp - big && '$szpool' cat store /older | cmp - older"
ok "the pool is in order" run status --check store
ok "the space of the parts is free" bash -c "'$szpool' mkdir store /x && '$szpool' rm store /x &&
	[ \$('$szpool' df --json store | jq .used_bytes) -lt $((before + 4000000)) ]"

printf 'newer\n' >newer && mkdir over && cp older over/older
rm -f pipe fed && mkfifo pipe
{ head -c 20000000 big && touch fed && sleep 60; } >pipe &
feeder=$!
start put store - /older <pipe
wait_for fed
send KILL
wait "$job" 2>/dev/null
pkill -P $feeder
kill $feeder 2>/dev/null
ok "put over a file, killed: the old file is there" bash -c "'$szpool' cat store /older | cmp - older"
ok "the space of the part is free after the next change" bash -c "'$szpool' mkdir store /x && '$szpool' rm store /x &&
	[ \$('$szpool' df --json store | jq .used_bytes) -lt $((before + 4000000)) ]"

mkdir target
partly() { compgen -G 'target/.szpool-get-*' >/dev/null; }
start get store /big target
ok "get is under way" wait_for partly
ok "interrupted" send INT
ok "exit code 130" ends_with 130
ok "nothing is left in the target" test -z "$(ls -A target)"

started() { program && [ -d "/proc/$(cat pid)/task" ] && grep -qs signals /proc/"$(cat pid)"/task/*/comm; }
start scrub store
wait_for started
ok "scrub, interrupted" send INT
ok "exit code 130" ends_with 130
ok "the next one ends" run scrub store
then_ok "without errors" grep -q 'scrub repaired 0B in .* with 0 errors' out

ok "a reader that goes away is no error to talk about" bash -c "set +o pipefail; '$szpool' cat store /big 2>err | head -c 10 >/dev/null;
	[ \${PIPESTATUS[0]} = 141 ] && [ ! -s err ]"
done_testing
