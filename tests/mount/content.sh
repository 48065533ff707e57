#!/usr/bin/env bash
# What programs do in a mount: sparse files, copies of ranges, attributes, git, rsync, gcc, SQLite, fio; and a
# mount that is killed. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

ok "create" create store
mkdir m
ok "mount" mount_here
# Dirty pages are no holes: the file is not closed, nothing is synced.
ok "holes and data of a file that is being written" python3 - <<'END'
import os
fd = os.open("m/sparse", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 64 << 20)
os.fsync(fd)
os.pwrite(fd, b"x" * 4096, 32 << 20)
assert os.lseek(fd, 0, os.SEEK_DATA) <= 32 << 20
assert os.lseek(fd, 32 << 20, os.SEEK_DATA) == 32 << 20
END
ok "a copy of it" cp --sparse=auto m/sparse copy
then_ok "has the same content" cmp m/sparse copy
head -c 5000000 /dev/urandom >m/random
ok "punch a hole" fallocate -p -o 1048576 -l 1048576 m/random
ok "it reads as zeros" cmp -n 1048576 -i 1048576:0 m/random /dev/zero
ok "zero a range, at the end" fallocate -z -o 4900000 -l 200000 m/random
prints "the file is longer" 5100000 stat -c %s m/random
ok "allocate" fallocate -l 6000000 m/random
prints "the file is longer" 6000000 stat -c %s m/random
ok "copy_file_range" python3 - <<'END'
import os
a = os.open("m/random", os.O_RDONLY)
b = os.open("m/cloned", os.O_RDWR | os.O_CREAT)
done = 0
while done < 6000000:
    n = os.copy_file_range(a, b, 6000000 - done, done, done)
    assert n > 0
    done += n
END
then_ok "has the same content" cmp m/random m/cloned
ok "a file that is unlinked stays readable while it is open" bash -c "
	exec 3<m/cloned; rm m/cloned; cmp - m/random <&3"
ok "rename with RENAME_EXCHANGE and RENAME_NOREPLACE" python3 - <<'END'
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
open("m/a", "w").write("a"); open("m/b", "w").write("b")
assert libc.renameat2(-100, b"m/a", -100, b"m/b", 2) == 0
assert open("m/a").read() == "b" and open("m/b").read() == "a"
assert libc.renameat2(-100, b"m/a", -100, b"m/b", 1) == -1 and ctypes.get_errno() == errno.EEXIST
END
ok "extended attributes" python3 - <<'END'
import os
os.setxattr("m/a", "user.x", b"1" * 100)
os.setxattr("m/a", "user.large", b"2" * 40000)
assert sorted(os.listxattr("m/a")) == ["user.large", "user.x"]
assert os.getxattr("m/a", "user.large") == b"2" * 40000
os.removexattr("m/a", "user.x")
try:
    os.getxattr("m/a", "user.x")
    raise SystemExit("it is there still")
except OSError as e:
    assert e.errno == 61
END
ok "a shared memory map" python3 - <<'END'
import mmap, os
fd = os.open("m/mapped", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 1 << 20)
m = mmap.mmap(fd, 1 << 20)
m[70000:70003] = b"map"
m.flush()
assert os.pread(fd, 3, 70000) == b"map"
END
ok "a folder of 3,000 entries, half of them removed while it is read" python3 - <<'END'
import os
os.mkdir("m/many")
for i in range(3000):
    os.close(os.open(f"m/many/{i}", os.O_CREAT))
seen = []
with os.scandir("m/many") as entries:
    for n, e in enumerate(entries):
        seen.append(e.name)
        if int(e.name) % 2:
            os.unlink(e.path)
assert len(seen) == len(set(seen)) and {str(i) for i in range(0, 3000, 2)} <= set(seen)
assert len(os.listdir("m/many")) == 1500
END
mkdir -p tree/deep && head -c 300000 /dev/urandom >tree/deep/file && ln tree/deep/file tree/hard && ln -s deep tree/link
mkfifo tree/pipe && touch -d 2001-02-03T04:05:06.789 tree/deep/file && chmod 751 tree/deep
setfacl -m u:1234:r tree/hard 2>/dev/null
ok "rsync -aHAX" rsync -aHAX tree/ m/tree/
ok "and back, without a difference" bash -c "[ -z \"\$(rsync -naHAXic --delete m/tree/ tree/)\" ]"
ok "git" bash -c "
	cd m && git init -q repo && cd repo && cp -r ../tree . && rm tree/pipe && git add . &&
	git -c user.name=a -c user.email=a@b commit -qm one && cd .. &&
	git clone -q repo clone && git -C clone fsck --full --strict"
printf 'int main(void) { return 42; }\n' >m/main.c
ok "gcc" bash -c "gcc -o m/main m/main.c && { m/main; [ \$? = 42 ]; }"
ok "SQLite, write-ahead log" python3 - <<'END'
import sqlite3
c = sqlite3.connect("m/db")
assert c.execute("pragma journal_mode=wal").fetchone() == ("wal",)
c.execute("create table t(a, b)")
for i in range(20):
    c.executemany("insert into t values(?, ?)", [(i, "x" * 100)] * 50)
    c.commit()
d = sqlite3.connect("m/db")
assert d.execute("select count(*) from t").fetchone() == (1000,)
assert d.execute("pragma integrity_check").fetchone() == ("ok",)
END
ok "fio --verify" fio --name=v --directory=m --rw=randrw --bs=16k --size=16M --verify=crc32c \
	--do_verify=1 --numjobs=2 --minimal

# What was synced is there after the mount has died in the midst of writing.
dd if=/dev/urandom of=m/load bs=1M count=1000 2>/dev/null &
load=$!
head -c 777777 /dev/urandom >kept
cp kept m/kept && sync m/kept && sync m
kill -KILL "$server"
wait "$server" $load 2>/dev/null
ok "umount after a kill" run umount m
ok "mount" mount_here
ok "what was synced is there" cmp kept m/kept
ok "umount" run umount m
ok "scrub" run scrub store
then_ok "finds nothing" grep -q "with 0 errors" out
done_testing
