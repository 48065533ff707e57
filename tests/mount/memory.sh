#!/usr/bin/env bash
# A tree that is made, walked and read in a mount keeps to the bound on memory, whatever the kernel remembers of it. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

files=$((10000 * ${SZ_TEST_SCALE:-1})) # 200,000 with 20
bound_mib=256

ok "create" create --size 8G store
mkdir m
ok "mount" mount_here --memory ${bound_mib}M
cat >make.py <<'END'
import os, sys
for number in range(int(sys.argv[1])):
    folder = "m/%d" % (number // 1000)
    if number % 1000 == 0:
        os.mkdir(folder)
    with open("%s/%d" % (folder, number), "wb") as file:
        file.write(b"%d\n" % number * 200)
END
ok "make $files files" python3 make.py "$files"
prints "walk them" "$files" bash -c "find m -type f -printf '%s\n' | wc -l"
ok "read them" bash -c "find m -type f -print0 | xargs -0 cat >/dev/null"
ok "walk them again" bash -c "find m -type f -printf '%s\n' | wc -l"
peak_kib=$(awk '/VmHWM/ { print $2 }' "/proc/$server/status")
echo "# peak: $((peak_kib / 1024)) MiB of $bound_mib"
ok "memory stays under the bound and a tenth" test "$peak_kib" -le $((bound_mib * 1024 * 11 / 10))
ok "umount" run umount m
wait "$server"
done_testing
