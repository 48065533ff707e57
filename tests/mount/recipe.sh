#!/usr/bin/env bash
# What szpool grew from: six encrypted devices, 'zpool create raidz2' on them, rsync to a host. Here the devices are a raw
# store's, attached, and the ZFS is another one: Debian's zfs-fuse (tools/install-deps unpacks it). TAP.
# shellcheck source-path=SCRIPTDIR
zfs_fuse=/usr/local/lib/szpool/zfs-fuse
if ! [ "$(id -u)" = 0 ] || ! [ -x $zfs_fuse/sbin/zfs-fuse ] || ldd $zfs_fuse/sbin/zfs-fuse | grep -q 'not found' ||
	! unshare -m true 2>/dev/null; then
	echo "1..0 # SKIP needs root, zfs-fuse, and mounts of its own"
	exit 0
fi
# Its socket, its locks and what it knows of pools stand where a ZFS of this machine has its own.
[ -n "${SZPOOL_TEST_ALONE:-}" ] || SZPOOL_TEST_ALONE=1 exec unshare -m "$0" "$@"
for folder in /var/run/zfs /var/lock/zfs /etc/zfs; do
	folder=$(readlink -m $folder) # to /run, which may be empty yet
	mkdir -p "$folder" && mount -t tmpfs none "$folder" || exit 1
done
. "$(dirname "$(readlink -f "$0")")/lib.sh"

daemon=
end_all() {
	[ -z "$daemon" ] || kill "$daemon"
	wait
	unmount_all
	cleanup
}
trap end_all EXIT

zpool() { timeout 60 $zfs_fuse/sbin/zpool "$@"; }
is_answering() {
	local tries=100
	until zpool list >/dev/null 2>&1; do
		[ $((tries--)) -gt 0 ] || return 1
		sleep 0.1
	done
}
is_healthy() { zpool status recipe | tee out | grep -q "state: $1" && grep -q "errors: No known data errors" out; }

mkdir m pool
ok "create" create --raw --raid raidz2 --size 256M store
ok "attach" run attach store m
$zfs_fuse/sbin/zfs-fuse --no-daemon >daemon.out 2>&1 &
daemon=$!
ok "another ZFS" is_answering
ok "zpool create raidz2" zpool create -m "$work/pool" recipe raidz2 "$work"/m/{0..5}
ok "a tree" cp -a /usr/include/linux pool/tree
ok "is on disk" sync -f pool/tree
ok "scrub" zpool scrub recipe
ok "the pool is well" is_healthy ONLINE
ok "export" zpool export recipe
ok "detach" run detach m
ok "status" run status --check store
then_ok "says that there is no pool of ours" grep -q "pool: none; 'szpool attach store FOLDER'" out
fails "what needs one says why" 1 "the pool of another ZFS on its devices" run ls store

ok "a copy" rsync -a --exclude live/ store/ copy/
# shellcheck disable=SC2012 # names of ours
ls -d copy/*/ | head -n 2 >lost
then_ok "of which the host loses two devices" xargs rm -r <lost
rm -r store state
mv copy store
ok "attach, with nothing but the passphrase" run attach store m
prints "four devices" 4 bash -c "ls m | wc -l"
ok "zpool import" zpool import -d "$work/m" recipe
ok "the pool lacks two" is_healthy DEGRADED
ok "and nothing else" diff -r --no-dereference /usr/include/linux pool/tree
ok "a new file" cp passphrase pool/tree/new
ok "export" zpool export recipe
ok "detach" run detach m
ok "attach once more" run attach store m
ok "zpool import" zpool import -d "$work/m" recipe
ok "the new file is there" cmp passphrase pool/tree/new
ok "export" zpool export recipe
ok "detach" run detach m
done_testing
