#!/usr/bin/env bash
# 'szpool nbd' with the clients that people use: nbdinfo, nbdcopy, nbdsh, qemu-img, qemu-io, fio; two at once. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

# What is wrong is told.
fails "no store given" 2 "szpool nbd STORE" run nbd
fails "a store that is not there" 1 "there is no such folder" run nbd store
fails "a socket and a port" 2 "choose one" run nbd --socket s --listen 127.0.0.1:0 store
fails "two kinds of TLS" 2 "choose one" run nbd --tls-psk k --tls-certificates . store
fails "clients' certificates without any" 2 "needs --tls-certificates" run nbd --tls-verify-peer store
fails "a port alone" 2 "has to be HOST:PORT" run nbd --listen :10809 store
ok "create" raw_create 256M
fails "nothing is served" 1 "no process serves it" run nbd --stop store
fails "nor listed" 1 "'szpool nbd $work/store' starts that" run nbd --list "$work/store"
fails "beyond this machine without TLS" 1 "give --tls-certificates or --tls-psk" run nbd --listen 0.0.0.0:0 store
touch taken
fails "a file in the socket's place" 1 "choose another" run nbd --socket taken store
then_ok "is left alone" test -f taken
fails "a wrong passphrase" 4 "wrong passphrase" \
	bash -c "printf wrong | '$szpool' nbd --passphrase-file /dev/stdin store"

