#!/usr/bin/env bash
# Mistakes in the command line: exit code 2, what is wrong, and where to look. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

wrong() { # TEXT ARGUMENT…
	local text=$1
	shift
	fails "szpool $*" 2 "$text" run "$@"
}

wrong "which command?"
wrong "see 'szpool help'" frobnicate
wrong "no command 'frobnicate'" frobnicate
wrong "no command 'frobnicate'" help frobnicate
wrong "no option '--colour'" ls --colour store
wrong "see 'szpool help ls'" ls --colour store
wrong "no option '-Z'" ls -Z store
wrong "'ls' has no option --devices" ls --devices 6 store
wrong "--json takes no value" df --json=yes store
wrong "--size needs a value" create store --size
wrong "-o needs a value" create store -o
wrong "needs more operands: szpool put STORE" put store
wrong "'b' is one operand too many" df a b
wrong "--size '12X': not a size" create --size 12X store
wrong "--size '-1': not a size" create --size=-1 store
wrong "not a size" create --size 99999999999999999999G store
wrong "not a size" create --size 99999999999P store
wrong "has to be 256M or more" create --size 1M store
wrong "has to be 128M or more" ls --memory 64M store
wrong "each of the 40 devices has to have 64M" create --devices 40 --size 1G store
wrong "a power of two, 1M to 64M" create --band-size 3M store
wrong "a power of two, 1M to 64M" create --band-size 128M store
wrong "a number, 1 to 64" create --devices 65 store
wrong "a number, 1 to 64" create --devices six store
wrong "has to be raidz2, raidz1" create --raid raid5 store
wrong "needs at least 3 devices" create --devices 2 store
wrong "interactive, moderate or sensitive" create --kdf best store
wrong "has to be NAME=VALUE" create -o compression store
wrong "2 folders for 6 devices" create --device-dir a --device-dir b store
wrong "not from both" ls --passphrase-file a --passphrase-command b /
wrong "given already" create --generate-passphrase --passphrase-file a store
ok "nothing was made" test ! -e store
ok "-- ends the options" bash -c "'$szpool' ls -- --json 2>&1 | grep -q -- '--json: there is no such folder'"
done_testing
