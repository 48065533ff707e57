#!/usr/bin/env bash
# chattr and lsattr in a mount, and files that can only be appended to. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"
is_root || {
	echo "1..0 # SKIP only root may set the flags"
	exit 0
}
as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }

ok "create" create store
mkdir m && chmod 0755 .
ok "mount" mount_here --allow-other
printf 'first\n' >m/log
ok "chattr +a" chattr +a m/log
prints "lsattr" a bash -c "lsattr m/log | cut -d ' ' -f 1 | tr -d -"
for i in $(seq 3000); do printf 'line %s of what is appended\n' "$i"; done >lines
append_lines() { while read -r line; do printf '%s\n' "$line"; done <lines >>m/log; }
ok "appending, line by line" append_lines
head -c 5000000 /dev/zero | tr '\0' x >piece
ok "a large piece" bash -c "cat piece >>m/log && sync m/log"
{ echo first && cat lines piece; } >expected
ok "all of it arrives" bash -c "'$szpool' cat store /log | cmp - expected"
fails "truncating" 1 "Operation not permitted" truncate -s 5 m/log
fails "removing" 1 "Operation not permitted" rm -f m/log
fails "overwriting is told when it is written out" 1 "Operation not permitted" \
	dd if=piece of=m/log bs=1 count=3 conv=notrunc,fsync status=none
ok "and is not done" bash -c "'$szpool' cat store /log | cmp - expected"
ok "as is seen soon" bash -c "for i in \$(seq 100); do ! cmp -s m/log expected || exit 0; sleep 0.1; done; exit 1"

ok "chattr -a" chattr -a m/log
ok "what is dirty" bash -c "exec 3<>m/log && printf FIRST >&3 && chattr +i m/log && '$szpool' cat store /log >seen"
prints "is written before it is immutable" FIRST head -c 5 seen
fails "nothing is afterwards" 1 "Operation not permitted" chmod 600 m/log
mkdir m/fixed
ok "a folder" chattr +id m/fixed
prints "has them" di bash -c "lsattr -d m/fixed | cut -d ' ' -f 1 | tr -d - | grep -o . | sort | tr -d '\n'"
fails "it gets no entries" 1 "Operation not permitted" touch m/fixed/x
fails "a flag that ZFS has not" 1 "Operation not supported" chattr +c m/fixed
fails "of what is another's" 1 "Operation not permitted" as_nobody chattr -d m/fixed
mkdir m/of-project
ok "a project" chattr -p 77 m/of-project
prints "is there" 77 bash -c "lsattr -dp m/of-project | awk '{ print \$1 }'"
chattr -i m/log m/fixed
printf mine >m/mine && chown 65534 m/mine
ok "one's own" as_nobody chattr +d m/mine
fails "but not this" 1 "Operation not permitted" as_nobody chattr +i m/mine
ok "umount" run umount m
ok "mount" mount_here
prints "they are there again" d bash -c "lsattr m/mine | cut -d ' ' -f 1 | tr -d -"
ok "umount" run umount m
done_testing
