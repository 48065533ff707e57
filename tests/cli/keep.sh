#!/usr/bin/env bash
# What is kept of the history, and why; wishes, budgets, and what removes it; foreign histories; trim and compact: as
# a user meets them, in a process of their own and (faster: no passphrase) in one that serves the store. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

mkdir -m 0700 runtime
export XDG_RUNTIME_DIR=$work/runtime
trap 'for store in store left unread; do "$szpool" serve --stop "$work/$store" 2>/dev/null; done; cleanup' EXIT

put() { echo "$2" >value && run put "$1" value /; } # STORE VALUE
holds() { [ "$(run cat "$1" /value "${@:3}")" = "$2" ]; } # STORE VALUE OPTION…
newest() { run generations --json "$1" | jq -r '.generations[0].code'; }
count() { run generations --json "$1" | jq '.generations | length'; }
json() { jq -e "$1" out >/dev/null; }
has() { grep -qE -- "$1" out; }
files() { find "$1" -mindepth 2 -type f -printf '%P %s %T@ %i\n' | sort; }
untouched() { # STORE COMMAND…: it leaves every file in the devices' folders as it is
	local store=$1 status=0
	shift
	files "$store" >before
	"$@" || status=$?
	files "$store" >after
	cmp before after || return 99
	return $status
}
# The command with a terminal at which the answer is typed; what it writes goes to the file seen.
typing() { # ANSWER ARGUMENT…
	local answer=$1
	shift
	printf '%s\n' "$answer" | script -qec "$(printf '%q ' "$szpool" "$@")" /dev/null >seen
}

ok "create" create store
ok "put" put store one
ok "and again" put store two
fails "a wish that is no number" 2 "--daily 'x': has to be a number, 0 to 10000" run keep --daily x store
fails "too many" 2 "has to be a number, 0 to 10000" run keep --last 10001 store
fails "a budget that is none" 2 "--budget '10X': has to be a share" run keep --budget 10X store
fails "too large a share" 2 "at most 10000%" run keep --budget 10001% store
fails "what does not go together" 2 "give it alone" run keep --drop-history --daily 1 store
fails "put has no wishes" 2 "has no option --daily" run put --daily 1 store value /
fails "no store" 1 "none: there is no such folder" run keep none
fails "trim asks nothing" 2 "has no option --yes" run trim --yes store
fails "compact reads no old generation" 2 "has no option --generation" run compact --generation 1 store

ok "keep" untouched store run keep store
then_ok "shows the policy" has '^ policy: the ladder; budget 25% of the store$'
then_ok "how long a copy may take" has '^   copy: may take [0-9]+ [a-z]+, and is whole at its end$'
then_ok "what history takes" has '^history: [0-9.]+[BKM] of at most 256M, in [0-9]+ generations$'
then_ok "the newest" has "^[0-9]+-[0-9A-Z]+ +[0-9]+ [a-z]+ +0B +newest$"
then_ok "and one of the ladder" has '^1-[0-9A-Z]+ +[0-9]+ [a-z]+ +[0-9.]+[BK] +ladder$'
ok "a dry run of wishes" untouched store run keep --dry-run --last 5 --budget 1G store
then_ok "shows what they would keep" has ' ladder, last$'
ok "wishes" run keep --last 5 --monthly 12 --budget 10% store
ok "what would go" untouched store run keep --json --dry-run --drop-history store
then_ok "by them" json '.policy == { last: 5, hourly: 0, daily: 0, weekly: 0, monthly: 12,
	budget_percent: 10, budget_bytes: 0 } and .removed == false'
then_ok "with reasons" json '.generations[0].kept_for | index("newest") and index("last") and index("monthly")'
then_ok "all but the newest" json '.going == (.generations | length) - 1 and (.generations[0].goes | not)'
going=$(jq .going out)
fails "it does not without consent" 1 "takes --yes" \
	untouched store sh -c "'$szpool' keep --drop-history store </dev/null >/dev/null"
