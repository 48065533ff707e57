#!/usr/bin/env bash
# A store's devices as files, for what uses disks: any offset and length against a model, several writers, the end of a
# device, holes, damage, kills, full disks; ext4 over a loop device, and other ZFS. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

loops=()
end_all() {
	local loop
	cd /
	umount "$work/e" 2>/dev/null
	for loop in "${loops[@]}"; do losetup -d "$loop" 2>/dev/null; done
	unmount_all
	cleanup
}
trap end_all EXIT

attach_here() { serve_here attach "$@"; }
kill_here() {
	kill -KILL "$server"
	wait "$server" 2>/dev/null
	run detach m
}

# What is wrong is told before anything is asked for, or opened.
fails "no folder given" 2 "szpool attach STORE FOLDER" run attach store
fails "a folder that is not there" 1 "'mkdir missing' makes it" run attach store missing
mkdir full m other && touch full/x file
fails "one that is not empty" 1 "is not empty" run attach store full
fails "a file" 1 "Not a directory" run attach store file
fails "a store that is not there" 1 "there is no such folder" run attach store m
fails "a folder that is no store" 3 "" run attach other m
ok "create" create store
head -c 3000000 /dev/urandom >content
ok "put" run put store content /
fails "a wrong passphrase" 4 "wrong passphrase" \
	bash -c "printf wrong | '$szpool' attach --passphrase-file /dev/stdin store m"
fails "a generation that is not there" 1 "generation" run attach --generation 4711 store m
fails "an option that is none" 2 "there is no 'blue'" run attach -o ro,blue store m
fails "one that is for a pool" 2 "there is no 'dataset'" run attach -o dataset=x store m
fails "detach, and nothing is attached" 1 "no store is mounted there" run detach m
ok "nothing was mounted" bash -c "! findmnt '$work/m'"
ok "a mounted pool" run mount store m
fails "its devices cannot be attached" 5 "is open in another process" run attach store other
ok "umount" run umount m

ok "attach" run attach store m
prints "a file for each device" "0 1 2 3 4 5 " bash -c "ls m | tr '\n' ' '"
prints "as large as it is" "$(run info --json --generation 2 store | jq '.devices[5].size_bytes')" stat -c %s m/5
prints "for nobody else" 600 stat -c %a m/0
fails "the store cannot be attached twice" 5 "is open in another process" run attach store other
for command in "ls store" "scrub store" "snapshot store x" "trim store"; do
	# shellcheck disable=SC2086 # words
	fails "'$command' says where it is attached" 5 "attached at $work/m" run $command
done
fails "detach is told as the way out" 5 "'szpool detach $work/m' ends that" run ls store
ok "status" run status store
then_ok "tells it too" grep -qF "attached at $work/m" out
then_ok "and every device" test "$(grep -c 'device . *ONLINE' out)" = 6
fails_check() { run status --check store >/dev/null; }
fails "but not whether all is well" 1 "it is not known what is on its devices" fails_check
ok "info" run info store
then_ok "tells it too" grep -qF "attached at $work/m" out
prints "programs as well" "null $work/m null" bash -c "
	'$szpool' status --json store | jq -r '\"\(.pool) \(.attached) \(.scan)\"'"
ok "seal needs no pool" run seal store
ok "nor do generations" run generations store
ok "nor keep" run keep store
fails "nothing is made in the folder" 1 "Operation not permitted" touch m/6
fails "nor removed" 1 "Operation not permitted" rm -f m/0
fails "a device does not get shorter" 1 "Operation not permitted" truncate -s 4096 m/0
fails "nor is it emptied at an open" 1 "Operation not permitted" dd if=/dev/zero of=m/0 count=1
ok "to its own size it may be set" truncate -s "$(stat -c %s m/0)" m/0
ok "mode and owner may be set" bash -c "chmod 640 m/0 && [ \$(stat -c %a m/0) = 640 ]"

if command -v zdb >/dev/null; then
	ok "zdb reads the pool, and finds all blocks whole" zdb -e -p m -bcc szpool