# In the background; found, listed, stopped.
ok "served" run nbd store
uri=$(cat out)
then_ok "it tells where" grep -q '^nbd+unix:///0?socket=' out
socket=${uri##*=}
prints "a socket for nobody else" "600" stat -c %a "$socket"
fails "not twice" 1 "is served already" run nbd store
fails "its pool is not to be had" 5 "there is no pool on its devices" run ls store
ok "status" run status store
then_ok "tells where" grep -qF "nbd: nbd+unix:///?socket=$socket" out
prints "programs as well" "nbd+unix:///?socket=$socket" bash -c "'$szpool' status --json store | jq -r .nbd"
prints "a list" "0 268435456" bash -c "'$szpool' nbd --list --json store | jq -r '.exports[] | \"\(.name) \(.size_bytes)\"'"
ok "seal beside it" run seal store
ok "nbdinfo" limited nbdinfo "$uri"
for text in "export-size: 268435456 (256M)" "base:allocation" "is_read_only: false" "can_multi_conn: true" \
	"can_fua: true" "can_fast_zero: true" "block_size_preferred: 4096" "block_size_maximum: 33554432"; do
	then_ok "it shows $text" grep -qF "$text" out
done
ok "nbdinfo --list" limited nbdinfo --list "$uri"
then_ok "shows the device" grep -qF 'description: a device' out
refused "an export that is not there" "No such file or directory for export" nbdinfo "${uri/:\/\/\/0/:\/\/\/1}"
ok "without a name it is the one that there is" limited nbdinfo "${uri/:\/\/\/0/:\/\/\/}"

# Copies.
head -c 20000000 /dev/urandom >content
truncate -s 256M image
dd if=content of=image bs=1M seek=33 conv=notrunc status=none
ok "nbdcopy there" limited nbdcopy --flush image "$uri"
ok "and back" limited nbdcopy "$uri" back
then_ok "it is the same" cmp image back
then_ok "with its holes" test "$(stat -c %b back)" -lt 60000
prints "holes are told" "20" bash -c "nbdinfo --map --totals '$uri' | awk '/data/ { print int(\$1 / 1000000) }' | sed 's/2[0-3]/20/'"
ok "sealed" run seal store
prints "still then" "20" bash -c "nbdinfo --map --totals '$uri' | awk '/data/ { print int(\$1 / 1000000) }' | sed 's/2[0-3]/20/'"
ok "qemu-img compares" limited qemu-img compare -f raw -F raw image "$uri"
ok "qemu-img reads" limited qemu-img convert -f raw -O qcow2 "$uri" back.qcow2
ok "stopped" run nbd --stop store
then_ok "the socket is gone" test ! -e "$socket"
ok "served" serve_here
ok "qemu-img writes" limited qemu-img convert -n -f qcow2 -O raw back.qcow2 "$uri"
ok "what it wrote is there" limited qemu-img compare -f raw -F raw image "$uri"
ok "qemu-io" limited qemu-io -f raw -t none -c 'write -P 7 1000 100000' -c 'write -z 50000 4096' -c 'discard 1M 1M' \
	-c 'read -P 7 1000 49000' -c 'read -P 0 50000 4096' -c 'read -P 7 54096 46904' -c 'write -f -P 9 32M 16M' \
	-c 'read -P 9 32M 16M' -c flush "$uri"
then_ok "finds what it wrote" bash -c '! grep -iE "failed|error" out err'
if command -v fio >/dev/null && fio --enghelp | grep -q nbd; then
	ok "fio verifies what it writes" limited fio --name=v --ioengine=nbd --uri="$uri" --rw=randwrite --bsrange=512-64k --blockalign=512 \
		--iodepth=16 --size=32M --verify=crc32c --verify_fatal=1 --do_verify=1 --fsync=64
else
	skip "fio" "it has no nbd engine here"
fi

# What nbdsh can say, byte by byte.
cat >edges.py <<'END_EDGES'
import nbd, os, errno
def error_of(call, *args):
    try:
        call(*args)
    except nbd.Error as error:
        return error.errnum
size = h.get_size()
h.set_strict_mode(0)
assert h.get_block_size(nbd.SIZE_MAXIMUM) == 32 << 20
assert error_of(h.pread, 1, size) == errno.EINVAL
assert error_of(h.pread, 4096, size - 4095) == errno.EINVAL
assert error_of(h.pwrite, b"x", size) == errno.ENOSPC
assert error_of(h.zero, 10, size - 9) == errno.ENOSPC
assert error_of(h.trim, 10, size - 9) == errno.EINVAL
large = os.urandom(32 << 20)
h.pwrite(large, 64 << 20)
assert h.pread(32 << 20, 64 << 20) == large
assert h.pread(32 << 20, 64 << 20, nbd.CMD_FLAG_DF) == large
assert error_of(h.pwrite, large + b"x", 64 << 20) is not None
assert error_of(h.pread, (32 << 20) + 1, 0) is not None
h.pwrite(b"one", 4095, nbd.CMD_FLAG_FUA)
assert h.pread(5, 4094)[1:4] == b"one"
h.zero(100 << 20, 64 << 20)
assert h.pread(32 << 20, 64 << 20) == bytes(32 << 20)
h.zero(4096, 0, nbd.CMD_FLAG_FAST_ZERO)
h.zero(4096, 0, nbd.CMD_FLAG_NO_HOLE)
h.cache(4096, 0)
h.flush()
found = []
h.block_status(size, 0, lambda context, offset, entries, error: found.extend(entries) or 0)
assert sum(found[::2]) <= size and set(found[1::2]) <= {0, 3}
one = []
h.block_status(size - (66 << 20), 66 << 20, lambda context, offset, entries, error: one.extend(entries) or 0, nbd.CMD_FLAG_REQ_ONE)
assert len(one) == 2 and one[1] == 3 and one[0] <= size - (66 << 20), one
END_EDGES
ok "edges: ranges, 32 MiB and one more, FUA, zeros, block status" limited nbdsh --base-allocation -u "$uri" -c "$(cat edges.py)"
cat >coherent.py <<'END_COHERENT'
import nbd, os, sys
uri = sys.argv[1]
a, b = nbd.NBD(), nbd.NBD()
a.connect_uri(uri)
b.connect_uri(uri)
assert a.can_multi_conn() and b.can_multi_conn()
for i in range(50):
    data = os.urandom(5000)
    a.pwrite(data, i * 3000)
    a.flush()
    assert b.pread(5000, i * 3000) == data
    b.pwrite(data[::-1], 1000000 + i, nbd.CMD_FLAG_FUA)
    assert a.pread(5000, 1000000 + i) == data[::-1]
c = nbd.NBD() # it asks, and goes without a word
c.connect_uri(uri)
for i in range(30):
    c.aio_pread(nbd.Buffer(1 << 20), 0)
END_COHERENT
ok "two connections see the same; one goes in the middle" limited /usr/bin/python3 coherent.py "$uri"
ok "the others are served" limited nbdinfo "$uri"
ok "stopped" run nbd --stop store
wait "$server"
server=
done_testing