ok "with it, it goes" run keep --json --drop-history --yes store
then_ok "as it was told" json ".going == $going and .removed"
ok "trim" run trim --json store
then_ok "as JSON" json '.trimmed_bytes > 500000000'
ok "compact" run compact --json store
then_ok "as JSON" json '.stored_bytes > 0 and .stored_before_bytes > 0 and .returned_bytes >= 0 and .problem == ""'
cp -r store left && cp -r store right # for later

# In the process that serves it.
passphrase=$SZPOOL_PASSPHRASE_FILE
ok "serve" run serve store
unset SZPOOL_PASSPHRASE_FILE
ok "keep, served" run keep store
then_ok "shows it" has '^ policy: the ladder, 5 last, 12 monthly; budget 10% of the store$'
ok "other wishes, served" run keep --budget 3G --last 0 store
ok "change what they name, and no more" untouched store run keep --json store
then_ok "as JSON" json '.policy.last == 0 and .policy.monthly == 12 and .policy.budget_percent == 0 and
	.policy.budget_bytes == 3221225472 and .history.budget_bytes == 3221225472'
head -c 3000000 /dev/urandom >big
ok "put" run put store big /
ok "seal" run seal store
if command -v script >/dev/null; then
	ok "not against the answer" untouched store bash -c "$(declare -f typing); szpool='$szpool'; ! typing n keep --drop-history store"
	then_ok "it asked" grep -qE 'remove [0-9]+ generations? for good, about .*\[y/N\]' seen
	then_ok "and says that it did nothing" grep -q 'store: nothing was removed' seen
	ok "with yes, it goes" typing y keep --drop-history store
	then_ok "and is told" grep -qE '^removed: [0-9]+ generations?, ' seen
else
	skip "asking" "needs script"
fi
ok "history goes" run keep --drop-history --yes store
ok "one is left" test "$(count store)" = 1
ok "a second time nothing goes" untouched store run keep --drop-history --yes store
then_ok "and it is told" has '^removed: 0 generations, 0B$'

# A reader of an old generation.
old=$(newest store)
ok "more" put store four
ok "seal" run seal store
mkfifo pipe
"$szpool" cat --passphrase-file "$passphrase" --generation "$old" store /big >pipe &
reader=$!
exec 3<pipe
read -r -n 1 -u 3 || true
ok "history goes" run keep --drop-history --yes store
then_ok "but for what is read" has '^removed: [0-9]+ generations?, '
ok "that is there" bash -c "'$szpool' generations store | grep -q '^$old .* complete$'"
cat <&3 >/dev/null
exec 3<&-
ok "to its end" wait $reader
ok "then it goes, too" run keep --drop-history --yes store
ok "and only the newest is left" test "$(count store)" = 1

ok "trim, served" run trim store
then_ok "tells how much" has '^trimmed: [0-9.]+[MG] of free space$'
ok "compact, served" run compact store
then_ok "tells what came back" has '^  stored: [0-9.]+[KMG], before [0-9.]+[KMG]: [0-9.]+[BKM] came back$'
ok "discard, served" run discard --yes store
then_ok "finds nothing" has '^nothing here is of another history$'
ok "status, served" run status --json store
then_ok "has it all" json '.history.generations >= 1 and .history.copy_s >= 0 and .history.budget_bytes == 3221225472 and
	.history.foreign_objects == 0 and .history.problem == ""'
ok "scrub" run scrub store
then_ok "finds nothing" has 'scrub repaired 0B in .* with 0 errors'
ok "all is there" holds store four
ok "stop" run serve --stop store
export SZPOOL_PASSPHRASE_FILE=$passphrase

