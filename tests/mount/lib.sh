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
