#!/usr/bin/env bash
# The cheap passphrase preset of the tests is in no product binary. First argument: a test program,
# which has it (or this test could not fail); the others: programs that must not.
set -uo pipefail

marker="szpool: the test preset is compiled in"
count=0

check() { # WHAT WANTED FILE
	local found=no
	count=$((count + 1))
	if grep -qF "$marker" "$3"; then found=yes; fi
	[ $found = "$2" ] || printf 'not '
	echo "ok $count - $1: ${3##*/}"
}

echo "1..$#"
check "has the test preset" yes "$1"
shift
for program in "$@"; do
	check "does not have the test preset" no "$program"
done