# Two histories in one folder.
rm -rf state
ok "write to one" put left left
rm -rf state
ok "and to the other" put right right
rm -rf state
ours=$(run info --json left | jq -r .code)
theirs=$(run info --json right | jq -r .code)
rm -rf state
find store left -type f -printf '%f\n' | sort -u >known
find right -mindepth 2 -maxdepth 2 -type f -printf '%f\n' | sort | uniq -c | awk '$1 == 6 { print $2 }' >roots
comm -23 roots known >theirs
cp -rn right/. left/
fails "nothing is discarded before one is chosen" 8 "one of 2 histories" untouched left run discard --yes left
ok "which are told" run generations --json left
then_ok "both" json "[.generations[] | select(.is_head) | .code] | sort == ([\"$ours\", \"$theirs\"] | sort)"
cp -r left unread
ok "serve one" run serve --choose "$ours" left
unset SZPOOL_PASSPHRASE_FILE
# The server may write to its live files at any time; objects are as they are.
objects() { find "$1" -mindepth 2 -maxdepth 2 -type f -printf '%P %s %T@\n' | sort; }
objects left >before
ok "discard lists the other" run discard --dry-run left
objects left >after
then_ok "and removes nothing" cmp before after
then_ok "by its code, with its size" has "^$theirs +20.* +[0-9]+ +[0-9.]+[KM]$"
then_ok "and says what would be done" has '^would be removed: [0-9]+ objects, [0-9.]+[KM]$'
ok "status tells it" run status left
then_ok "and the next step" has "^foreign: [0-9]+ objects of other histories, [0-9.]+[KM]; 'szpool discard left' removes them$"
ok "so does info" run info left
then_ok "in its form" has '^ +foreign: [0-9]+ objects'
ok "and its JSON" run info --json left
then_ok "has it, too" json '.history.foreign_objects > 0 and .history.foreign_bytes > 0'
fails "not without consent" 1 "takes --yes" sh -c "'$szpool' discard left </dev/null >/dev/null"
ok "with it, it goes" run discard --json --yes left
then_ok "as JSON" json ".removed and .objects > 0 and (.foreign | map(.code) | index(\"$theirs\"))"
ok "discard finds nothing more" run discard --json left
then_ok "as JSON" json '.foreign == [] and .objects == 0 and (.removed | not)'
ok "the other is gone" bash -c "! '$szpool' generations left | grep '$theirs'"
ok "ours is whole" bash -c "'$szpool' scrub left | grep -q 'with 0 errors'"
ok "stop" run serve --stop left
export SZPOOL_PASSPHRASE_FILE=$passphrase

# A root of theirs that cannot be read: what it refers to is not known, so nothing is removed.
ok "the other's root is known" test -s theirs
while read -r name; do
	for file in unread/*/"$name"; do dd if=/dev/zero of="$file" bs=4096 count=2 conv=notrunc status=none; done
done <theirs
ok "serve" run serve --choose "$ours" unread
unset SZPOOL_PASSPHRASE_FILE
fails "with an unreadable root not all is well" 6 "not all is well" sh -c "'$szpool' status --check unread >seen"
then_ok "status says why nothing is removed" grep -qE '^problem: the root of generation [0-9]+ cannot be read' seen
then_ok "and what to do" grep -q "'szpool discard --dry-run unread'" seen
fails "history is not dropped" 6 "cannot be read" run keep --drop-history --yes unread
ok "discard lists it" run discard --dry-run unread
then_ok "as what it is" has '^[0-9]+, an unreadable root +\? '
ok "status" run status --json unread
then_ok "lists it as damage of no device" json '(.damage | length) > 0 and all(.damage[]; .device == null)'
ok "discard removes it" run discard --yes unread
ok "status" run status --json unread
then_ok "has nothing in the way then" json '.history.problem == "" and .history.foreign_objects == 0'
then_ok "and no damage" json '.damage == []'
ok "and history can be dropped" run keep --drop-history --yes unread
ok "stop" run serve --stop unread
export SZPOOL_PASSPHRASE_FILE=$passphrase
done_testing
