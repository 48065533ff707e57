#!/usr/bin/env bash
# The program as a user runs it: a nasty tree goes in and comes out equal, a lost and a damaged
# device are survived and healed, wrong input gets an error that names the thing. TAP.
set -uo pipefail

szpool=$(readlink -f "$1")
work=$(mktemp -d "${TMPDIR:-/tmp}/szpool-cli.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
number=0

printf 'quiet otters mend the old boat\n' >passphrase
export SZPOOL_PASSPHRASE_FILE=$work/passphrase

run() { timeout 60 "$szpool" "$@"; }

ok() { # NAME COMMAND…
	local name=$1 prefix=""
	shift
	number=$((number + 1))
	"$@" >out 2>&1 || prefix="not "
	[ -z "$prefix" ] || sed 's/^/# /' out
	echo "${prefix}ok $number - $name"
}

fails() { # NAME STATUS TEXT COMMAND…
	local name=$1 status=$2 text=$3 got=0 prefix=""
	shift 3
	number=$((number + 1))
	"$@" >out 2>&1 || got=$?
	{ [ $got = "$status" ] && grep -qF -- "$text" out; } || prefix="not "
	[ -z "$prefix" ] || { echo "# status $got"; sed 's/^/# /' out; }
	echo "${prefix}ok $number - $name"
}

listing() { (cd "$1" && find . -printf '%y %m %n %s %T@ %p -> %l\n' | grep -v '^d' | sort; cd "$1" && find . -type d -printf '%m %T@ %p\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum); }
cat_is_equal() { run cat store /tree/big | cmp - tree/big; }
scrub_is_clean() { run scrub store | grep 'scrub repaired 0B in .* with 0 errors'; }
same() { diff <(listing "$1") <(listing "$2"); }

mkdir -p 'tree/sub folder/deep' tree/empty
printf x >'tree/sub folder/one byte'
: >tree/nothing
head -c 3000000 /dev/urandom >tree/big
printf 'newline' >$'tree/a\nb'
printf 'latin' >$'tree/\xe9'
printf 'long' >"tree/$(printf 'n%.0s' {1..255})"
ln tree/big 'tree/sub folder/hard link'
ln -s ../big 'tree/sub folder/symlink'
ln -s "/no/such/$(printf 's%.0s' {1..300})" tree/long-symlink
mkfifo tree/fifo
chmod 4750 tree/nothing
chmod 0700 tree/empty
touch -d '2001-02-03 04:05:06.123456789' tree/big
touch -d '1999-01-01 00:00:00.000000001' 'tree/sub folder'

echo 1..17
ok "create" run create --size 1G store
ok "put a tree" run put store tree /
ok "get it" run get store /tree back
ok "it is equal" same tree back
ok "put it again over itself" run put store tree /
ok "cat" cat_is_equal
ok "mkdir" run mkdir store /new
ok "rm" run rm store /tree/nothing
fails "what was removed is gone" 1 "/tree/nothing: No such file or folder" run cat store /tree/nothing
fails "a folder that is not empty" 1 "/tree: Directory not empty" run rm store /tree
fails "a relative path" 1 "has to begin with '/'" run ls store tree
fails "an existing store" 1 "store: exists and is not empty" run create --size 1G store
fails "an unknown command" 2 "no command 'frobnicate'" run frobnicate
mapfile -t devices < <(find store -mindepth 1 -maxdepth 1 -type d ! -name live | sort)
rm -r "${devices[4]}"
for file in "${devices[1]}"/*; do # each object that is large loses some of it
	[ "$(stat -c %s "$file")" -gt 20000 ] || continue
	dd if=/dev/urandom of="$file" bs=4096 seek=3 count=1 conv=notrunc status=none
done
ok "read with a device lost and one damaged" cat_is_equal
ok "scrub rebuilds and repairs" run scrub store
ok "a second scrub finds nothing to repair" scrub_is_clean
mapfile -t devices < <(find store -mindepth 1 -maxdepth 1 -type d ! -name live | sort)
rm -r "${devices[0]}" "${devices[1]}" "${devices[2]}"
fails "three devices lost" 6 "(its folder is missing), device" run status store
