#!/usr/bin/env bash
# The manual and the program say the same: each command has a page with its usage line and all of
# its options, and no others; szpool(1) has every command and exit code. TAP.
man=$(readlink -f "$2")
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

tables=$(run help --json)

page_has() { grep -qxF -- "$2" "$man/$1.1.scd"; }
is_clean() { scdoc <"$man/$1.1.scd" >page && [ -s page ]; }
usage_line() { # COMMAND OPERANDS
	echo "*szpool $1* [_OPTION_...]${2:+ $(sed -E 's/[A-Z]+/_&_/g' <<<"$2")}"
}
options_of() { jq -r ".commands[] | select(.name == \"$1\") | .options[].name" <<<"$tables" | grep -v '^help$'; }
all_options_are_there() {
	local option
	for option in $(options_of "$1"); do
		grep -qE "^(\*-.\*, )?\*--$option\*" "$man/szpool-$1.1.scd" ||
			grep -qE "^(\*-.\*, )?\*--$option\*" "$man/szpool.1.scd" || {
			echo "--$option"
			return 1
		}
	done
}
no_others_are_there() {
	local option
	while read -r option; do
		options_of "$1" | grep -qx -- "$option" || {
			echo "--$option"
			return 1
		}
	done < <(sed -n 's/^\(\*-.\*, \)\?\*--\([a-z-]*\)\*.*/\2/p' "$man/szpool-$1.1.scd")
}

for command in $(jq -r '.commands[].name' <<<"$tables"); do
	operands=$(jq -r ".commands[] | select(.name == \"$command\") | .operands" <<<"$tables")
	ok "szpool-$command(1) can be formatted" is_clean "szpool-$command"
	ok "its usage line is the program's" page_has "szpool-$command" "$(usage_line "$command" "$operands")"
	ok "it has all options" all_options_are_there "$command"
	ok "and no others" no_others_are_there "$command"
	ok "szpool(1) names it" grep -qF "*szpool-$command*(1)" "$man/szpool.1.scd"
done
ok "szpool(1) can be formatted" is_clean szpool
while read -r code meaning; do
	ok "szpool(1) has exit code $code" page_has szpool "- *$code*: $meaning"
done < <(jq -r '.exit_codes[] | "\(.code) \(.meaning)"' <<<"$tables")
pages=("$man"/*.scd)
ok "there is no page of a command that is gone" test ${#pages[@]} = \
	"$(($(jq '.commands | length' <<<"$tables") + 1))"
done_testing
