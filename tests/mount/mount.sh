#!/usr/bin/env bash
# Mounting and unmounting: options, what is wrong, other commands beside it, other users. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

# What is wrong is told before anything is asked for, or opened.
fails "a mount point that is not there" 1 "there is no such folder" run mount store missing
touch file && mkdir full m && touch full/x
fails "one that is no folder" 1 "Not a directory" run mount store file
fails "one that is not empty" 1 "is not empty" run mount store full
fails "a store that is not there" 1 "there is no such folder" run mount store m
ok "create" create store
fails "a wrong passphrase" 4 "wrong passphrase" \
	bash -c "printf wrong | '$szpool' mount --passphrase-file /dev/stdin store m"
fails "an option that is none" 2 "there is no 'blue'" run mount -o ro,blue store m
fails "one without its value" 2 "needs a value" run mount -o memory store m
fails "umount, and nothing is mounted" 1 "no store is mounted there" run umount m
ok "nothing was mounted" bash -c "! findmnt '$work/m'"

ok "mount" run mount store m
ok "it is mounted, and grants no rights" bash -c "
	findmnt -no OPTIONS m | tr , '\n' | sort | tr '\n' ' ' | grep 'nodev.*nosuid.*rw'"
passphrase=$SZPOOL_PASSPHRASE_FILE
unset SZPOOL_PASSPHRASE_FILE # is not needed any more
printf wrong >wrong
change() { env "$@" setsid timeout 60 "$szpool" passphrase --kdf interactive --new-passphrase-file wrong store; }
fails "a new passphrase for who does not know the old" 4 "wrong passphrase" change SZPOOL_PASSPHRASE_FILE=wrong
fails "nor says it" 2 "no passphrase" change
prints "df has the pool's size" "$(run df --json store | jq '.size_bytes / 1048576 | floor')" \
	bash -c "echo \$((\$(stat -fc '%b * %S' m) / 1048576))"
printf one >m/file && mkdir m/folder
prints "other commands see what was written" one run cat store /file
mkdir m2
fails "a second mount of it" 5 "is open in another process" \
	run mount --passphrase-file "$passphrase" store m2
fails "serve beside it" 5 "is open in another process" run serve --passphrase-file "$passphrase" store
ls m/new m/folder/new 2>/dev/null # the kernel remembers that there are none
ok "put" run put store file /new
ok "the mount has it" test -f m/new
ok "put, into a folder" run put store file /folder/new
ok "the mount has it" test -f m/folder/new
ok "put, over it" bash -c "printf two | '$szpool' put store - /new"
prints "the mount has the new one" two cat m/new
ok "rm" run rm store /new
ok "the mount has it no more" bash -c "! test -e m/new"
ok "mkdir" run mkdir store /made
ok "the mount has it" test -d m/made
ok "seal" run seal store

exec 3<m/file
fails "umount while it is in use" 5 "is in use" run umount m
ok "it is mounted still" is_mounted
exec 3<&-
cd m || exit 1
printf 'dirty' >folder/late
cd ..
ok "umount" run umount m
ok "it is not mounted any more" bash -c "! findmnt '$work/m'"
ok "the process has ended, and all is on disk" run mount --passphrase-file "$passphrase" store m
prints "what was written last too" dirty cat m/folder/late
ok "fusermount3 -u" fusermount3 -u m
export SZPOOL_PASSPHRASE_FILE=$passphrase
until run ls store / >/dev/null 2>err || ! grep -q "is open in another" err; do sleep 0.1; done
ok "ends it as well" run ls store /

# In use by who writes all the time, and asks for holes in what is dirty; it never syncs.
ok "mount, in the foreground" mount_here
printf 'by a signal' >m/signal
cat >writer.py <<'END'
import os, threading, time
def ask(name):
    fd = os.open(name, os.O_RDWR | os.O_CREAT)
    try:
        while True:
            os.pwrite(fd, b"x" * 65536, 0)
            os.lseek(fd, 0, os.SEEK_HOLE)
    except OSError:
        pass
for name in "m/a", "m/b":
    threading.Thread(target=ask, args=[name]).start()
