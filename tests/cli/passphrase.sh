#!/usr/bin/env bash
# Where a passphrase comes from: file, command, environment, terminal; what is refused. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

unset SZPOOL_KDF # here the presets are the default's

no_terminal() { setsid timeout 60 env -u SZPOOL_PASSPHRASE_FILE "$@"; }
echo_is_off() { ! grep -q 'pony' typed; }

# Answers the prompts with the lines given; what the terminal showed goes to the file typed.
at_terminal() { # LINES COMMAND…
	local lines=$1
	shift
	env -u SZPOOL_PASSPHRASE_FILE timeout 90 expect -f - "$lines" "$@" >typed <<'EXPECT'
set timeout 60
set lines [split [lindex $argv 0] "|"]
spawn -noecho {*}[lrange $argv 1 end]
foreach line $lines {
	expect -re {(assphrase|again): $} { send -- "$line\r" } timeout { exit 99 } eof break
}
expect eof
exit [lindex [wait] 3]
EXPECT
}

fails "no source, no terminal" 2 "SZPOOL_PASSPHRASE_FILE" no_terminal "$szpool" create store
fails "an empty file" 1 "is empty" run create --passphrase-file /dev/null store
fails "a file that is not there" 1 "cannot read the passphrase from the file none" run create --passphrase-file none store
head -c 1025 /dev/zero | tr '\0' x >long
fails "1,025 bytes" 1 "longer than 1024 bytes" run create --passphrase-file long store
fails "a command that fails" 1 "failed (exit code 3)" run create --passphrase-command 'exit 3' store
ok "nothing was made" test ! -e store
ok "1,024 bytes and a newline" bash -c "{ head -c 1024 long; echo; } >most &&
	'$szpool' create --size 1G --passphrase-file most long.store"
ok "they open it, without the newline too" bash -c "head -c 1024 long >most && '$szpool' ls --passphrase-file most long.store"
ok "a weak one is warned of" bash -c "printf 'pony1234' >weak &&
	'$szpool' create --size 1G --passphrase-file weak weak.store 2>&1 | grep -q 'can be guessed'"
ok "a good one is not" bash -c "! '$szpool' create --size 1G store 2>&1 | grep guessed"
ok "a file" run ls --passphrase-file passphrase store
ok "/dev/stdin is one" bash -c "'$szpool' ls --passphrase-file /dev/stdin store <passphrase"
ok "a command" run ls --passphrase-command 'cat passphrase' store
ok "the environment" run ls store

ok "typed at the terminal" at_terminal 'quiet otters mend the old boat' "$szpool" ls store
ok "typed twice at creation" at_terminal 'pony on a hill by the sea|pony on a hill by the sea' \
	"$szpool" create --size 1G typed.store
ok "it is not shown" echo_is_off
ok "it opens the store" bash -c "printf 'pony on a hill by the sea' | '$szpool' ls --passphrase-file /dev/stdin typed.store"
two_that_differ() {
	! at_terminal 'pony on a hill by the sea|pony on a hill' "$szpool" create --size 1G other.store &&
		grep -q 'the two passphrases differ' typed && [ ! -e other.store ]
}
ok "two that differ" two_that_differ
ok "--generate-passphrase" bash -c "'$szpool' create --size 1G --generate-passphrase new.store >words"
ok "it is seven words on standard output" grep -qxE '[a-z]{3,8}(-[a-z]{3,8}){6}' words
ok "they open the store" run ls --passphrase-file words new.store
ok "no two are alike" bash -c "'$szpool' create --size 1G --generate-passphrase two.store | diff -q - words; [ \$? = 1 ]"

ok "change" bash -c "printf 'copper kettle on a narrow shelf' >second &&
	'$szpool' passphrase --kdf interactive --new-passphrase-file second store"
ok "the new one opens" run ls --passphrase-file second store

# The memory says which presets were tried.
peak_mib() { # COMMAND…
	python3 -c 'import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, timeout=60)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)' "$@"
}
peak_of() { SZPOOL_KDF=$1 peak_mib "$szpool" ls --passphrase-file "$2" "$3"; }
ok "SZPOOL_KDF: that preset is tried first" test "$(peak_of interactive second store)" -lt 250
ok "the others follow: those before it" test "$(peak_of moderate second store)" -ge 256
ok "and those behind it" test "$(peak_of interactive words new.store)" -ge 256
fails "it is none" 2 "has to be interactive, moderate or sensitive" env SZPOOL_KDF=best "$szpool" ls store
done_testing
