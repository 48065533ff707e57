#!/usr/bin/env bash
# The base of the program's tests; sourced with the program's path as $1. TAP on standard output, a
# folder of its own, a passphrase, a limit on the time of every run.
set -uo pipefail

szpool=$(readlink -f "$1")
work=$(mktemp -d "${TMPDIR:-/tmp}/szpool-cli.XXXXXX")
number=0
mounts=()
unset NO_COLOR SZPOOL_PASSPHRASE_FILE

cleanup() {
	local folder
	cd /
	for folder in "${mounts[@]}"; do umount "$folder"; done
	rm -rf "$work"
}
trap cleanup EXIT
cd "$work" || exit 1
printf 'quiet otters mend the old boat\n' >passphrase
export SZPOOL_PASSPHRASE_FILE=$work/passphrase
export XDG_STATE_HOME=$work/state

# Who may: root for what needs it, and another user for what root must not.
is_root() { [ "$(id -u)" = 0 ]; }
# The build may lie where nobody else gets to: such a user has a copy of the program.
run_as_nobody() {
	[ -x "$work/szpool" ] || install -m 0755 "$szpool" "$work/szpool"
	setpriv --reuid 65534 --regid 65534 --clear-groups timeout 60 "$work/szpool" "$@"
}

run() { timeout -k 10 60 "$szpool" "$@"; }
# The cheapest passphrases, tried first: most of the time of a short command is what a guess costs. The default's are
# in passphrase.sh.
create() { run create --kdf interactive --size "${SIZE:-1G}" "$@"; }
export SZPOOL_KDF=interactive

show() { head -n 40 out err | sed 's/^/# /'; }
report() { # PREFIX NAME
	number=$((number + 1))
	echo "$1ok $number - $2"
}

skip() { # NAME WHY
	number=$((number + 1))
	echo "ok $number - $1 # SKIP $2"
}

# Standard output goes to the file out, standard error to err.
ok() { # NAME COMMAND…
	local name=$1 prefix=""
	shift
	"$@" >out 2>err || prefix="not "
	[ -z "$prefix" ] || show
	report "$prefix" "$name"
}

# The same for a look at what the command before has left in out and err.
then_ok() { # NAME COMMAND…
	local name=$1 prefix=""
	shift
	"$@" >look 2>&1 || prefix="not "
	[ -z "$prefix" ] || { echo "# $*" && show; }
	report "$prefix" "$name"
}

# The command ends with the status, standard error has the text, standard output is empty.
fails() { # NAME STATUS TEXT COMMAND…
	local name=$1 status=$2 text=$3 got=0 prefix=""
	shift 3
	"$@" >out 2>err || got=$?
	{ [ $got = "$status" ] && grep -qF -- "$text" err && [ ! -s out ]; } || prefix="not "
	[ -z "$prefix" ] || { echo "# status $got" && show; }
	report "$prefix" "$name"
}

# Standard output of the command is the text.
prints() { # NAME TEXT COMMAND…
	local name=$1 text=$2 got=0 prefix=""
	shift 2
	"$@" >out 2>err || got=$?
	{ [ $got = 0 ] && [ "$(cat out)" = "$text" ]; } || prefix="not "
	[ -z "$prefix" ] || { echo "# status $got, not: $text" && show; }
	report "$prefix" "$name"
}

done_testing() { echo "1..$number"; }
