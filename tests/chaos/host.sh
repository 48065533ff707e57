#!/usr/bin/env bash
# A host that does not keep what it was given: on one or two devices it drops files, cuts them, flips bits,
# exchanges contents, hands back files of older generations, loses whole folders. What is read stays right, a scrub
# heals, every damaged object is named; a second scrub finds none. TAP.
#
#   host.sh SZPOOL CHAOS-WRITE CHAOS-CHECK CHAOS-OBJECTS [TIMES]
#
# TIMES: each case so often; 0: everything at once, and two cases by chance. SZ_TEST_SCALE=20 is two times.
# SZ_SEED repeats the choices of a run.
write=$(readlink -f "$2")
check=$(readlink -f "$3")
list_objects=$(readlink -f "$4")
# shellcheck source-path=SCRIPTDIR/../cli
. "$(dirname "$(readlink -f "$0")")/../cli/lib.sh"
times=${5:-$((${SZ_TEST_SCALE:-1} / 10))}
seed=${SZ_SEED:-$(date +%s)}
echo "# SZ_SEED=$seed"
RANDOM=$((seed % 32768))

below() { echo $(((RANDOM * 32768 + RANDOM) % $1)); }

# A busy machine takes its time for as many changes.
write_some() { # CHANGES
	local writer before=0
	[ ! -s journal ] || before=$(grep -c ^e journal)
	"$write" store journal 8 100 20 "$seed" &
	writer=$!
	for _ in $(seq 1200); do
		sleep 0.1
		if [ -s journal ] && [ $(($(grep -c ^e journal) - before)) -ge "$1" ]; then break; fi
		kill -0 $writer 2>/dev/null || break
	done
	kill $writer
	wait $writer
}

# Two devices' folders, and the objects of the newest generation that are in them: all that is hurt.
choose_folders() { # COUNT
	mapfile -t folders < <(find copy -mindepth 1 -maxdepth 1 -type d ! -name live | sort | shuf -n "$1" --random-source=<(yes "$RANDOM"))
}
choose_files() { # KIND-REGEX PERCENT
	mapfile -t files < <(find "${folders[@]}" -maxdepth 1 -type f | sort | while read -r file; do
		grep -qE "^($1) [0-9]+ ${file##*/}$" objects && echo "$file"
	done | awk -v seed=$RANDOM -v percent="$2" 'BEGIN { srand(seed) } rand() * 100 < percent')
}

flip() { # FILE
	local at
	at=$(below "$(stat -c %s "$1")")
	head -c 1 /dev/urandom | dd of="$1" bs=1 seek="$at" conv=notrunc status=none
}

