#!/usr/bin/env bash
# A host that does not keep what it was given: on one or two devices it drops files, cuts them, flips bits,
# exchanges contents, hands back files of older generations, loses whole folders. What is read stays right, a scrub
# heals; the status names every object that is not as it was, and devices that are gone; a second scrub finds none. TAP.
#
#   host.sh SZPOOL CHAOS-WRITE CHAOS-CHECK CHAOS-OBJECTS [TIMES]
#
# TIMES: each case so often; 0: everything at once, and by chance a case of files and one of folders.
# SZ_TEST_SCALE=20 is two times.
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

chance() { [ $((RANDOM % $1)) = 0 ]; }
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
	mapfile -t files < <(find "${folders[@]}" -maxdepth 1 -type f -printf '%f %p\n' | sort |
		awk -v kinds="^($1)$" -v percent="$2" -v seed=$RANDOM 'BEGIN { srand(seed) }
			FNR == NR { if ($1 ~ kinds) is_one[$3] = 1; next }
			$1 in is_one && rand() * 100 < percent { print $2 }' objects -)
}

# Three bits of each, which may have no meaning. In a header page every bit has one: of half of the files one of those
# too, and only these are named for sure.
flip_files() {
	python3 - "$RANDOM" "${files[@]}" <<-'END' >>unsure
		import os, random, sys
		chance = random.Random(int(sys.argv[1]))
		for path in sys.argv[2:]:
		    size = os.path.getsize(path)
		    is_sure = chance.random() < 0.5
		    with open(path, "r+b") as file:
		        for length in [size] * 3 + [4096] * is_sure:
		            at = chance.randrange(length)
		            file.seek(at)
		            byte = file.read(1)[0]
		            file.seek(at)
		            file.write(bytes([byte ^ 1 << chance.randrange(8)]))
		    if not is_sure:
		        print(os.path.basename(path))
	END
}
truncate_files() {
	for file in "${files[@]}"; do truncate -s "$(below "$(stat -c %s "$file")")" "$file"; done
}
older_of() { echo "older/${1##*/}"; }

case_drop() { choose_files "$any" 30 && rm "${files[@]}"; }
case_truncate() { choose_files "$any" 30 && truncate_files; }
case_empty_files() { choose_files "$any" 30 && truncate -s 0 "${files[@]}"; }
case_flip() { choose_files "$any" 60 && flip_files; }
case_exchange() { # two contents, under each other's names
	choose_files "$any" 40
	for ((at = 0; at + 1 < ${#files[@]}; at += 2)); do
		mv "${files[at]}" exchanged && mv "${files[at + 1]}" "${files[at]}" && mv exchanged "${files[at + 1]}"
	done
}
case_random_contents() {
	choose_files band 40
	for file in "${files[@]}"; do head -c "$(stat -c %s "$file")" /dev/urandom >random && mv random "$file"; done
}
case_old_contents() { # of older generations, under the names of newer ones
	local old
	choose_files "$any" 40
	for file in "${files[@]}"; do
		old=$(find "$(older_of "${file%/*}")" -maxdepth 1 -type f ! -name "${file##*/}" | sort |
			shuf -n 1 --random-source=<(yes "$RANDOM"))
		cp "$old" "$file"
	done
}
case_mixed_files() { # some are as of old, the new ones are gone
	for folder in "${folders[@]}"; do cp -an "$(older_of "$folder")/." "$folder"; done
	choose_files "$any" 50 && rm "${files[@]}"
}
case_everything() {
	choose_files "$any" 25 && rm "${files[@]}"
	choose_files "$any" 25 && flip_files
	choose_files "$any" 25 && truncate_files
}
folders_case_old() { # as they were some generations ago
	for folder in "${folders[@]}"; do rm -r "$folder" && cp -a "$(older_of "$folder")" "$folder"; done
}
folders_case_one_empty() { gone=("${folders[0]}") && find "${gone[@]}" -type f -delete; }
folders_case_two_empty() { gone=("${folders[@]}") && find "${gone[@]}" -type f -delete; }
folders_case_one_gone() { gone=("${folders[0]}") && rm -r "${gone[@]}"; }
folders_case_two_gone() { gone=("${folders[@]}") && rm -r "${gone[@]}"; }
folders_case_gone_and_old() {
	gone=("${folders[0]}") && rm -r "${folders[@]}" && cp -a "$(older_of "${folders[1]}")" copy/
}

any="band|delta|hot|index|root"

# What of the newest generation is not as it was, to the file hurt; but roots, which opening writes anew. Where a
# device is gone a seal comes before the scrub, and writes index pages anew.
hurt_find() {
	local folder name kinds="root"
	[ ${#gone[@]} = 0 ] || kinds="root|index"
	for folder in "${folders[@]}"; do
		[[ " ${gone[*]} " != *" $folder "* ]] || continue
		find "store/${folder##*/}" -maxdepth 1 -type f -printf '%f\n' |
			grep -xFf <(awk -v kinds="^($kinds)$" '$1 !~ kinds { print $3 }' objects) |
			grep -vxFf unsure | while read -r name; do
			cmp -s "store/${folder##*/}/$name" "$folder/$name" || echo "$name"
		done
	done >hurt
}
all_named() { ! grep -vFf <(grep -oE '[0-9a-f]{32}' "$1") hurt; }
gone_are_named() { [ "$(grep -c 'UNAVAIL .*its folder is missing' out)" = ${#gone[@]} ]; }

# As a user would, of what may not be gone on from without a choice.
scrub() {
	local newest
	newest=$("$check" --list told | awk '$1 != "incomplete" { print $2; exit }')
	timeout -k 10 600 "$szpool" scrub --choose "$newest" told
}

case_run() { # FUNCTION
	local name=${1//_/ }
	name=${name/case /}
	rm -rf copy told && cp -a store copy && : >unsure
	gone=()
	choose_folders 2
	"$1"
	hurt_find
	cp -a copy told
	ok "$name: status" run status told
	then_ok "$name: ${#gone[@]} devices are said to be gone" gone_are_named
	ok "$name: everything is read, a scrub heals" timeout -k 10 600 "$check" --heal --since "$end" copy journal
	then_ok "$name: what is damaged is named ($(wc -l <hurt) objects)" all_named out
	ok "$name: all is well then" timeout -k 10 600 "$check" --scrub --verify --since "$end" copy journal
	ok "$name: szpool scrub" scrub
	then_ok "$name: its status names as much" all_named out
	ok "$name: and then that all is well" run status --check told
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
cases() { declare -F | sed -nE "s/^declare -f ($1case_.*)/\1/p" | grep -vE '^case_(run|everything)$'; }
one_of() { shuf -n 1 --random-source=<(yes "$RANDOM"); }

SIZE=3G ok "create" create store
ok "many generations" write_some 200
ok "a copy" cp -a store older
ok "many more, with objects of each kind" write_more
end=$(stat -c %s journal)
if [ "$times" = 0 ]; then
	case_run case_everything
	case_run "$(cases "" | one_of)"
	case_run "$(cases folders_ | one_of)"
fi
for ((time = 0; time < times; time++)); do
	for name in case_everything $(cases "") $(cases folders_); do case_run "$name"; done
done
if [ "$times" != 0 ] || chance 2; then lost_on_three "deltas of three devices" delta 100; fi
if [ "$times" != 0 ] || chance 2; then lost_on_three "bands of three devices" band 100; fi
done_testing
