#!/usr/bin/env bash
# Generations, copies and histories, as a user meets them: old generations are read, copies that were cut,
# rolled back, forked and mixed say what they are, and are written to only once one is chosen. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

value() { echo "$1" >value; }
put() { value "$2" && run put "$1" value /; } # STORE VALUE
holds() { [ "$(run cat "$1" /value "${@:3}")" = "$2" ]; } # STORE VALUE OPTION…
newest() { run generations --json "$1" | jq -r '.generations[0].code'; }
files() { find "$1" -type f -printf '%P %s %T@ %i\n' | sort; }
untouched() { # STORE COMMAND…: it leaves every file as it is
	local store=$1 status=0
	shift
	files "$store" >before
	"$@" || status=$?
	files "$store" >after
	cmp before after || return 99
	return $status
}
# Adds the files of another store's folders that are not there.
mix() { cp -rn "$1/." "$2/"; }

ok "create" create store
ok "put" put store one
cp -r store one
ok "put again" put store two
first=$(newest one)
second=$(newest store)

ok "generations" run generations store
then_ok "has the newest first" grep -qE "^$second +20.* complete$" out
then_ok "under a heading" grep -q '^CODE .*STATE$' out
ok "as JSON" run generations --json store
then_ok "with what opening would do" jq -e '.can_be_written and .histories == 1 and
	(.generations[0] | .is_chosen and .is_head and .state == "complete" and .objects > 0)' out

mix one store
ok "an old generation by its code" holds store one --generation "$first"
ok "by its number" holds store one --generation "${first%%-*}"
ok "by the beginning of its code" holds store one --generation "${first:0:$((${#first} - 8))}"
ok "nothing is written" untouched store run ls --generation "$first" store
ok "status of it" run status --generation "$first" store
then_ok "is a pool's" grep -q '^ state: ONLINE$' out
ok "get of it" run get --generation "$first" store /value got
then_ok "has its value" grep -qx one got
ok "the newest is as it was" holds store two
fails "no such generation" 1 "there is no generation '99'" run ls --generation 99 store
fails "generation is no option of put" 2 "has no option --generation" run put --generation 1 store value /

if is_root; then
	# Media that cannot be written.
	mkdir readonly && mount --bind "$work/store" readonly && mounts+=("$work/readonly") &&
		mount -o remount,ro,bind readonly
	ok "on read-only media" holds readonly one --generation "$first"
	ok "the newest, too" holds readonly two
	fails "put says so" 1 "Read-only file system" run put readonly value /
else
	skip "on read-only media" "needs root"
fi

# While another process has it open.
mkdir -m 0700 runtime
export XDG_RUNTIME_DIR=$work/runtime
trap '"$szpool" serve --stop "$work/store" 2>/dev/null; cleanup' EXIT
ok "serve" run serve store
ok "an old generation beside it" holds store one --generation "$first"
ok "generations, by the process that serves" env -u SZPOOL_PASSPHRASE_FILE "$szpool" generations store
then_ok "has them" grep -qE "^$first .* complete$" out
fails "choosing is for opening" 1 "serve --choose" run put --choose "$first" store value /
ok "the end of it" run serve --stop store

# Rolled back: the store is what it was before.
rm -rf copy && cp -r one copy
ok "a copy that is older than what was seen is read" holds copy one
then_ok "and tells it" grep -qE "which was seen here last" err
fails "it is not written to" 8 "which was seen here last" untouched copy run put copy value /
then_ok "with what to do" grep -qF -- "--choose CODE" err
ok "check-copy tells" run check-copy copy
then_ok "which one would be opened" grep -q "opened is: generation $first" out
ok "the user's word" run put --choose "$first" copy value /
ok "from then on it is written to" put copy three
fails "the other one now is not" 8 "does not descend" untouched store run put store value /
ok "without the note it is" env XDG_STATE_HOME="$work/elsewhere" "$szpool" put store value /
rm -rf state

# Two histories in one folder.
cp -r one left && cp -r one right
ok "write to one" put left left
rm -rf state
ok "and to the other" put right right
rm -rf state
ours=$(newest left)
theirs=$(newest right)
mix right left
fails "two histories" 8 "one of 2 histories" untouched left run put left value /
fails "check-copy" 8 "there are 2 histories" sh -c "'$szpool' check-copy left >/dev/null"
ok "both can be read" holds left left --generation "$ours"
ok "the other one, too" holds left right --generation "$theirs"
ok "one is chosen" run put --choose "$ours" left value /
ok "and gone on from" put left more
ok "the other stays" holds left right --generation "$theirs"
ok "generations shows both" run generations left
then_ok "and which is not ours" grep -qE "^$theirs .*not of the chosen history" out

# An upload that was cut: the newest root came first, and some objects not at all.
rm -rf state copy && cp -r right copy
ok "check-copy of a whole one" untouched copy run check-copy copy
then_ok "all is well" grep -q ' written to: yes' out
mapfile -t fresh < <(comm -13 <(cd one && find . -type f | sort) <(cd copy && find . -type f -size +40k | sort))
for file in "${fresh[@]}"; do rm "copy/$file"; done
ok "objects of the newest generation are lost" test ${#fresh[@]} -ge 3
fails "check-copy of a cut one" 6 "not all of the newest generation is there" sh -c "'$szpool' check-copy copy >check"
then_ok "it names what is missing" grep -qE "set aside: generation $theirs, newer, .*missing" check
ok "the older one is read" holds copy one
then_ok "and it is told" grep -qF "set aside: generation $theirs" err

# One object alone: the others' devices have what it takes to repair it.
rm -rf copy && cp -r right copy
ok "seen here" put copy last
rm -rf cut && cp -r copy cut
mapfile -t fresh < <(comm -13 <(cd right && find . -type f | sort) <(cd cut && find . -type f -size +40k | sort))
rm "cut/${fresh[0]}"
newer=$(newest cut)
ok "the older one is read, of which all is there" holds cut right
then_ok "how to have the newer one" grep -qF "generation $newer, newer, can be repaired by '--choose $newer'" err
then_ok "it is known" grep -qF "is older than $newer, which was seen here last" err
ok "status" run status cut
then_ok "offers nobody to remove it" sh -c '! grep -q discard out && grep -q "^beside: .* see .szpool generations cut.$" out'
fails "nothing is written meanwhile" 8 "--choose $newer" untouched cut run put cut value /
ok "it is repaired" run scrub --choose "$newer" cut
ok "and is whole" run check-copy cut
ok "with its value" holds cut last

# No root is left: what is in all folders alike is roots and key objects.
rm -rf state copy && cp -r right copy
find copy -mindepth 2 -maxdepth 2 -type f ! -size 16384c -printf '%f\n' | sort | uniq -c | awk '$1 == 6 { print $2 }' >roots
while read -r name; do rm copy/*/"$name"; done <roots
ok "roots are lost" test -s roots
fails "a copy without any root" 6 "no root is left" untouched copy run ls copy
ok "recover" untouched copy run recover copy
then_ok "shows the pool" grep -q '^ state: ONLINE$' out
then_ok "and what to do" grep -q "'szpool recover --yes copy'" err
ok "recover --yes" run recover --yes copy
ok "all is there" holds copy right
ok "scrub" run scrub copy
then_ok "finds nothing to repair" grep -q 'scrub repaired 0B in .* with 0 errors' out
ok "generations says so" run generations copy
then_ok "for ever" grep -q ' complete, recovered$' out
fails "a second time" 1 "there is nothing to recover" run recover copy
done_testing
