#!/usr/bin/env bash
# The disk under a mounted store fails, or is full: who waits gets an error within seconds, whoever opens anew goes on
# once the cause is gone, and nothing that was synced is lost. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

mkdir disk m
truncate -s 700M image
if ! { is_root && mkfs.ext4 -q -m 0 image && mount -o loop image disk; } 2>/dev/null; then
	skip "a disk that fails" "needs root, and a disk in a file"
	done_testing
	exit
fi
mounts+=("$work/disk")

# The disk is gone from one moment to the next (EXT4_IOC_SHUTDOWN, without its journal), and comes back.
cat >shutdown.py <<'END'
import fcntl, os, struct
fcntl.ioctl(os.open("disk", os.O_RDONLY), 0x8004587D, struct.pack("I", 2))
END
disk_return() {
	umount -l disk && until mount -o loop image disk 2>/dev/null; do sleep 0.2; done
}
# An error within ten seconds, and no signal. Standard output is its errno.
cat >error_of.py <<'END'
import errno, os, sys, threading
def run():
    try:
        exec(sys.argv[1])
        print("none")
    except OSError as error:
        print(errno.errorcode[error.errno])
thread = threading.Thread(target=run, daemon=True)
thread.start()
thread.join(10)
if thread.is_alive():
    print("hangs")
sys.stdout.flush()
os._exit(0)
END
error_of() { python3 error_of.py "$1"; }
new_file_synced='
os.stat("m/synced") # not what is under the mount
fd = os.open("m/new", os.O_RDWR | os.O_CREAT)
os.write(fd, b"x" * 4096)
os.fsync(fd)'
goes_on() { # SECONDS
	for _ in $(seq "$(($1 * 2))"); do
		[ "$(error_of "$new_file_synced")" != none ] || return 0
		sleep 0.5
	done
	return 1
}

ok "create" create disk/store
ok "mount" run mount disk/store m
unset SZPOOL_PASSPHRASE_FILE # it is not needed again
printf wrong >wrong
printf 'copper kettle on a narrow shelf' >new
change() { run passphrase --kdf interactive --passphrase-file "$1" --new-passphrase-file "$2" disk/store; }
fails "a new passphrase for who does not know the old" 4 "wrong passphrase" change wrong new
ok "for who does: the store is opened again with it" change passphrase new
printf synced >m/synced && sync m/synced
printf open >m/open && sync m/open
exec 3<>m/open
head -c 50000000 /dev/zero >m/much
python3 shutdown.py
prints "a disk that is gone: what is to be on disk is an error" EIO error_of "$new_file_synced"
prints "what is under way too" EIO error_of 'os.sync(); os.fsync(os.open("m/much", os.O_RDWR))'
prints "and what comes later" EIO error_of 'os.mkdir("m/folder")'
prints "names" EIO error_of 'os.listdir("m")'
ok "it stays mounted" is_mounted
disk_return
ok "the disk is back: work goes on" goes_on 60
prints "what was synced is there" synced cat m/synced
prints "who had a file open is told for ever" ENOTCONN error_of 'os.fsync(3)'
exec 3>&-
prints "other commands find it" synced run cat disk/store /synced

# Unmounted while it is refused.
python3 shutdown.py
prints "gone once more" EIO error_of "$new_file_synced"
umount_lost() { run umount m || grep -q "is unmounted, but the pool was suspended" err; }
ok "umount then" umount_lost
ok "it is not mounted any more" bash -c "! findmnt '$work/m'"
disk_return
export SZPOOL_PASSPHRASE_FILE=$work/new
ok "it needs no repair" run mount disk/store m
prints "what was synced is there" synced cat m/synced

# Another mount has its place meanwhile.
ok "umount" run umount m
"$szpool" mount --foreground disk/store m 2>mounted &
server=$!
until is_mounted; do sleep 0.1; done
exec 3<m/synced
python3 shutdown.py
prints "gone again" EIO error_of "$new_file_synced"
prints "it is refused" EIO error_of 'os.listdir("m")'
sleep 1
umount -l m && mount -t tmpfs none m
disk_return
ok "the process ends" timeout 60 tail --pid="$server" -f /dev/null
ok "and says why" grep -q "something else is mounted there" mounted
ok "that stays" findmnt -t tmpfs m
exec 3<&-
umount m
ok "mount" run mount disk/store m

# Full: others take the disk, the reserve included.
head -c 100000000 /dev/urandom >m/large && sync m/large
fallocate -l "$(df --output=avail -B1 disk | tail -n 1)" disk/filler
head -c 20000000 /dev/zero >disk/rest 2>/dev/null
prints "a full disk: new data" ENOSPC error_of "$new_file_synced"
error_of 'os.unlink("m/large"); os.sync()' >first
ok "removing is done, or an error" grep -qxE 'none|ENOSPC' first
error_of 'os.sync(); os.unlink("m/open")' >second
rm disk/filler disk/rest
ok "there is room: work goes on" goes_on 60
ok "umount" run umount m
ok "it is sound" bash -c "'$szpool' scrub disk/store | grep -q 'with 0 errors'"
done_testing
