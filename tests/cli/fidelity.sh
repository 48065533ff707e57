#!/usr/bin/env bash
# A nasty tree goes in and comes out with all that it has: names, content, holes, modes, owners,
# times, symlinks, hard links, extended attributes, ACLs, capabilities, FIFOs, devices. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

listing() {
	(
		cd "$1" || exit 1
		find . ! -type d -printf '%P\t%y %m %U:%G %n %s %T@ -> %l\0' | LC_ALL=C sort -z | tr '\0' '\n'
		find . -mindepth 1 -type d -printf '%P\t%m %U:%G %T@\n' | LC_ALL=C sort
		find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
		find . -links +1 ! -type d -printf '%i %P\n' | LC_ALL=C sort |
			awk '{ i = $1; $1 = ""; names[i] = names[i] "|" $0 } END { for (i in names) print names[i] }' |
			LC_ALL=C sort
		find . -type b -o -type c | LC_ALL=C sort | xargs -r stat -c '%n %t %T'
	)
}
# In the order of their names: no file system's own.
attributes() { (cd "$1" && find . -print0 | LC_ALL=C sort -z | xargs -0 getfattr -h -d -m - 2>/dev/null); }
acls() { (cd "$1" && find . ! -name 'sock*' -print0 | LC_ALL=C sort -z | xargs -0 getfacl -P 2>/dev/null); }
blocks() { (cd "$1" && stat -c '%n %b' sparse* | LC_ALL=C sort); }
equal() { diff <("$1" "$2") <("$1" "$3") | head -n 20 && [ "${PIPESTATUS[0]}" = 0 ]; }
not_larger() { # each file takes at most 64 KiB more than its origin
	join <(blocks "$1") <(blocks "$2") | awk '$3 > $2 + 128 { print; bad = 1 } END { exit bad }'
}

mkdir -p 'tree/sub folder/deep' tree/empty tree/many
printf x >'tree/sub folder/one byte'
: >tree/nothing
head -c 3000000 /dev/urandom >tree/big
head -c 1048576 /dev/urandom >tree/one-record
head -c 1048577 /dev/urandom >tree/one-record-and-a-byte
head -c 131073 /dev/zero >tree/zeros
for i in $(seq 300); do echo "$i" >"tree/many/$i"; done
printf 'newline' >$'tree/a\nb'
printf 'latin' >$'tree/\xe9'
printf 'long' >"tree/$(printf 'n%.0s' {1..255})"
printf 'dash' >tree/-r
printf 'own name' >tree/.szpool-get-0
ln tree/big 'tree/sub folder/hard link'
ln -s ../big 'tree/sub folder/symlink'
ln 'tree/sub folder/symlink' tree/second-name-of-a-symlink
ln -s "/no/such/$(printf 's%.0s' {1..300})" tree/long-symlink
mkfifo tree/fifo
truncate -s 40M tree/sparse-empty
truncate -s 40M tree/sparse-middle && printf mid | dd of=tree/sparse-middle bs=1 seek=20000000 conv=notrunc status=none
head -c 2500000 /dev/urandom >tree/sparse-tail && truncate -s 40M tree/sparse-tail
truncate -s 9M tree/sparse-head && head -c 100000 /dev/urandom >>tree/sparse-head
chmod 4751 tree/one-record
chmod 0400 'tree/sub folder/one byte'
chmod 1733 tree/empty
chmod 2750 tree/many
touch -d '2001-02-03 04:05:06.123456789' tree/big
touch -d '1969-12-31 23:59:59 UTC' tree/zeros
touch -d '2038-01-19 03:14:08.5 UTC' tree/nothing
touch -h -d '2002-01-01' tree/long-symlink
has_xattrs=false
if setfattr -n user.colour -v blue tree/big 2>/dev/null; then
	has_xattrs=true
	setfattr -n user.empty tree/big
	setfattr -n user.binary -v 0x00ff0a tree/nothing
	setfattr -n user.long -v "$(printf 'v%.0s' {1..2000})" tree/empty
	setfacl -m u:12:rw,g:34:r tree/one-record-and-a-byte
	setfacl -d -m u:12:rx tree/many
