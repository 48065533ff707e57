#!/usr/bin/env bash
# A store on a small disk: new data is refused in time, removing goes on, and what was removed makes room, also where
# another program has taken most of the reserve, or every byte. Nothing is lost. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

if ! is_root; then
	skip "small disks" "needs root"
	done_testing
	exit
fi

mkdir -m 0700 runtime
export XDG_RUNTIME_DIR=$work/runtime
trap '"$szpool" serve --stop "$work/disk/store" 2>/dev/null; cleanup' EXIT

# A file system of its own: ext4, or what SZ_DISK says (xfs, btrfs), where the machine lets us have one, else tmpfs.
kind=${SZ_DISK:-ext4}
nobodys_kib=0
[ "$kind" != xfs ] || nobodys_kib=128
mkdir disk
truncate -s 600M image
make_disk() {
	if [ "$kind" = ext4 ]; then mkfs.ext4 -q -m 0 image; else "mkfs.$kind" -q image; fi
}
if make_disk >/dev/null 2>&1 && mount -o loop image disk 2>/dev/null; then
	echo "# on $kind"
else
	mount -t tmpfs -o size=600M tmpfs disk || exit 1
	echo "# on tmpfs"
fi
mounts+=("$work/disk")

free_kib() { df --output=avail -k disk | tail -n 1; }
has_free() { # KIB
	[ "$(free_kib)" -ge "$1" ] || { free_kib && false; }
}
# What another program takes: all but so much.
fill_to() { # MIB
	local kib
	sync -f disk
	kib=$(($(free_kib) - $1 * 1024))
	[ $kib -le 0 ] || head -c "${kib}K" /dev/zero >>disk/filler
	sync -f disk
}
# What is dead still comes back for a put; then others take that too.
put_while_filled() { # MIB
	local i
	for i in 1 2 3 4 5; do
		fill_to "$1"
		run put disk/store older /new || return
		run rm disk/store /new
	done
}
# All of it.
fill_all() {
	local i
	for i in 1 2 3; do
		dd if=/dev/zero bs=64K status=none >>disk/filler 2>/dev/null
		dd if=/dev/zero bs=4K status=none >"disk/filler.$i" 2>/dev/null
		sync -f disk
	done
	[ "$(free_kib)" -le "$nobodys_kib" ] || { free_kib && false; }
}
available_is_small() { run df --json disk/store | grep -q '"available_bytes": [0-9]\{1,8\}\b'; }

printf 'older\n' >older
head -c 100000000 /dev/urandom >medium
head -c 500000000 /dev/urandom >large
ok "create" create disk/store
ok "put" run put disk/store older medium /
fails "what the disk has no room for" 7 "large: cannot be stored: no space is left on the store's disk" \
	run put disk/store large /
ok "is refused while there is some left" has_free 50000
fails "no part of it is left" 1 "No such file" run ls disk/store /large
ok "what it took has come back" run put disk/store medium /second
fails "once more" 7 "no space is left on the store's disk" run put disk/store large /
prints "what was there stays" older run cat disk/store /older

fails "new data is refused" 7 "no space is left on the store's disk" put_while_filled 40
ok "df tells what the disk has" available_is_small
prints "with some of the reserve gone it can be read" older run cat disk/store /older
fails "a new folder too" 7 "No space left" run mkdir disk/store /folder
ok "remove" run rm disk/store /second
ok "seal" run seal disk/store
ok "what was removed makes room for new data" run put disk/store older /new
rm disk/filler

ok "serve" run serve disk/store
fails "new data is refused there" 7 "no space is left on the store's disk" \
	run put disk/store large /
ok "seal there" run seal disk/store
fill_to 40
ok "remove there" run rm disk/store /medium
ok "seal once more" run seal disk/store
ok "stop" run serve --stop disk/store
rm disk/filler
ok "compact" run compact disk/store
ok "what was removed has made room" run put disk/store medium /fourth
prints "nothing is lost" older run cat disk/store /older

# Others have taken every byte.
ok "put" run put disk/store medium /fifth
ok "no byte is free" fill_all
ok "a listing needs none" run ls disk/store
prints "nor does reading" older run cat disk/store /older
ok "nor a copy from the store" run get disk/store /fourth copied
then_ok "which is right" cmp copied medium
ok "status says it" bash -c "'$szpool' status disk/store | tee /dev/stderr | grep -q ONLINE"
ok "remove with no byte free" run rm disk/store /fourth
ok "seal" run seal disk/store
ok "once more, without history" run keep --drop-history --yes disk/store
ok "no byte is free again" fill_all
ok "remove" run rm disk/store /new
ok "seal" run seal disk/store
ok "no byte is free again" fill_all
ok "a process that keeps the store open" run serve disk/store
ok "remove there" run rm disk/store /fifth
ok "new data has room there at once" run put disk/store older /sixth
ok "stop" run serve --stop disk/store
prints "nothing is lost" older run cat disk/store /older
prints "what was put is there" older run cat disk/store /sixth
rm disk/filler*

# Processes that are killed while they fill the disk leave a store that opens for writing as it is: what counts is
# sealed in the space that there is, also when that is killed too.
ok "without history" run keep --drop-history --yes disk/store
head -c 150M /dev/zero >disk/filler
killed=0
for i in 1 2 3; do
	"$szpool" put disk/store large / 2>/dev/null &
	putter=$!
	while [ "$(free_kib)" -gt $((60000 + 20000 * i)) ] && kill -0 $putter 2>/dev/null; do sleep 0.02; done
	kill -KILL $putter 2>/dev/null && killed=$((killed + 1))
	wait $putter 2>/dev/null
	prints "killed, it can be read" older run cat disk/store /older
	timeout -s KILL "0.${i}5" "$szpool" seal disk/store 2>/dev/null
	ok "and sealed" run seal disk/store
	ok "and removed from" run rm disk/store /sixth
	ok "and put to" run put disk/store older /sixth
done
rm -f disk/filler
ok "some were" test $killed -gt 0
ok "and it is sound" bash -c "'$szpool' scrub disk/store | grep -q 'with 0 errors'"
done_testing
