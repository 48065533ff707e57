#!/usr/bin/env bash
# The base of the tests of 'szpool nbd'; sourced with the program's path as $1. A store without a pool, one device.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../cli/lib.sh"

# nbdsh is for the system's Python.
export PATH=/usr/bin:$PATH
for program in nbdinfo nbdcopy nbdsh qemu-img; do
	command -v $program >/dev/null || {
		echo "1..0 # SKIP $program is not here: see tools/install-deps"
		exit 0
	}
done
nbdsh -c 'h.supports_tls()' >/dev/null 2>&1 || {
	echo "1..0 # SKIP nbdsh does not run: see tools/install-deps"
	exit 0
}
mkdir -m 0700 runtime
export XDG_RUNTIME_DIR=$work/runtime
server=
end_all() {
	[ -z "$server" ] || kill -KILL "$server" 2>/dev/null
	for store in store*; do run nbd --stop "$store" >/dev/null 2>&1; done
	cleanup
}
trap end_all EXIT

raw_create() { # SIZE
	create --raw --devices 1 --size "$1" store
}
# In the foreground of the background, so that its number is known: $server, and $uri once it listens.
serve_here() { # OPTION…
	rm -f uris
	"$szpool" nbd --foreground "$@" store >uris 2>served &
	server=$!
	until [ -s uris ]; do
		kill -0 "$server" 2>/dev/null || return 1
		sleep 0.05
	done
	# shellcheck disable=SC2034 # for who sources this
	uri=$(head -n 1 uris)
}
kill_here() {
	kill -KILL "$server"
	wait "$server" 2>/dev/null
	server=
}
# Clients have a limit on their time, too.
limited() { timeout -k 5 60 "$@"; }
# The client fails, in time, and says why.
refused() { # NAME TEXT COMMAND…
	local name=$1 text=$2 got=0 prefix=""
	shift 2
	limited "$@" >out 2>err || got=$?
	{ [ $got != 0 ] && [ $got -lt 124 ] && grep -qF -- "$text" err; } || prefix="not "
	[ -z "$prefix" ] || { echo "# status $got" && show; }
	report "$prefix" "$name"
}
