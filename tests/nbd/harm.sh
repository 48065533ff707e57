#!/usr/bin/env bash
# 'szpool nbd' where things go wrong: kills, clients that are there when it ends, damage, a full disk; and what is only
# read. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

head -c 20000000 /dev/urandom >content
ok "create" raw_create 256M
ok "served" serve_here

# What was flushed survives kills.
cat >flushed.py <<'END_FLUSHED'
h.pwrite(b"F" * 100000, 5000001)
h.flush()
h.pwrite(b"U" * 70000, 9000001, nbd.CMD_FLAG_FUA)
END_FLUSHED
ok "written, and flushed" limited nbdsh -u "$uri" -c "$(cat flushed.py)"
kill_here
ok "served, after a kill" serve_here
ok "what was flushed is there" limited nbdsh -u "$uri" -c 'assert h.pread(100000, 5000001) == b"F" * 100000' \
	-c 'assert h.pread(70000, 9000001) == b"U" * 70000'

# Clients that are connected while it ends.
limited nbdsh -u "$uri" -c 'import time' -c 'print("in", flush=True)' -c 'time.sleep(30)' >client 2>&1 &
client=$!
until [ -s client ]; do sleep 0.05; done
prints "a client is counted" 1 bash -c "'$szpool' nbd --list --json store | jq .clients"
ok "stopped with a client" run nbd --stop store
kill $client 2>/dev/null
wait "$server" $client 2>/dev/null
server=
ok "read-only" serve_here --read-only
ok "nothing is written" limited nbdsh -u "$uri" -c 'h.set_strict_mode(0)' -c '
import errno
try:
    h.pwrite(b"x", 0)
    assert False
except nbd.Error as error:
    assert error.errnum == errno.EPERM'
ok "what is there is read" limited nbdsh -u "$uri" -c 'assert h.pread(3, 5000001) == b"FFF"'
ok "stopped" run nbd --stop store
wait "$server"
server=
generation=$(run generations --json store | jq '[.generations[].generation] | max')
ok "an older generation" serve_here --generation "$generation" --socket "$work/old"
ok "is there to read" limited nbdsh -u "$uri" -c 'assert h.is_read_only()' -c 'assert h.pread(3, 5000001) == b"FFF"'
kill -TERM "$server"
wait "$server"
server=
then_ok "a signal ends it, and its socket" test ! -e old

# Two stores at one path: the second leaves the first's socket alone.
ok "another store" create --raw --devices 1 --size 64M store2
ok "served at a path" serve_here --socket "$work/place"
fails "a second one there" 1 "$work/place: process $server listens there" run nbd --socket "$work/place" store2
ok "the first one is reached still" limited nbdinfo "$uri"
echo text >file
fails "where a file is" 1 "$work/file: is there already, and is no socket" run nbd --socket file store2
then_ok "it is as it was" grep -q text file
kill_here
then_ok "a kill leaves the socket" test -S place
ok "it is taken over" run nbd --socket "$work/place" store2
ok "stopped" run nbd --stop store2
then_ok "nothing is left" bash -c '! ls place* 2>/dev/null'

# Damage.
ok "served" serve_here
ok "written" limited nbdcopy --flush content "$uri"
ok "stopped" run nbd --stop store
wait "$server"
cat >flip.py <<'END_FLIP'
import os, sys
for name in sys.argv[1:]:
    fd = os.open(name, os.O_RDWR)
    for at in range(8192, os.fstat(fd).st_size, 8192): # each second page
        os.pwrite(fd, b"flipped!", at + 100)
END_FLIP
find store -type f -size +1M -exec python3 flip.py {} +
ok "served" serve_here
cat >damaged.py <<'END_DAMAGED'
import errno
good = open("content", "rb").read()
bad = 0
for i in range(500):
    try:
        assert h.pread(4096, i * 4096) == good[i * 4096:(i + 1) * 4096]
    except nbd.Error as error:
        assert error.errnum == errno.EIO
        bad += 1
assert 0 < bad < 500, bad
try:
    h.pread(8 << 20, 0)
    raise SystemExit("damage was read")
except nbd.Error as error:
    assert error.errnum == errno.EIO
h.pwrite(good[:4096 * 500], 0)
assert h.pread(4096 * 500, 0) == good[:4096 * 500]
END_DAMAGED
ok "damage is EIO, the client goes on, and what is written anew is good" limited nbdsh -u "$uri" -c "$(cat damaged.py)"
ok "stopped" run nbd --stop store
wait "$server"
server=

# By TCP on this machine.
ok "by TCP" serve_here --listen 127.0.0.1:0
then_ok "any port" grep -q '^nbd://127.0.0.1:[0-9]*/0$' uris
ok "nbdinfo" limited nbdinfo "$uri"
ok "stopped" run nbd --stop store
wait "$server"
server=

# A full disk: ENOSPC, and the client goes on.
if is_root && mkdir small && mount -t tmpfs -o size=400M tmpfs small 2>/dev/null; then
	mounts+=("$work/small")
	ok "create" create --raw --devices 1 --size 1G small/store
	ok "served" run nbd small/store
	uri=$(head -n 1 out)
	cat >full.py <<'END_FULL'
import errno, os
data = os.urandom(4 << 20)
at = 0
try:
    while at < 1 << 30:
        h.pwrite(data, at)
        at += len(data)
    raise SystemExit("it was never full")
except nbd.Error as error:
    assert error.errnum == errno.ENOSPC, error
assert h.pread(4096, 0) == data[:4096]
h.flush()
h.trim(at // 2, 0)
h.zero(100 << 20, 0)
assert h.pread(4096, at - (4 << 20)) == data[:4096]
END_FULL
	ok "a full disk is ENOSPC, and the client goes on" limited nbdsh -u "$uri" -c "$(cat full.py)"
	ok "stopped" run nbd --stop small/store
else
	skip "a full disk" "it needs root, and a tmpfs"
fi
done_testing
