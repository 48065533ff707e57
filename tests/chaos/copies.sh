#!/usr/bin/env bash
# A pool is written to, synced, sealed and compacted without a pause, while programs that know nothing of it
# copy its folder: rsync in many ways, rclone, cp, tar; at full speed, slowly, killed at any moment. After each
# run the copy is opened with the passphrase alone. It holds exactly what was stored at one moment, no earlier
# than the newest generation when a run began that ended by itself, give or take what the ladder leaves out; a
# scrub finds nothing. Now and then the writer itself is killed, and goes on. TAP.
#
#   copies.sh SZPOOL CHAOS-WRITE CHAOS-CHECK [ROUNDS]    SZ_SEED repeats the choices of a run
#                                                        SZ_TEST_SCALE=20 makes twenty times as many rounds
#                                                        SZ_KEEP=FOLDER keeps copies that failed there
write=$(readlink -f "$2")
check=$(readlink -f "$3")
# shellcheck source-path=SCRIPTDIR/../cli
. "$(dirname "$(readlink -f "$0")")/../cli/lib.sh"
rounds=${4:-$((5 * ${SZ_TEST_SCALE:-1}))}
seed=${SZ_SEED:-$(date +%s)}
echo "# SZ_SEED=$seed"
RANDOM=$((seed % 32768))

SPEED=240 # the store's clock runs so many times as fast
# Of any three generations within two minutes the middle one goes, so that is by how much a copy may be older.
SLACK=$((120 / SPEED + 2))
# A copier that takes longer than this, to the ladder's two hours, may bring one that is as much older.
PATIENCE=$((7200 / SPEED - SLACK))
writer_rate=2 # MiB/s, of each of its hands: all of the last two hours is kept, so more would fill the disk
writer=
first=0 # the generation from which on the writer's folders are there

position() { stat -c %s journal; }
chance() { [ $((RANDOM % $1)) = 0 ]; }
seconds_below() { awk -v x=$RANDOM -v most="$1" 'BEGIN { print 0.05 + most * x / 32768 }'; }

writer_start() {
	"$write" store journal $writer_rate 150 $SPEED "$seed" 2>writer.err &
	writer=$!
	for _ in $(seq 300); do
		if [ -s journal ] && [ "$(position)" != "${1:-0}" ]; then return 0; fi
		kill -0 "$writer" 2>/dev/null || break
		sleep 0.1
	done
	sed 's/^/# /' writer.err
	return 1
}
writer_is_well() { kill -0 "$writer" 2>/dev/null || { sed 's/^/# /' writer.err && return 1; }; }
writer_again() {
	kill -9 "$writer" || return 1
	wait "$writer" 2>/dev/null
	writer_start "$(position)"
}
writer_end() {
	kill "$writer"
	wait "$writer" || { sed 's/^/# /' writer.err && return 1; }
}

# Runs a copier, with all its processes, to its end or for so many seconds ("": to its end).
copier() { # SECONDS COMMAND…
	local limit=$1 pid
	shift
	setsid "$@" >copier.out 2>&1 &
	pid=$!
	if [ -n "$limit" ]; then
		sleep "$limit"
		kill -9 -- -$pid 2>/dev/null
	fi
	wait $pid 2>/dev/null
	case $? in
	0 | 23 | 24 | 137) ;; # files vanished meanwhile, or it was killed
	*) sed 's/^/# /' copier.out | tail -n 5 ;;
	esac
	return 0
}

# Opens a copy of the copy, made of hard links: no file of it may change. What is checked is in the file out.
opens() { # COPY CHECK-OPTION…
	local copy=$1 status=0 other
	shift
	find "$copy" -type f -printf '%P %s %T@\n' | sort >before
	cp -al "$copy" opened || return 1
	timeout -k 10 600 "$check" "$@" --others "$first" --scrub opened journal >found || status=$?
	grep -v ^another found
	# Now and then another one that is said to be complete; the opened one may have let it go.
	other=$(sed -n 's/^another //p' found | shuf -n 1)
	if [ $status = 0 ] && [ -n "$other" ] && chance 2; then
		rm -rf opened && cp -al "$copy" opened || return 1
		timeout -k 10 600 "$check" --generation "$other" --scrub opened journal || status=4
	fi
	rm -rf opened
	find "$copy" -type f -printf '%P %s %T@\n' | sort >after
	cmp before after || status=3
	if [ $status != 0 ] && [ -n "${SZ_KEEP:-}" ]; then
		mkdir -p "$SZ_KEEP/$seed-$number" && cp -a "$copy" journal passphrase found "$SZ_KEEP/$seed-$number"
	fi
	return $status
}