fd = os.open("m/lines", os.O_RDWR | os.O_CREAT | os.O_APPEND)
try:
    while True:
        os.write(fd, b"%.3f\n" % time.time())
        time.sleep(0.05)
except OSError:
    pass
END
python3 writer.py &
writer=$!
until [ -s m/lines ]; do sleep 0.1; done
kill -TERM "$server"
timeout 100 tail --pid="$server" -f /dev/null || kill -KILL "$server"
over=$(date +%s.%N)
status=0
wait "$server" || status=$?
wait $writer
ok "SIGTERM unmounts it, in use or not" bash -c "[ $status = 0 ] && ! findmnt '$work/m'"
prints "and nothing is lost" "by a signal" run cat store /signal
last=$(run cat store /lines | tail -n 1)
ok "nor what was written a while before the end" python3 -c "assert 0 < $over - $last < 5, ($over, $last)"

ok "mount, killed" mount_here
kill -KILL "$server"
wait "$server" 2>/dev/null
fails "a mount that was left behind is told" 1 "'szpool umount m' removes it" run mount store m
ok "umount removes it" run umount m

ok "mount" run mount store m
# The newest one: of several within two minutes the ladder lets others go.
generation=$(run info --json store | jq .generation)
printf three >m/file
sync m/file
ok "an older generation beside it" run mount --generation "$generation" store m2
prints "has what was there" one cat m2/file
fails "it cannot be written to" 1 "Read-only file system" touch m2/x
prints "the other has what is there" three cat m/file
ok "umount of the older one" run umount m2
ok "umount" run umount m
ok "mount, read-only" run mount --read-only store m
fails "it cannot be written to" 1 "Read-only file system" touch m/x
fails "nor by a command" 1 "is open for reading only" run rm store /file
ok "umount" run umount m
ok "mount as fstab has it" run mount -o "ro,noatime,noauto,user,x-systemd.automount,passphrase-file=$passphrase" store m
ok "the flags are there" bash -c "findmnt -no OPTIONS m | grep -w ro | grep -w noatime"
ok "umount" run umount m
if is_root; then
	# As mount(8) calls it.
	ln -s "$szpool" mount.szpool
	ok "mount.szpool STORE FOLDER -o OPTIONS" env -u SZPOOL_PASSPHRASE_FILE \
		./mount.szpool "$work/store" "$work/m" -o "rw,allow_other,passphrase-file=$passphrase"
	printf x >m/private && chmod 600 m/private
	fails "another user sees it, and gets what he may" 1 "Permission denied" \
		setpriv --reuid 65534 --regid 65534 --clear-groups cat m/private
	chmod 0755 . m
	prints "and that" three setpriv --reuid 65534 --regid 65534 --clear-groups cat m/file
	ok "umount" run umount m
	ok "mount without --allow-other" run mount store m
	fails "another user sees nothing" 2 "Permission denied" \
		setpriv --reuid 65534 --regid 65534 --clear-groups ls "$work/m"
	ok "umount" run umount m
else
	for name in 1 2 3 4 5 6 7; do skip "other users, $name" "needs root"; done
fi

# A user without rights.
if can_be_a_user; then
	ok "a user without rights" as_a_user '
		timeout 60 ../szpool create --kdf interactive --size 1G store
		timeout 60 ../szpool mount store m
		printf mine >m/file
		stat -c %u:%g m/file
		timeout 60 ../szpool cat store /file
		findmnt -no OPTIONS m | tr , "\n" | grep -E "nosuid|nodev"
		timeout 60 ../szpool umount m
		timeout 60 ../szpool mount store m
		cat m/file
		timeout 60 ../szpool umount m'
	then_ok "owns what he makes" grep -qx 65534:65534 out
	then_ok "and reads it again" test "$(grep -c mine out)" = 2
	fails "without fusermount3, how to get it is told" 1 "apt install fuse3" as_a_user \
		'PATH=/nowhere ../szpool mount store m'
	fails "without the right to /dev/fuse, that is told" 1 "chmod 0666 /dev/fuse" as_a_user --without-fuse \
		'../szpool mount store m'
else
	for name in 1 2 3 4 5; do skip "a user without rights, $name" "needs root, and mounts of its own"; done
fi
done_testing