# What is damaged for good, which has to be named, goes to the file hurt.
case_drop() { choose_files "$any" 30 && name_hurt && rm "${files[@]}"; }
case_truncate() {
	choose_files "$any" 30 && name_hurt
	for file in "${files[@]}"; do truncate -s "$(below "$(stat -c %s "$file")")" "$file"; done
}
case_empty_files() { choose_files "$any" 30 && name_hurt && truncate -s 0 "${files[@]}"; }
case_flip() {
	choose_files "$any" 60
	for file in "${files[@]}"; do for _ in 1 2 3 4 5; do flip "$file"; done; done
}
case_exchange() { # two contents, under each other's names
	choose_files "band|delta|hot|index|root" 40
	for ((at = 0; at + 1 < ${#files[@]}; at += 2)); do
		mv "${files[at]}" exchanged && mv "${files[at + 1]}" "${files[at]}" && mv exchanged "${files[at + 1]}"
	done
}
case_copies() { # other contents in their place
	choose_files band 40 && name_hurt
	for file in "${files[@]}"; do head -c "$(stat -c %s "$file")" /dev/urandom >random && mv random "$file"; done
}
case_old_files() { # the folders as they were some generations ago
	for folder in "${folders[@]}"; do
		rm -r "$folder" && cp -a "older/${folder##*/}" "$folder"
	done
}
case_mixed_files() { # some are as of old, the new ones are gone
	for folder in "${folders[@]}"; do cp -an "older/${folder##*/}/." "$folder"; done
	choose_files "$any" 50 && name_hurt && rm "${files[@]}"
}
case_one_folder_empty() { find "${folders[0]}" -type f -delete; }
case_two_folders_empty() { find "${folders[@]}" -type f -delete; }
case_one_folder_gone() { rm -r "${folders[0]}"; }
case_two_folders_gone() { rm -r "${folders[@]}"; }
case_gone_and_old() { rm -r "${folders[0]}" "${folders[1]}" && cp -a "older/${folders[1]##*/}" copy/; }
case_everything() {
	choose_files "$any" 25 && name_hurt && rm "${files[@]}"
	choose_files "$any" 25
	for file in "${files[@]}"; do flip "$file"; done
	choose_files "$any" 25
	for file in "${files[@]}"; do truncate -s "$(below "$(stat -c %s "$file")")" "$file"; done
}

any="band|delta|hot|index|root"
name_hurt() { # what opening makes up for is named by nobody
	printf '%s\n' "${files[@]##*/}" | grep -xFf <(awk '!/^root / { print $3 }' objects) >hurt
}
all_named() { ! grep -vFf <(grep -oE '[0-9a-f]{32}' out) hurt; }

case_run() { # NAME
	local name=${1//_/ }
	rm -rf copy && cp -a store copy && : >hurt
	choose_folders 2
	"case_$1"
	ok "$name: everything is read, a scrub heals" timeout -k 10 600 "$check" --heal --since "$end" copy journal
	cp out healed
	then_ok "$name: what is damaged is named ($(wc -l <hurt) objects)" all_named
	ok "$name: all is well then" timeout -k 10 600 "$check" --scrub --verify --since "$end" copy journal
	[ "$times" = 0 ] || ok "$name: status says so" run status --check copy
}

# On three devices: it is not opened as if it were whole, but at an older generation that is all there, if there is one; of
# what is asked for, what can be read is right, the rest is an error.
# None: or the first one, in which there is no pool yet.
is_older_or_refused() {
	local status=0
	timeout -k 10 600 "$check" copy journal || status=$?
	[ $status = 0 ] || { [ $status = 2 ] && grep -qE 'too much is missing of every generation|there is no pool' err; }
}
is_right_or_refused() {
	local status=0
	timeout -k 10 600 "$check" --generation "$1" --lossy copy journal || status=$?
	[ $status = 0 ] || { [ $status = 2 ] && grep -q 'does not open' err; }
}
lost_on_three() { # NAME KIND PERCENT
	local code
	rm -rf copy && cp -a store copy
	choose_folders 3
	choose_files "$2" "$3" && rm "${files[@]}"
	ok "$1: what there is" "$check" --list copy
	then_ok "$1: the newest is not taken for whole" sh -c 'head -n 1 out | grep -q "^incomplete [^ ]*$"'
	code=$(awk 'NR == 1 { print $2 }' out)
	ok "$1: an older one is opened, or none" is_older_or_refused
	ok "$1: asked for, nothing is read that was not written" is_right_or_refused "$code"
	sed 's/^/# /' out
}

# The objects that the newest generation is made of: some of each kind, a band of each device.
has_all_kinds() {
	"$list_objects" store >objects && [ "$(cut -d' ' -f1 objects | sort -u | wc -l)" = 5 ] &&
		[ "$(awk '$1 == "band" { print $2 }' objects | sort -u | wc -l)" = 6 ]
}
write_more() {
	for _ in 1 2 3 4 5 6; do
		write_some 200 || return 1
		if has_all_kinds; then return 0; fi
	done
	return 1
}
cases() { declare -F | sed -n 's/^declare -f case_//p' | grep -v '^run$'; }

SIZE=3G ok "create" create --kdf interactive store
ok "many generations" write_some 200
ok "a copy" cp -a store older
ok "many more, with objects of each kind" write_more
end=$(stat -c %s journal)
if [ "$times" = 0 ]; then
	case_run everything
	for name in $(cases | grep -v '^everything$' | shuf -n 2 --random-source=<(yes $RANDOM)); do case_run "$name"; done
fi
for ((time = 0; time < times; time++)); do
	for name in $(cases); do case_run "$name"; done
done
if [ "$times" != 0 ] || [ $((RANDOM % 2)) = 0 ]; then lost_on_three "deltas of three devices" delta 100; fi
if [ "$times" != 0 ] || [ $((RANDOM % 2)) = 0 ]; then lost_on_three "bands of three devices" band 100; fi
done_testing
