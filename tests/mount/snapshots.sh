#!/usr/bin/env bash
# Snapshots in a mount: .zfs/snapshot/NAME. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

ok "create" create store
mkdir m
ok "mount" mount_here
mkdir -p m/a/b
printf one >m/a/file
head -c 3000000 /dev/urandom >m/a/b/big
cp m/a/b/big big
exec 3>m/open
printf dirty >&3
ok "there is no snapshot" bash -c "! ls m/.zfs/snapshot/first 2>/dev/null"
ok "snapshot" run snapshot store first
exec 3>&-
printf two >m/a/file
rm m/a/b/big
prints ".zfs is not listed" $'.\n..\na\nopen' ls -a m
prints "but found" snapshot ls m/.zfs
prints "the snapshots are" first ls m/.zfs/snapshot
prints "a file in it" one cat m/.zfs/snapshot/first/a/file
prints "what was dirty then" dirty cat m/.zfs/snapshot/first/open
ok "one that is gone since" cmp big m/.zfs/snapshot/first/a/b/big
prints "what is there now" two cat m/a/file
ok "files of both are not the same" bash -c "! [ m/a/file -ef m/.zfs/snapshot/first/a/file ]"
ok "a copy of the tree" cp -a m/.zfs/snapshot/first/a copy
ok "is the same" diff -r copy m/.zfs/snapshot/first/a
fails "nothing is written there" 1 "Read-only file system" mkdir m/.zfs/snapshot/first/x
fails "nor truncated" 1 "Read-only file system" truncate -s 0 m/.zfs/snapshot/first/a/file
fails "nor removed" 1 "Read-only file system" rm -f m/.zfs/snapshot/first/a/file
fails "nor made beside them" 1 "Read-only file system" touch m/.zfs/snapshot/x
fails "nor linked to" 1 "Invalid cross-device link" ln m/.zfs/snapshot/first/a/file m/linked
ok "copied from it" cp --reflink=auto m/.zfs/snapshot/first/a/b/big m/big
then_ok "the same" cmp big m/big
ok "mv out of it copies, and cannot remove" bash -c "! mv m/.zfs/snapshot/first/a/file m/moved 2>/dev/null && cmp m/moved copy/file"
ok "df" df m/.zfs/snapshot/first
fails "rollback while it is mounted" 1 "is mounted" run rollback --yes store first
prints "commands read it too" one run cat --snapshot first store /a/file
ok "a second one" run snapshot store second
prints "both are there" $'first\nsecond' ls m/.zfs/snapshot
prints "and have what they had" two cat m/.zfs/snapshot/second/a/file
exec 3<m/.zfs/snapshot/first/a/file
fails "destroying one that is in use" 1 "it is in use" run destroy-snapshot --yes store first
prints "it is there" one cat m/.zfs/snapshot/first/a/file
exec 3<&-
ok "destroying it" run destroy-snapshot --yes store first
prints "it is gone" second ls m/.zfs/snapshot
ok "for the kernel too" bash -c "! ls m/.zfs/snapshot/first 2>/dev/null"
ok "another of its name" run snapshot store first
prints "has what is new" two cat m/.zfs/snapshot/first/a/file
touch m/later
ok "SIGTERM, a snapshot in use or not" bash -c "exec 3<m/.zfs/snapshot/first/a/file; kill -TERM $server; timeout 60 tail --pid=$server -f /dev/null"
wait "$server"
ok "rollback" run rollback --yes --destroy-newer store second
ok "mount" mount_here
ok "what was made since is gone" test ! -e m/later
prints "what was there is" two cat m/a/file
ok "umount" run umount m
ok "scrub" run scrub store
then_ok "finds nothing" grep -q "with 0 errors" out
done_testing
