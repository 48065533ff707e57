#!/usr/bin/env bash
# What a host does to a store: devices lost, files cut, flipped, missing, renamed, doubled, strangers
# among them. What can be read is read, a scrub heals, too much is refused with what is missing. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

is_equal() { run cat store /big | cmp - big; }
files() { (cd "$1" && find . -type f -exec sha256sum {} + | sort); }
list_devices() { mapfile -t devices < <(find store -mindepth 1 -maxdepth 1 -type d ! -name live | sort); }
# The large objects of a device: bands. A quarter of them, but one at least.
list_objects() { # FOLDER
	mapfile -t objects < <(find "$1" -maxdepth 1 -type f -size +64k | sort | awk 'NR % 4 == 1')
}
heals() { # NAME
	ok "$1: it is read" is_equal
	ok "$1: scrub" run scrub store
	then_ok "$1: nothing is lost" grep -q '^errors: No known data errors$' out
	# What is damaged where ZFS has nothing is no error of a device, and asks for nothing either.
	then_ok "$1: no more is to be done" bash -c "! grep '^action: ' out | grep -v 'None needed'"
	ok "$1: a second scrub" run scrub store
	then_ok "$1: finds nothing to repair" grep -q 'scrub repaired 0B in .* with 0 errors' out
	ok "$1: all is well" run status --check store
}

head -c 40000000 /dev/urandom >big
ok "create" create store
ok "put" run put store big /
ok "a second store" create other
ok "with content" run put other big /
list_devices
[ ${#devices[@]} = 6 ] || echo "Bail out! ${#devices[@]} device folders"

list_objects "${devices[0]}"
for file in "${objects[@]}"; do
	printf 'flip' | dd of="$file" bs=1 seek=50000 conv=notrunc status=none
done
heals "flipped bytes"

list_devices
list_objects "${devices[1]}"
for file in "${objects[@]}"; do truncate -s 40000 "$file"; done
heals "truncated objects"

list_devices
list_objects "${devices[2]}"
rm "${objects[@]}"
heals "missing objects"

list_devices
list_objects "${devices[3]}"
for file in "${objects[@]}"; do cp "$file" "${devices[4]}/"; done
cp "${objects[0]}" "${objects[0]}.copy"
find other -type f -size -20k | head -n 10 | xargs -I{} cp {} "${devices[5]}/"
head -c 100000 /dev/urandom >"${devices[5]}/photo.jpg"
mkdir "store/.stfolder" && touch store/README
ok "duplicated and foreign files change nothing" is_equal
ok "status says that all is well" run status --check store
ok "they are left alone" test -e "${devices[5]}/photo.jpg"

number_of=0
while read -r file; do
	number_of=$((number_of + 1))
	mv "$file" "${devices[0]}/file $number_of.bin"
done < <(find "${devices[0]}" -maxdepth 1 -type f)
mv "${devices[1]}" "store/renamed by the host"
rm -r store/.stfolder
ok "renamed files and folders" is_equal

list_devices
rm -r "${devices[2]}"
ok "a lost device: it is read" is_equal
ok "status reports it" run status store
then_ok "as DEGRADED" grep -q '^ state: DEGRADED$' out
then_ok "with what to do" grep -q "^action: .*'szpool scrub'" out
fails "status --check of it" 6 "not all is well" bash -c "'$szpool' status --check --json store >/dev/null"
ok "scrub rebuilds it" run scrub store
then_ok "it says so" grep -qE '^rebuilt devices: 1, resilvered [0-9.]+M$' out
ok "a second scrub" run scrub store
then_ok "finds nothing to repair" grep -q 'scrub repaired 0B in .* with 0 errors' out
ok "all is well" run status --check store

list_devices
mkdir gone && mv "${devices[0]}" "${devices[1]}" "${devices[2]}" gone/
fails "three devices lost" 6 "(its folder is missing), device" run cat store /big
then_ok "with the next step" grep -q 'from another copy' err
fails "status of it" 6 "too many devices are missing" run status store
cp -a store lost && files lost >lost.before
fails "a copy without three devices" 6 "too many devices are missing: devices" run ls lost
then_ok "tells which, and what to do" grep -qE 'devices [0-5], [0-5] and [0-5]; of 6 devices 3 are there, and 4 are needed: copy their' err
fails "sealing it" 6 "too many devices are missing" run seal lost
run generations lost >list
mapfile -t codes < <(awk 'NR == 2 || NR == 3 { print $1 }' list)
for generation in "${codes[@]}"; do
	fails "going on from generation $generation of it" 6 "too many devices are missing" run seal --choose "$generation" lost
done
fails "or writing" 6 "too many devices are missing" run mkdir --choose "${codes[0]}" lost /x
fails "check-copy says the same" 6 "not all of the newest" bash -c "'$szpool' check-copy lost >said"
then_ok "with the devices" grep -q 'too many devices are missing: devices' said
ok "nothing was written" diff lost.before <(files lost)
mv gone/* store/
ok "brought back, it is read" is_equal
done_testing