else
	skip "zdb reads the pool" "zdb is not here"
fi
# Another ZFS that writes: a feature that it alone knows. It asks the kernel whether the pool is open there, and there need
# be no such kernel.
cat >beside_no_kernel <<'END'
mount -t tmpfs tmpfs /dev
for node in zfs:3 null:3 zero:5 random:8 urandom:9; do mknod "/dev/${node%:*}" c 1 "${node#*:}"; done
exec timeout 120 "$@"
END
if is_root && command -v zhack >/dev/null && unshare -m true 2>/dev/null; then
	ok "another ZFS changes the pool" unshare -m bash beside_no_kernel \
		zhack -d "$work/m" feature enable -r szpool org.example:test
	ok "detach" run detach m
	ok "the pool opens here" run status --check store
	ok "a file in it" run get store /content back
	then_ok "is what it was" cmp content back
	ok "a scrub" run scrub store
	then_ok "finds nothing" grep -q "with 0 errors" out
	ok "attach" run attach store m
	ok "the feature is there" bash -c "zhack -d m feature stat szpool | grep org.example:test"
else
	skip "another ZFS changes the pool" "needs root, zhack, and mounts of its own"
fi
ok "detach" run detach m
ok "it is not mounted any more" bash -c "! findmnt '$work/m'"
ok "and the store not open" run mount store m
ok "umount" run umount m

# A store without a pool, one device and small, from here on.
rm -r store
fails "a store without a pool wants a size" 2 "--raw needs --size" run create --raw store
fails "enough devices for what is to be built on them" 2 "needs at least 2" \
	run create --raw --raid raidz1 --devices 1 --size 1G store
fails "and nothing that a pool has" 2 "takes no --property" run create --raw -o atime=on --size 1G store
fails "a size that is too small" 2 "has to be 64M or more" run create --raw --size 63M store
ok "nothing was made" bash -c '! test -e store'
ok "create --raw" run create --raw --kdf interactive --size 256M store
ok "all is well with it" run status --check store
then_ok "and there is no pool" grep -q "pool: none; 'szpool attach store FOLDER'" out
ok "info" run info store
then_ok "tells it too" grep -q "pool: none" out
for command in "ls store" "scrub store" "mount store m" "serve store" "put store content /"; do
	# shellcheck disable=SC2086 # words
	fails "'$command' says what can be done" 1 "FOLDER' shows them as files" run $command
done
ok "compact needs none" run compact store
ok "keep generations that follow each other soon" run keep --last 50 store
ok "attach" attach_here
cat >model.py <<'END'
import ctypes, mmap, os, random, sys
seed, check_only = int(sys.argv[1]), len(sys.argv) > 2
random.seed(seed)
size = 3 << 20
at = 40 << 20
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open("m/0", os.O_RDWR)
direct = os.open("m/0", os.O_RDWR | os.O_DIRECT)
model = bytearray(os.pread(fd, size, at))
PUNCH, ZERO = 3, 16
def fallocate(mode, offset, length):
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")
if check_only:
    assert model == open("model", "rb").read()
    sys.exit()
m = mmap.mmap(fd, size, offset=at)
for step in range(1500):
    length = random.choice([1, 100, 512, 4096, 5000, 65536, 300000])
    length = random.randint(1, length) if random.random() < .7 else length
    offset = random.randint(0, size - length)
    if random.random() < .3:
        offset = offset // 4096 * 4096
    data = random.randbytes(length)
    kind = random.randrange(8)
    if kind < 3:
        assert os.pwrite(fd, data, at + offset) == length
    elif kind == 3: # by sectors, past the kernel's cache
        offset, length = offset // 4096 * 4096, length // 4096 * 4096
        if length == 0: continue
        page = mmap.mmap(-1, length)
        data = data[:length]
        page[:] = data
        assert os.pwritev(direct, [page], at + offset) == length
    elif kind == 4:
        m[offset:offset + length] = data
    elif kind == 5:
        fallocate(random.choice([PUNCH, ZERO, ZERO | 1]), at + offset, length)
        data = bytes(length)
    elif kind == 6:
        assert os.pread(fd, length, at + offset) == model[offset:offset + length], step
        continue
    else:
        (m.flush if random.random() < .5 else lambda: os.fsync(fd))()
        continue
    model[offset:offset + length] = data