# Ways of rsync that all may follow each other in one copy.
rsync_way() {
	local ways=(--delete --delete-before --delete-during --delete-delay --delete-after
		"--delete --inplace" "--delete --size-only" "--delete --checksum" "--delete --whole-file"
		"--delete --exclude=live/" "--delete --no-inc-recursive" "--delete --delay-updates")
	echo "${ways[RANDOM % ${#ways[@]}]}"
}

# Of the last run that ended by itself, by copy: when it began (in the journal, in seconds), and how much older what it
# brought may be.
declare -A complete
declare -A complete_began
declare -A complete_slack

# What a run that was killed deletes is what the store let go since the last whole one began: so after two hours
# the ladder may have left what is once more as old.
killed_slack() { # COPY
	local slack=${complete_slack[$1]} age
	age=$((SECONDS - complete_began[$1] + slack))
	[ $age -lt $PATIENCE ] && echo $((slack + SLACK)) || echo $((slack + SLACK + age))
}

# Copies and checks. A run that is killed must leave what the last whole one, or an older one, had.
round() { # NAME COPY SECONDS COMMAND…
	local name=$1 copy=$2 limit=$3 since until slack=$SLACK began=$SECONDS before=${complete[$2]:-}
	shift 3
	since=$(position)
	copier "$limit" "$@"
	until=$(position)
	echo "# $name: copied in $((SECONDS - began)) s, $(du -sm "$copy" | cut -f1) MiB"
	[ $((SECONDS - began)) -lt $PATIENCE ] || slack=$((SLACK + SECONDS - began))
	if [ -z "$limit" ]; then
		complete[$copy]=$since
		complete_began[$copy]=$began
		complete_slack[$copy]=$slack
		ok "$name" opens "$copy" --since "$since" --slack $slack --until "$until"
	elif [ -n "$before" ]; then
		ok "$name" opens "$copy" --since "$before" --slack "$(killed_slack "$copy")" --until "$until"
	fi
	sed 's/^/# /' out
}

rsync_round() { # LIMIT
	local way limit=()
	way=$(rsync_way)
	chance 2 && limit=(--bwlimit=$((4 + RANDOM % 16))m)
	# shellcheck disable=SC2086 # several options
	round "rsync $way ${limit[*]}${1:+ killed after $1 s}" rsync "$1" rsync -a $way "${limit[@]}" store/ rsync
}

# Of any five, one is an rsync that ends by itself, and the next one is killed.
any_round() { # ROUND
	local kind=$((RANDOM % 12))
	[ $(($1 % 5)) != 1 ] || kind=0
	[ $(($1 % 5)) != 2 ] || kind=4
	case $kind in
	[0-3]) rsync_round "" ;;
	[4-6]) rsync_round "$(seconds_below 4)" ;;
	7)
		round "rsync --ignore-existing" existing "" rsync -a --delete --ignore-existing store/ existing
		;;
	8)
		round "rclone without times" rclone "" \
			rclone sync --size-only --no-update-modtime --local-no-check-updated --retries 1 store rclone
		;;
	9)
		rm -rf plain
		round "cp -a" plain "" cp -a store plain
		;;
	10)
		rm -rf plain && mkdir plain
		round "tar" plain "" sh -c 'tar -C store -c . | tar -C plain -x'
		;;
	11) # its live files are those of the store, and grow with them: frozen, it is a torn copy
		rm -rf linked plain
		round "cp -al" plain "" sh -c 'cp -al store linked; cp -a linked plain' # what vanishes meanwhile, vanishes
		;;
	esac
}

SIZE=3G ok "create" create store
first=$("$check" --list store | sed -n '1s/[^ ]* \([0-9]*\)-.*/\1/p')
ok "the writer begins" writer_start
sleep 2
round "rsync, the first time" rsync "" rsync -a --delete store/ rsync
for ((i = 1; i <= rounds; i++)); do
	sleep "$(seconds_below 3)"
	any_round "$i"
	ok "the writer goes on" writer_is_well
	if chance 5; then ok "the writer is killed, and goes on" writer_again; fi
done
ok "the writer ends" writer_end
round "rsync of the closed store" rsync "" rsync -a --delete store/ rsync
ok "the store itself" "$check" --since "$(position)" --scrub --verify store journal
ok "the program says that all is well" run status --check rsync
done_testing
