#!/usr/bin/env bash
# ext4 on what 'szpool nbd' serves, through nbdfuse and a loop device: the server is killed under it, and what was synced
# is there. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

loop=
end_ext4() {
	cd /
	umount "$work/e" 2>/dev/null
	[ -z "$loop" ] || losetup -d "$loop" 2>/dev/null
	fusermount3 -uz "$work/m" 2>/dev/null
	cd "$work" && end_all
}
trap end_ext4 EXIT
if ! is_root || ! command -v nbdfuse >/dev/null || [ ! -w /dev/fuse ] || ! losetup -f >/dev/null 2>&1; then
	echo "1..0 # SKIP it needs root, loop devices, FUSE and nbdfuse"
	exit 0
fi
mkdir m e
disk_take() {
	nbdfuse m/nbd "$uri" >nbdfuse.log 2>&1 &
	for _ in $(seq 200); do
		[ -e m/nbd ] && break
		sleep 0.05
	done
	loop=$(losetup -f --show m/nbd)
}
disk_leave() {
	umount e
	losetup -d "$loop"
	loop=
	for _ in $(seq 100); do
		fusermount3 -u m 2>/dev/null && break
		sleep 0.1
	done
	! findmnt "$work/m" >/dev/null
}
head -c 3000000 /dev/urandom >content
ok "create" raw_create 256M
ok "served" serve_here
ok "a disk" disk_take
ok "mkfs.ext4" limited mkfs.ext4 -q "$loop"
ok "mount" mount "$loop" e
ok "files" bash -c 'cp content e/ && cp -r /usr/include/linux e/ && sync -f e'
ok "seal beside it" run seal store
for round in 1 2; do
	(
		cp content "e/synced$round" && sync "e/synced$round" && touch "done$round"
		exec dd if=/dev/urandom of="e/load$round" bs=64K count=1000 conv=fsync status=none
	) 2>/dev/null &
	load=$!
	for _ in $(seq 400); do
		[ -e "done$round" ] && [ "$(stat -c %s "e/load$round" 2>/dev/null || echo 0)" -gt 1000000 ] && break
		sleep 0.05
	done
	ok "synced (round $round)" test -e "done$round"
	ok "and under load" test "$(stat -c %s "e/load$round")" -gt 1000000
	kill_here
	wait $load 2>/dev/null
	disk_leave >/dev/null 2>&1
	fusermount3 -uz m 2>/dev/null
	ok "served, after kill -9" serve_here
	ok "a disk" disk_take
	ok "mount" mount "$loop" e
	ok "what was synced is there" cmp content "e/synced$round"
	ok "all of it" bash -c 'cmp content e/content && diff -r /usr/include/linux e/linux'
	ok "umount" umount e
	ok "e2fsck" limited e2fsck -fn "$loop"
	ok "mount" mount "$loop" e
done
ok "umount, and all else" disk_leave
ok "stopped" run nbd --stop store
wait "$server"
server=
done_testing
