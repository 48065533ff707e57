#!/usr/bin/env bash
# Volumes as a user has them: made, listed, snapshots of them, destroyed, by a process of their own and by one that serves;
# through NBD, with programs that others wrote; a file system on one whose server is killed. TAP.
# shellcheck source-path=SCRIPTDIR disable=SC2119,SC2120
. "$(dirname "$(readlink -f "$0")")/../cli/lib.sh"

PATH=/usr/bin:$PATH # where Python has the module nbd
for program in nbdcopy nbdinfo nbdsh; do
	command -v $program >/dev/null || {
		echo "1..0 # SKIP no $program here (libnbd-bin, python3-libnbd)"
		exit 0
	}
done
mkdir -m 0700 runtime
export XDG_RUNTIME_DIR=$work/runtime
loop=
server=
end_all() {
	cd /
	umount "$work/e" 2>/dev/null
	[ -z "$loop" ] || losetup -d "$loop" 2>/dev/null
	fusermount3 -uz "$work/fuse" 2>/dev/null
	"$szpool" serve --stop "$work/store" 2>/dev/null
	"$szpool" nbd --stop "$work/store" 2>/dev/null
	[ -z "$server" ] || kill -KILL "$server" 2>/dev/null
	cleanup
}
trap end_all EXIT

names() { run volumes --json store | jq -r '.[].name' | paste -sd ' '; }
snapshots() { run snapshots --json store | jq -r '.[].name' | paste -sd ' '; }
uri() { # EXPORT
	local socket
	socket=$(echo runtime/szpool/*.nbd)
	echo "nbd+unix:///$1?socket=$work/$socket"
}
sh_nbd() { # EXPORT PYTHON
	timeout 60 nbdsh -u "$(uri "$1")" -c "$2"
}
# What is read of an export, from its beginning.
same() { # EXPORT FILE
	timeout 60 nbdcopy "$(uri "$1")" copy && cmp -n "$(stat -c %s "$2")" copy "$2"
}

round() { # HOW
	fails "$1: no size" 2 "-V SIZE" run create-volume store disk
	fails "no name" 2 "needs more operands" run create-volume -V 1M store
	fails "a size that is none" 2 "not a size" run create-volume -V much store disk
	fails "nothing" 2 "more than 0" run create-volume -V 0 store disk
	fails "blocks of an odd size" 2 "power of two, 4K to 16M" run create-volume -V 1M -b 5000 store disk
	fails "too large blocks" 2 "power of two, 4K to 16M" run create-volume -V 64M -b 32M store disk
	fails "more than there is room for" 7 "a sparse one (-s)" run create-volume -V 100G store disk
	fails "a name that is none" 1 "cannot be a volume's name" run create-volume -V 1M store 'a*b'
	fails "nothing above it" 1 "'szpool create-dataset' makes one" run create-volume -V 1M store vm/disk
	prints "none was made" "" names
	fails "without checksums" 1 "checksum=off is refused" run create-volume -V 1M -o checksum=off store disk
	fails "a property of files" 1 "cannot be set of a volume; these can: checksum, " run create-volume -V 1M -o atime=on store disk
	ok "with properties" run create-volume -s -V 1M -o compression=off -o sync=always store plain
	ok "destroyed" run destroy-volume --yes store plain
	ok "create-volume" run create-volume -V 20M store disk
	fails "once more" 1 "already" run create-volume -V 20M store disk
	fails "below a volume" 1 "volumes have nothing below them" run create-volume -V 20M store disk/below
	fails "a dataset below one" 1 "which has no datasets" run create-dataset store disk/below
	fails "as a dataset" 1 "szpool volumes" run ls --dataset disk store
	ok "sparse, with what is above it" run create-volume -V 1000000001 -b 64K -s -p store vm/a/big
	prints "its size is whole blocks" "1000013824 65536 0" \
		bash -c "'$szpool' volumes --json store | jq -r '.[] | select(.name == \"vm/a/big\") | \"\(.size_bytes) \(.block_bytes) \(.reserved_bytes)\"'"
	prints "they are listed" "disk vm/a/big" names
	ok "for people" run volumes store
	then_ok "that is size and block" grep -qE '^ +20\.0M +[0-9.]+M +[0-9.]+[BK] +16\.0K +disk$' out
	prints "they are no folders" "vm" run ls store /
	ok "a snapshot" run snapshot store disk@one
	fails "of none" 1 "there is no volume 'none'" run snapshot store none@one
	fails "of a dataset" 1 "'vm' is no volume" run snapshot store vm@one
	fails "a second of that name" 1 "already" run snapshot store disk@one
	ok "another, of all files" run snapshot store files
	prints "all are listed" "files disk@one" snapshots
	fails "a volume with snapshots" 1 "has 1 snapshots" run destroy-volume --yes store disk
	fails "to none" 1 "there is no snapshot 'disk@two'" run rollback --yes store disk@two
	ok "rollback" run rollback --yes store disk@one
	ok "destroy-snapshot" run destroy-snapshot --yes store disk@one
	fails "without consent" 1 "takes --yes" run destroy-volume store disk </dev/null
	fails "one that is none" 1 "is no volume" run destroy-volume --yes store vm
	ok "destroy-volume" run destroy-volume --yes store disk
	ok "the other" run destroy-volume --yes store vm/a/big
	ok "the snapshot of files" run destroy-snapshot --yes store files
	prints "none is left" "" names
}

ok "create" create --size 2G store
round "alone"
ok "serve" run serve store
ok "served: create-volume" run create-volume -V 64M store disk
prints "it is listed" disk names
ok "nbd" run nbd store
then_ok "tells where it is" grep -qxF "$(uri disk)" out

# By NBD: data, holes, snapshots that can only be read, what is in use.
head -c 30000000 /dev/urandom >image
ok "nbdcopy to it" timeout 60 nbdcopy image "$(uri disk)"
ok "and back" same disk image
ok "the only one is what has no name" same "" image
holes() { nbdinfo --map --totals "$(uri disk)" | awk '$NF == "hole,zero" { print ($1 > 30000000) }'; }
prints "what was not written is a hole" 1 holes
ok "snapshot, while it is served" run snapshot store disk@then
ok "zeros, trim, FUA, odd offsets" sh_nbd disk '
h.pwrite(b"x" * 100001, 12345, nbd.CMD_FLAG_FUA)
h.zero(50000, 20000)
h.trim(16 << 20, 8 << 20)
h.flush()
b = h.pread(120000, 12000)
assert b[345:8000] == b"x" * 7655 and b[8000:58000] == bytes(50000) and b[58000:100346] == b"x" * 42346
assert h.pread(16 << 20, 8 << 20) == bytes(16 << 20)'
ok "the snapshot is as it was" same disk@then image
prints "it is read-only" True sh_nbd disk@then 'print(h.is_read_only())'
ok "a volume in use" timeout 60 nbdsh -u "$(uri disk)" -c "
import subprocess
def fails(*command):
    done = subprocess.run(['$szpool', *command], capture_output=True, timeout=50, stdin=subprocess.DEVNULL)
    assert done.returncode == 1 and b'in use' in done.stderr, done
fails('rollback', '--yes', 'store', 'disk@then')"
ok "rollback once nobody uses it" run rollback --yes store disk@then
ok "it is as it was" same disk image
ok "destroy-snapshot" run destroy-snapshot --yes store disk@then
ok "end" run serve --stop store
ok "scrub" run scrub store
then_ok "finds nothing" grep -q "with 0 errors" out

# A server of its own, that is killed after each kind of flush.
nbd_here() { # OPTION…
	rm -f uris
	"$szpool" nbd --foreground "$@" store >uris 2>err &
	server=$!
	timeout 60 bash -c "until [ -s uris ] || ! kill -0 $server; do sleep 0.1; done" && [ -s uris ]
}
kill_here() {
	kill -KILL "$server"
	wait "$server" 2>/dev/null
	server=
}
ok "nbd by itself" nbd_here
ok "a write with FUA" sh_nbd disk 'h.pwrite(b"fua" * 30000, 777, nbd.CMD_FLAG_FUA)'
kill_here
ok "read-only" nbd_here --read-only
ok "it is there, though nothing is written" sh_nbd disk 'assert h.is_read_only() and h.pread(90000, 777) == b"fua" * 30000'
kill_here
ok "again" nbd_here
ok "it is there" sh_nbd disk 'assert h.pread(90000, 777) == b"fua" * 30000; h.pwrite(b"flush" * 20000, 30 << 20); h.zero(1 << 20, 0); h.flush()'
kill_here
prints "others see what was flushed, too" 1 bash -c "'$szpool' snapshot store disk@killed && '$szpool' snapshots store | grep -c disk@killed"
ok "and again" nbd_here
ok "what was flushed is there" sh_nbd disk 'assert h.pread(100000, 30 << 20) == b"flush" * 20000 and h.pread(1 << 20, 0) == bytes(1 << 20)'
ok "in the snapshot too" sh_nbd disk@killed 'assert h.pread(100000, 30 << 20) == b"flush" * 20000 and h.pread(1 << 20, 0) == bytes(1 << 20)'
kill_here
ok "destroy-snapshot" run destroy-snapshot --yes store disk@killed

# A file system on a loop device, by the kernel through nbdfuse; the server is killed under it.
ok "a volume for a file system" run create-volume -V 200M -s store ext4
disk_here() {
	mkdir -p fuse
	nbd_here && { timeout 100 nbdfuse fuse/disk "$(uri ext4)" & } &&
		timeout 20 bash -c "until [ -s fuse/disk ]; do sleep 0.1; done" && loop=$(losetup -f --show fuse/disk)
}
disk_gone() {
	umount e
	losetup -d "$loop"
	loop=
	fusermount3 -uz fuse
	wait # for nbdfuse
}
if is_root && [ -w /dev/fuse ] && command -v nbdfuse >/dev/null && losetup -f >/dev/null 2>&1; then
	mkdir e
	ok "a loop device" disk_here
	ok "mkfs.ext4" mkfs.ext4 -q "$loop"
	for i in 1 2 3; do
		ok "mount" mount "$loop" e
		cp image "e/synced$i" && sync "e/synced$i"
		(exec dd if=/dev/urandom of="e/load$i" bs=64K count=300 status=none) 2>/dev/null &
		load=$!
		timeout 30 bash -c "until [ \$(stat -c %s e/load$i) -gt $((i * 300000)) ]; do sleep 0.02; done" 2>/dev/null
		ok "under load" test "$(stat -c %s e/load$i)" -gt $((i * 300000))
		kill_here
		wait $load 2>/dev/null
		disk_gone 2>/dev/null
		ok "killed, and again" disk_here
		[ -n "$loop" ] || break
		ok "mount replays ext4's log" mount "$loop" e
		for j in $(seq $i); do ok "what was synced is there" cmp image "e/synced$j"; done
		rm -f "e/load$i"
		ok "fstrim" fstrim e
		umount e
		ok "e2fsck" e2fsck -fn "$loop"
	done
	losetup -d "$loop"
	loop=
	fusermount3 -u fuse
	kill -TERM "$server"
	wait
	server=
else
	skip "ext4 on a loop device" "no root, FUSE, nbdfuse or loop device here"
fi
ok "scrub" run scrub store
then_ok "finds nothing" grep -q "with 0 errors" out

# The disk under the store is gone from one moment to the next (EXT4_IOC_SHUTDOWN), and comes back: a client gets an error
# within ten seconds, and what was flushed is there.
mkdir disk
truncate -s 700M disk.image
if is_root && mkfs.ext4 -q -m 0 disk.image && mount -o loop disk.image disk 2>/dev/null; then
	mounts+=("$work/disk")
	rm -rf store runtime/szpool && ln -s disk/store store
	ok "create" create disk/store
	ok "create-volume" run create-volume -V 64M store disk
	ok "nbd" nbd_here
	fails_in_time() {
		timeout 10 nbdsh -u "$(uri disk)" -c '
import fcntl, os, struct
h.pwrite(b"kept" * 25000, 1000, nbd.CMD_FLAG_FUA)
fcntl.ioctl(os.open("disk", os.O_RDONLY), 0x8004587D, struct.pack("I", 2))
try:
    h.pwrite(b"lost" * 25000, 1000)
    h.flush()
    print("none")
except nbd.Error:
    print("error")'
	}
	prints "a disk that is gone is an error" error fails_in_time
	kill -KILL "$server" 2>/dev/null
	wait "$server" 2>/dev/null
	server=
	umount -l disk
	ok "the disk is mounted again" timeout 30 bash -c "until mount -o loop disk.image disk 2>/dev/null; do sleep 0.2; done"
	ok "the disk is back: nbd" nbd_here
	ok "what was flushed is there" sh_nbd disk 'assert h.pread(100000, 1000) in (b"kept" * 25000, b"lost" * 25000)'
	kill -TERM "$server"
	wait "$server"
	server=
else
	skip "a disk that is gone" "needs root, and a disk in a file"
fi
done_testing
