#!/usr/bin/env bash
# What the world refuses: no such store, a wrong passphrase, a newer format, a store in use, no
# permission, names too long, a full pool, a full disk, a read-only disk. Each a clear message and
# exit code; nothing is lost. TAP.
newer_store=$(dirname "$(readlink -f "$0")")/newer_store.py
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
fails "create with what szpool does not keep to" 1 "'exec' cannot be set; these can: autotrim" create -o exec=off empty
fails "create with another ashift" 1 "it is always 12" create -o ashift=9 empty
fails "create read-only" 1 "'readonly=on' is not possible" create -o readonly=on empty
fails "create with a quota that holds nothing" 1 "quota=1024 is less than" create -o quota=1K empty
ok "leaves an empty folder empty" test -z "$(ls -A empty)"

ok "create" env SIZE=256M bash -c "$(declare -f create run); szpool='$szpool'; create store"
printf 'older\n' >older
printf 'not the one' >wrong
fails "wrong passphrase" 4 "store: wrong passphrase" run ls --passphrase-file wrong store
mkdir nothing
fails "an empty folder" 3 "nothing: this is not a store" run ls nothing
mkdir strange && head -c 10000 /dev/urandom >strange/x
fails "a folder of other things" 3 "strange: this is not a store" run ls strange
ok "which are left alone" test "$(ls strange)" = x

python=/usr/bin/python3 # Debian's, whatever else comes first in PATH
if "$python" -c 'import argon2, nacl, cryptography' 2>/dev/null; then
	"$python" "$newer_store" newer >newer.passphrase
	find newer -type f -exec sha256sum {} + >newer.sums
	fails "a store of a newer format" 3 "newer: the store was written by a newer szpool" \
		run mkdir --passphrase-file newer.passphrase newer /x
	ok "is left as it was" sha256sum -c newer.sums
	ok "and nothing is put into it" test "$(find newer -type f | wc -l)" = "$(wc -l <newer.sums)"
else
	skip "a store of a newer format" "needs python3-argon2, python3-nacl, python3-cryptography"
fi

live_files() { find store/*/live -type f | wc -l; }
idle=$(live_files) # the spare
rm -f pipe && mkfifo pipe
sleep 30 >pipe &
holder=$!
run put store - /late <pipe &
while [ "$(live_files)" -le "$idle" ]; do sleep 0.1; done
fails "a second writer" 5 "is open in another process" run mkdir store /x
fails "a reader beside a writer" 5 "is open in another process" run ls store
kill $holder
wait
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

for kind in quota refquota; do
	ok "create with a $kind" create -o $kind=30M $kind
	ok "put less" bash -c "head -c 20000000 large >less && '$szpool' put $kind less /"
	fails "put more than the $kind" 7 "Disk quota exceeded" run put $kind large /
	ok "what it holds can be removed" run rm $kind /less
	ok "and put again" run put $kind less /
done

if is_root; then
	chmod 0755 . && chmod 0644 passphrase
	fails "no permission to a store" 1 "Permission denied: run szpool as the user" run_as_nobody ls store
	fails "no permission to make one" 1 "mine: Permission denied" run_as_nobody create mine

	small_disk disk 300M
	ok "create on a small disk" create disk/store
	ok "put" run put disk/store older /
	fails "a full disk" 7 "no space is left on the store's disk" timeout -k 5 120 "$szpool" put disk/store large /
	then_ok "says how much there is, and how large the file" grep -qE \
		"; the file system of disk/store has [0-9.]+M free, of which 64M to 256M are kept from new data; the file has 381M" err
	mount -o remount,size=1G "$work/disk"
	prints "with more room it opens, and nothing is lost" older run cat disk/store /older
	ok "it takes more" run put disk/store smaller /
	ok "and is sound" bash -c "'$szpool' scrub disk/store | grep -q 'with 0 errors'"

	small_disk target 1M
	fails "get to a full disk" 7 "No space left" run get store /smaller target
	ok "no part is left there" test -z "$(ls -A target)"
	ok "--json to a full disk" bash -c "! '$szpool' help --json >/dev/full 2>err"

	mount -o remount,ro "$work/disk"
	prints "a read-only disk can be read" older run cat disk/store /older
	fails "and not written" 1 "Read-only file system" run mkdir disk/store /x
else
	skip "small disks" "needs root"
fi
done_testing