fi
if is_root; then
	mknod tree/null c 1 3
	mknod tree/disk b 259 70000
	chown 12:34 tree/sparse-tail
	chown -h 56:78 tree/long-symlink
	chown 12:34 tree/one-record && chmod 4751 tree/one-record
	setcap cap_net_raw+ep tree/one-record-and-a-byte 2>/dev/null
	setfattr -n trusted.kept -v yes tree/big 2>/dev/null
fi
touch -d '1999-01-01 00:00:00.000000001' 'tree/sub folder'
listing tree >before

ok "create" create store
ok "put" run put store tree /
ok "get" run get store /tree back
ok "names, content, modes, owners, times, links" equal listing tree back
if $has_xattrs; then
	ok "extended attributes" equal attributes tree back
	ok "ACLs" equal acls tree back
else
	skip "extended attributes" "$work does not take them"
	skip "ACLs" "$work does not take them"
fi
ok "holes are holes" not_larger tree back
ok "the source is as it was" bash -c "$(declare -f listing); diff before <(listing tree)"
ok "put it over itself" run put store tree /
ok "get it over itself" bash -c "mkdir again && '$szpool' get store /tree again && '$szpool' get store /tree again"
ok "still equal" equal listing tree again/tree
ok "no temporary name is left" bash -c "! find again -name '.szpool-get-*' ! -name .szpool-get-0 | grep ."
ok "space of what was replaced is free again" bash -c \
	"[ \$('$szpool' df --json store | jq .used_bytes) -lt 12000000 ]"

# A file system that takes extended attributes of 64 KiB: tmpfs on a new kernel, else ext4 with an option.
takes_large() { python3 -c 'import os,sys; os.setxattr(sys.argv[1], "user.try", bytes(60 << 10))' "$1" 2>/dev/null; }
large_attributes() { # of all that is in a folder, in order, as digests
	python3 - "$1" <<'EOP'
import hashlib, os, sys
os.chdir(sys.argv[1])
for path in sorted(["file", "folder", "many"]):
    for name in sorted(os.listxattr(path) if os.path.exists(path) else []):
        print(path, name, hashlib.sha256(os.getxattr(path, name)).hexdigest())
EOP
}
large_disk() { # FOLDER
	mkdir "$1" && mount -t tmpfs tmpfs "$1" && mounts+=("$work/$1") && takes_large "$1" && return
	truncate -s 64M image && mkfs.ext4 -q -O ea_inode image && mount -o loop image "$1" &&
		mounts+=("$work/$1") && takes_large "$1"
}
if is_root && large_disk large >/dev/null 2>&1; then
	mkdir -p large/tree/folder
	python3 - <<'EOP'
import os
os.chdir("large/tree")
for path, name, size in (("file", "user.60 KiB", 60 << 10), ("file", "user.64 KiB", 65536),
                         ("file", "user.32 KiB", 32768), ("file", "user.small", 3),
                         ("folder", "user.60 KiB", 60 << 10), ("many", "user.first", 30000),
                         ("many", "user.second", 30000), ("many", "user.third", 30000)):
    if path != "folder":
        open(path, "ab").close()
    os.setxattr(path, name, os.urandom(size))
EOP
	ok "put large extended attributes" run put store large/tree /large
	then_ok "nothing is said of them" bash -c "[ ! -s err ]"
	ok "get them" run get store /large large/back
	ok "all are there" equal large_attributes large/tree large/back
	ok "put them over themselves" run put store large/tree/file large/tree/many /large
	ok "get them again" run get store /large large/again
	ok "all are there again" equal large_attributes large/tree large/again
	ok "remove them" run rm -r store /large
	ok "their space is free" bash -c "[ \$('$szpool' df --json store | jq .used_bytes) -lt 12000000 ]"
