#!/usr/bin/env bash
# What the world refuses: no such store, no permission, names too long, a full pool, a full disk.
# Each a clear message and exit code, and nothing is lost. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

long=$(printf 'n%.0s' {1..256})
small_disk() { # FOLDER SIZE
	mkdir "$1" && mount -t tmpfs -o "size=$2" tmpfs "$1" && mounts+=("$work/$1")
}

fails "no such store" 1 "none: there is no such folder; 'szpool create none'" run status none
printf x >file
fails "a file" 3 "file: is not a folder" run status file
mkdir full && touch full/x
fails "create in a full folder" 1 "full: exists and is not empty" create full
ok "what is in it stays" test -e full/x
fails "create over a file" 1 "file: exists and is not a folder" create file
fails "create below what is not there" 1 "the folder that it would be in: No such file" create none/store
fails "create with an unknown property" 1 "there is no property 'colour'" create -o colour=blue store
ok "leaves nothing behind" test ! -e store
mkdir empty
fails "create with checksum=off" 1 "checksum=off is refused" create -o checksum=off empty
ok "leaves an empty folder empty" test -z "$(ls -A empty)"

ok "create" env SIZE=256M bash -c "$(declare -f create run); szpool='$szpool'; create store"
printf 'older\n' >older
ok "put" run put store older /
fails "a name of 256 bytes in the pool" 1 "a name can have at most 255 bytes" run mkdir store "/$long"
fails "the same as a source's new name" 1 "a name can have at most 255 bytes" run put store older "/$long"
fails "the same in the middle of a path" 1 "a name can have at most 255 bytes" run cat store "/$long/x"
fails "a relative path" 1 "has to begin with '/'" run ls store tree
fails "a file in place of a folder" 1 "/older/x: Not a directory" run ls store /older/x
fails "a folder that is not there" 1 "'nowhere' is missing" run put store older /nowhere/x
fails "a source without a name" 1 "has no name" run put store / /

head -c 400000000 /dev/urandom >large
fails "a full pool" 7 "large: cannot be stored: No space left" run put store large /
then_ok "with the next step" grep -q "'szpool df'" err
fails "no part is left" 1 "No such file" run ls store /large
prints "what was there stays" older run cat store /older
ok "there is room again" bash -c "head -c 50000000 large >smaller && '$szpool' put store smaller /"

if is_root; then
	small_disk disk 300M
	ok "create on a small disk" create disk/store
	ok "put" run put disk/store older /
	fails "a full disk" 7 "no space is left" timeout -k 5 120 "$szpool" put disk/store large /
	mount -o remount,size=1G "$work/disk"
	prints "with more room it opens, and nothing is lost" older run cat disk/store /older
	ok "it takes more" run put disk/store large /
	ok "and is sound" bash -c "'$szpool' scrub disk/store | grep -q 'with 0 errors'"

	small_disk target 1M
	fails "get to a full disk" 7 "No space left" run get store /smaller target
	ok "no part is left there" test -z "$(ls -A target)"
	ok "--json to a full disk" bash -c "! '$szpool' help --json >/dev/full 2>err"
else
	skip "small disks" "needs root"
fi
done_testing
