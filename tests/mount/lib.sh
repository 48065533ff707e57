#!/usr/bin/env bash
# The base of the tests of mounts; sourced with the program's path as $1.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../cli/lib.sh"

can_mount() { [ -w /dev/fuse ] && { is_root || command -v fusermount3 >/dev/null; }; }
can_mount || {
	echo "1..0 # SKIP no FUSE here: /dev/fuse and fusermount3 are needed"
	exit 0
}
mkdir -m 0700 runtime
export XDG_RUNTIME_DIR=$work/runtime

# A user without rights runs a script in a folder of his. /dev/fuse is everybody's on a usual system, so it is for him: in
# mounts of its own, which cannot be had where the root folder is none (a chroot).
can_be_a_user() { is_root && command -v fusermount3 >/dev/null && unshare -m true 2>/dev/null; }
as_a_user() { # [--without-fuse] SCRIPT
	local mode=0666
	[ "$1" != --without-fuse ] || { mode=0600 && shift; }
	if [ ! -d user ]; then
		install -d -o 65534 -g 65534 user user/m && chmod 0755 . && chmod 0644 passphrase
		install -m 0755 "$szpool" szpool
	fi
	rm -f fuse && mknod -m $mode fuse c 10 229
	# shellcheck disable=SC2016 # the inner one expands them
	unshare -m bash -ec '
		mount --bind fuse /dev/fuse && cd user
		exec setpriv --reuid 65534 --regid 65534 --clear-groups env HOME="$PWD" XDG_RUNTIME_DIR="$PWD" \
			XDG_STATE_HOME="$PWD" SZPOOL_PASSPHRASE_FILE="$PWD/../passphrase" bash -ec "$1"' as_a_user "$1"
}

is_mounted() { findmnt "$work/m" >/dev/null; }
# What a failed test has left, too.
unmount_all() {
	local folder
	cd /
	while read -r folder; do
		"$szpool" umount "$folder" 2>/dev/null || fusermount3 -uz "$folder"
	done < <(findmnt -rno TARGET -t fuse.szpool | grep -F "$work/")
}
trap 'unmount_all; cleanup' EXIT

# In the foreground of the background, so that its number is known: $server. Returns once it is mounted.
serve_here() { # COMMAND OPTION…
	"$szpool" "$1" --foreground "${@:2}" store m 2>mounted &
	# shellcheck disable=SC2034 # for who sources this
	server=$!
	until is_mounted; do
		kill -0 "$server" 2>/dev/null || return 1
		sleep 0.05
	done
}
mount_here() { serve_here mount "$@"; }