else
	skip "large extended attributes" "needs root, and a file system that takes them"
fi

mkdir links && echo shared >links/first && ln links/first second
ok "hard links across sources" run put store links/first second /
prints "are one file in the pool" "2 2" bash -c "'$szpool' ls --json store /first /second | jq -r '[.[].links] | join(\" \")'"

python3 - <<'EOP'
import socket
socket.socket(socket.AF_UNIX).bind("socket")
EOP
ok "a socket is left out with a warning" bash -c "'$szpool' put store socket / 2>&1 | grep -q 'a socket is not stored'"
ok "put a folder" run put store links /
# What changes while it is read may be of no state that it ever had.
head -c 300000000 /dev/zero >growing
(while printf x >>growing; do sleep 0.02; done) &
writer=$!
fails "a file that changes while it is read" 1 "growing: changed while it was read" run put store growing /
then_ok "is counted" grep -q 'changed while they were read (see above): 1' err
kill $writer && wait $writer 2>/dev/null
ok "what there was is stored" run ls store /growing
ok "once it is still, it is stored without a word" run put store growing /
then_ok "at all" test ! -s err
printf x >other
(sleep 0.2 && mv other growing) &
mover=$!
ok "what another file takes the name of is stored as it was" run put store growing /
wait $mover
then_ok "without a word" test ! -s err
ok "remove it" run rm store /growing
rm growing

if is_root && mkdir plain && mount -t ramfs ramfs plain 2>/dev/null; then
	mounts+=("$work/plain")
	printf x >attributed
	if setfattr -n user.a -v 1 attributed 2>/dev/null; then
		ok "put a file with an attribute" run put store attributed /
		fails "get it to where there are none" 1 "user.a of plain/attributed: Operation not supported" \
			run get store /attributed plain
		ok "its content is there" cmp attributed plain/attributed
		ok "get it with its attribute" run get store /attributed kept
		ok "remove it" run rm store /attributed
	else
		skip "attributes that cannot be set" "needs extended attributes"
	fi
else
	skip "attributes that cannot be set" "needs root, and ramfs"
fi

mkdir elsewhere target && ln -s ../elsewhere target/links
fails "a link that somebody has laid in the target is not followed" 1 "target/links: left out: Not a directory" \
	run get store /links target
then_ok "nothing is written where it leads" bash -c "[ -z \"\$(ls -A elsewhere)\" ]"
ln -s elsewhere named
ok "the target itself may be a link" run get store /links named
then_ok "to where all goes" cmp links/first elsewhere/links/first
if command -v setfacl >/dev/null && mkdir inherited && setfacl -m d:u:65534:rwx inherited 2>/dev/null; then
	ok "get into a folder with a default ACL" run get store /links inherited
	ok "nothing has an ACL of it" bash -c "! getfacl -cR inherited/links | grep -E '65534|default'"
else
	skip "a default ACL" "needs setfacl, and a file system that takes it"
fi

if is_root; then
	mkdir -m 0777 theirs && mv store theirs/ && chown -R 65534:65534 theirs/store && chmod 0755 . && chmod 0644 passphrase
	ok "another user gets what is his to have" run_as_nobody get theirs/store /tree theirs/tree
	then_ok "devices are left out with a warning" grep -q 'a device, which only root may make' err
	prints "set-user-ID bits of others' are not given" 751 stat -c %a theirs/tree/one-record
	printf secret >unreadable && chmod 0600 unreadable
	fails "what he may not read is left out" 1 "unreadable: left out: Permission denied" \
		run_as_nobody put theirs/store unreadable passphrase /
	prints "the rest goes on" "$(cat passphrase)" run_as_nobody cat theirs/store /passphrase
else
	skip "another user" "needs root"
fi
done_testing