assert os.pread(fd, size, at) == model
m.flush()
os.fsync(fd)
open("model", "wb").write(model)
END
seed=${RANDOM_SEED:-$RANDOM}
ok "reads, writes, holes, maps of any offset and length are what a model says (seed $seed)" python3 model.py "$seed"
ok "killed after fsync" kill_here
ok "attach" attach_here
ok "all that was synced is there" python3 model.py "$seed" check
ok "writers of one sector lose none of each other's bytes" python3 - <<'END'
import os, threading
WRITERS, SECTORS = 8, 20
def write(me):
    fd = os.open("m/0", os.O_RDWR | (os.O_DIRECT if me % 2 else 0))
    for sector in range(SECTORS):
        for piece in range(me, 4096 // 64, WRITERS):
            os.pwrite(fd, bytes([me + 1]) * 64, sector * 4096 + piece * 64)
threads = [threading.Thread(target=write, args=[i]) for i in range(WRITERS)]
for t in threads: t.start()
for t in threads: t.join()
expected = b"".join(bytes([i % WRITERS + 1]) * 64 for i in range(64)) * SECTORS
assert os.pread(os.open("m/0", os.O_RDONLY), len(expected), 0) == expected
END
ok "the end of a device is that of a disk" python3 - <<'END'
import errno, os
fd = os.open("m/0", os.O_RDWR)
size = os.fstat(fd).st_size
def error_of(call, *args):
    try:
        call(*args)
    except OSError as error:
        return error.errno
assert os.pread(fd, 100, size) == b"" and len(os.pread(fd, 8192, size - 10)) == 10
assert os.pwrite(fd, b"x" * 8192, size - 4096) == 4096
for offset in size, size + 1, 2 * size:
    assert error_of(os.pwrite, fd, b"x", offset) == errno.ENOSPC
assert error_of(os.ftruncate, fd, size + 4096) == errno.EPERM
assert error_of(os.posix_fallocate, fd, size, 4096) is not None
assert os.fstat(fd).st_size == size and os.pread(fd, 4096, size - 4096) == b"x" * 4096
assert os.lseek(fd, 0, os.SEEK_END) == size
END
printf 'closed, not synced' >closed
dd if=closed of=m/0 bs=1 seek=12345678 conv=notrunc status=none
ok "killed after a close" kill_here
ok "attach, for reading" run attach -o ro store m
prints "what was closed is there" "closed, not synced" \
	dd if=m/0 iflag=skip_bytes,count_bytes skip=12345678 count=18 status=none
fails "nothing can be written" 1 "Read-only file system" dd if=closed of=m/0 conv=notrunc status=none
fails "nor sealed" 1 "is open for reading only" run seal store
ok "detach" run detach m
newest() { run generations --json store | jq '[.generations[].generation] | max'; }
generation=$(newest)
ok "attach" run attach --seal-interval 1s store m
head -c 4096 content | dd of=m/0 bs=4096 conv=notrunc,fsync status=none
seals() {
	for _ in $(seq 100); do
		[ "$(newest)" = "$generation" ] || return 0
		sleep 0.1
	done
	return 1
}
ok "while something is written, generations are ended" seals
ok "detach" run detach m
ok "an older generation" run attach --generation "$generation" store m
ok "has what was there" bash -c "! cmp -s -n 4096 m/0 content"
fails "it cannot be written to" 1 "Read-only file system" dd if=closed of=m/0 conv=notrunc status=none
ok "the newest beside it" run attach store other
ok "has what is there" cmp -n 4096 other/0 content
ok "detach" run detach other
ok "and the older one" run detach m

# ext4 on a loop device.
ok "attach" run attach store m
loop_take() { loop=$(losetup -f --show m/0 2>/dev/null) && loops+=("$loop"); }
if is_root && mkdir e && loop_take && mkfs.ext4 -q "$loop" && mount "$loop" e; then
	cp content e/ && head -c 40000000 /dev/urandom >e/large && sync -f e
	fails "detach while a loop device uses it" 5 "'losetup -a'" run detach m
	ok "seal beside it" run seal store
	rm e/large && sync -f e
	trimmed() { fstrim e && [ "$(tr -d '\0' <m/0 | wc -c)" -lt 20000000 ]; }
	ok "what ext4 frees is trimmed" trimmed
	dd if=/dev/zero of=e/load bs=1M count=60 status=none &
	load=$!
	cp content e/synced && sync e/synced
	wait $load
	umount e && losetup -d "$loop"
	ok "detach" run detach m

	# Killed beneath a file system that writes.
	ok "attach" attach_here
	loop_take && mount "$loop" e
	ok "what is in it" cmp content e/synced
	(cp content e/late && sync e/late && exec dd if=/dev/urandom of=e/load2 bs=64K count=1000 status=none) 2>/dev/null &
	load=$!
	until [ "$(stat -c %s e/load2 2>/dev/null || echo 0)" -gt 1000000 ]; do sleep 0.05; done
	kill -KILL "$server"
	wait "$server" $load 2>/dev/null
	umount e
	losetup -d "$loop"
	ok "detach after a kill" run detach m
	ok "attach" run attach store m
	loop_take && mount "$loop" e
	ok "what was synced before the kill is there" cmp content e/late
	umount e
	ok "e2fsck" e2fsck -fn "$loop"
	losetup -d "$loop"
	ok "detach" run detach m

	# SIGTERM, and a loop device has it.
	ok "attach" attach_here
	loop_take
	dd if=content of="$loop" bs=1M seek=10 conv=notrunc,fsync status=none
	kill -TERM "$server"
	timeout 60 tail --pid="$server" -f /dev/null || kill -KILL "$server"
	status=0
	wait "$server" || status=$?
	ok "SIGTERM ends it, in use or not" bash -c "[ $status = 0 ] && ! findmnt '$work/m'"
	losetup -d "$loop"
	ok "attach" run attach store m
	ok "what was written is there" cmp -i $((10 << 20)):0 -n 3000000 m/0 content
	ok "detach" run detach m
else
	ok "detach" run detach m
	skip "ext4 on a loop device" "there are none here"
fi

# Damage: a sector that does not authenticate is an error, and stays one until it is written wholly.
ok "attach" run attach store m
head -c 2097152 /dev/urandom >random
dd if=random of=m/0 bs=1M seek=20 conv=notrunc,fsync status=none
ok "detach" run detach m
cat >flip.py <<'END'
import os, sys
for name in sys.argv[1:]:
    fd = os.open(name, os.O_RDWR)
    for at in range(8192, os.fstat(fd).st_size, 8192): # each second page
        os.pwrite(fd, b"flipped!", at + 100)
END
find store -type f -size +1M -exec python3 flip.py {} +
ok "attach" run attach store m
ok "damage is an error, and nothing else" python3 - <<'END'
import errno, os
good = open("random", "rb").read()
fd = os.open("m/0", os.O_RDWR)
at, bad = 20 << 20, []
for i in range(512):
    try:
        assert os.pread(fd, 4096, at + i * 4096) == good[i * 4096:(i + 1) * 4096]
    except OSError as error:
        assert error.errno == errno.EIO
        bad.append(i)
assert 0 < len(bad) < 512, len(bad)
first = at + bad[0] * 4096
try:
    os.pwrite(fd, b"part", first + 100)
    raise SystemExit("a part of a damaged sector was written")
except OSError as error:
    assert error.errno == errno.EIO
assert os.pwrite(fd, b"w" * 4096, first) == 4096
os.fsync(fd)
assert os.pread(fd, 4096, first) == b"w" * 4096
END
ok "detach" run detach m

# A device that is not there.
rm -r store
ok "create" create --devices 3 --raid raidz1 store
rm -r "$(run info --json store | jq -r '.devices[1].folder')"
ok "attach, with a device missing" run attach store m
prints "the others are there" "0 2 " bash -c "ls m | tr '\n' ' '"
fails "it is not" 1 "No such file or directory" stat m/1
ok "umount is the same as detach" run umount m

if is_root; then
	chmod 0755 .
	ok "attach, for others too" run attach --allow-other store m
	as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
	fails "another user sees it, and gets nothing" 1 "Permission denied" as_nobody head -c 1 m/0
	ok "until it is his" chown 65534 m/0
	ok "he reads it" as_nobody dd if=m/0 of=/dev/null count=1 status=none
	ok "detach" run detach m
else
	skip "other users" "needs root"
fi

if can_be_a_user; then
	ok "a user without rights" as_a_user '
		timeout 60 ../szpool create --raw --kdf interactive --size 256M store
		timeout 60 ../szpool attach store m
		dd if=../content of=m/0 bs=1M conv=notrunc,fsync status=none
		timeout 60 ../szpool detach m
		timeout 60 ../szpool attach -o ro store m
		cmp -n 3000000 m/0 ../content && echo same
		timeout 60 ../szpool detach m'
	then_ok "reads what he wrote" grep -qx same out
else
	for name in 1 2; do skip "a user without rights, $name" "needs root, and mounts of its own"; done
fi

# A host's disk that is full: an error at once, no byte of what was synced is lost, and it can be sealed.
mkdir disk
if is_root && mount -t tmpfs -o size=300M tmpfs disk; then
	mounts+=("$work/disk")
	ok "create" run create --raw --kdf interactive --size 1G disk/store
	ok "attach" run attach disk/store m
	dd if=content of=m/0 conv=notrunc,fsync bs=1M status=none
	fails "a disk with no more room" 1 "No space left on device" \
		dd if=/dev/urandom of=m/0 bs=1M seek=100 count=600 conv=notrunc,fsync status=none
	ok "what was synced is there" cmp -n 3000000 m/0 content
	ok "what is not needed can be given back" fallocate -p -o $((100 << 20)) -l $((600 << 20)) m/0
	ok "seal" run seal disk/store
	ok "and something else written" dd if=content of=m/0 bs=1M seek=100 conv=notrunc,fsync status=none
	ok "detach" run detach m
	ok "attach" run attach disk/store m
	ok "it is all there" bash -c "cmp -n 3000000 m/0 content && cmp -n 3000000 -i $((100 << 20)):0 m/0 content"
	ok "detach" run detach m
else
	skip "a full disk" "needs root"
fi

# A host's disk that goes away (EXT4_IOC_SHUTDOWN, without its journal), and comes back.
mkdir gone
truncate -s 300M image
if is_root && mkfs.ext4 -q -m 0 image && mount -o loop image gone; then
	mounts+=("$work/gone")
	ok "create" run create --raw --kdf interactive --size 256M gone/store
	ok "attach" run attach gone/store m
	dd if=content of=m/0 conv=notrunc,fsync bs=1M status=none
	ok "the disk goes away" python3 - <<-'END'
		import fcntl, os, struct
		fcntl.ioctl(os.open("gone", os.O_RDONLY), 0x8004587D, struct.pack("I", 2))
	END
	fails "a write that is synced" 1 "Input/output error" \
		timeout 20 dd if=content of=m/0 bs=1M seek=10 conv=notrunc,fsync status=none
	fails "and one after it" 1 "Input/output error" \
		timeout 20 dd if=content of=m/0 bs=1M seek=20 conv=notrunc status=none
	ok "status" run status gone/store
	then_ok "tells of it" grep -q "device 0 *FAILED" out
	fails "detach tells that not all is on disk" 1 "gone/store: " run detach m
	umount -l gone
	until mount -o loop image gone; do sleep 0.2; done 2>/dev/null
	ok "the disk comes back: attach" run attach gone/store m
	ok "what was synced is there" cmp -n 3000000 m/0 content
	ok "detach" run detach m
else
	skip "a disk that goes away" "needs root, and a disk in a file"
fi
done_testing
