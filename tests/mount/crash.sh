#!/usr/bin/env bash
# A mount that is killed at any moment while it is worked in: every byte and name that was synced is there
# afterwards, nothing is there that nobody made, no space is lost. TAP.
#
#   crash.sh SZPOOL DEVICES_OUT [ROUNDS]     SZ_TEST_SCALE=20: 50 rounds; SZ_SEED repeats the times of the kills
# shellcheck source-path=SCRIPTDIR
here=$(dirname "$(readlink -f "$0")")
script=$here/crash_work.py
devices_out=$(readlink -f "$2")
. "$here/lib.sh"

rounds=${3:-$((${SZ_TEST_SCALE:-1} >= 20 ? 50 : 3))}
seed=${SZ_SEED:-$RANDOM}
RANDOM=$seed
workers=3
echo "# SZ_SEED=$seed, $rounds rounds"

all_is_there() {
	local worker status=0
	for ((worker = 0; worker < workers; worker++)); do
		"$script" check "m/$worker" "journal.$worker" || status=1
	done
	return $status
}

steps_synced() { cat journal.* 2>/dev/null | grep -c synced; }

# Works in it, and kills it after the time, which counts from when the work has begun.
killed_after() { # SECONDS
	local worker pids=() before wait
	before=$(steps_synced)
	mount_here --seal-interval 1s || return 1
	all_is_there || return 1
	for ((worker = 0; worker < workers; worker++)); do
		mkdir -p "m/$worker"
		"$script" work "$PWD/m/$worker" "journal.$worker" "$seed.$worker" >"worker.$worker" 2>&1 &
		pids+=($!)
	done
	for ((wait = 0; wait < 200 && $(steps_synced) == before; wait++)); do sleep 0.1; done
	sleep "$1"
	kill -KILL "$server"
	wait "$server" "${pids[@]}"
	run umount m || return 1
	! grep -v '^ended by: ' worker.*
}

# Of zdb's listing of all objects, in the file out.
delete_queue_is_empty() { awk '/ZFS delete queue/ { here = 1 } here && /entries/ { is_empty = / 0 entries/; exit } END { exit !is_empty }' out; }
in_zdb() { zdb -e -p devices "$@" 2>&1; }

mkdir m
ok "create" create store
for ((round = 1; round <= rounds; round++)); do
	after=$((RANDOM % 4)).$((RANDOM % 900 + 100))
	ok "round $round: all was there, and it is killed after $after s" killed_after "$after"
done
ok "mount" mount_here
ok "all is there" all_is_there
show
# shellcheck disable=SC2016 # awk's
then_ok "and much of it" awk '/ in the journal$/ { sum += $3 } END { exit sum < 10 }' out
ok "umount" run umount m
ok "scrub" run scrub store
then_ok "finds no error" grep -q 'with 0 errors' out
if command -v zdb >/dev/null; then
	mkdir devices
	ok "the devices as files" "$devices_out" store devices
	ok "zdb" in_zdb -bcc szpool
	then_ok "finds no leak" grep -q 'No leaks (block sum matches space maps exactly)' out
	ok "zdb reads the dataset" in_zdb -dddd szpool/
	then_ok "and its delete queue is empty" delete_queue_is_empty
else
	skip "zdb" "needs zdb"
fi
done_testing
