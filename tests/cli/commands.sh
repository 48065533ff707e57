#!/usr/bin/env bash
# Every command: what it prints, its options, its JSON. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

json() { jq -e "$1" out >/dev/null; }
has() { grep -qE -- "$1" out; }
# Each command's summary is in the same column, behind two spaces or more.
aligned() {
	[ "$(grep -E '^  [a-z]' out | awk '{ match($0, /.*  /); print RLENGTH }' | sort -u | wc -l)" = 1 ]
}
warns() { grep -qF -- "$1" err; }

ok "version" run version
then_ok "version is one line with a number" has '^szpool [0-9]+\.[0-9]+\.[0-9]+$'
ok "--version" run --version
ok "help" run help
then_ok "its columns are aligned" aligned
then_ok "help names the exit codes" has '^ +130  interrupted'
ok "help of each command" bash -c "for c in \$('$szpool' help --json | jq -r '.commands[].name'); do
	'$szpool' help \$c | grep -q \"^Usage: szpool \$c\" || exit 1; done"
ok "--help of a command" run put --help
then_ok "it is that command's" has '^Usage: szpool put '

ok "create" create store
ok "mkdir, several" run mkdir store /a /a/b
ok "mkdir --parents" run mkdir -p store /c/d/e /a/b
fails "mkdir without them" 1 "--parents makes" run mkdir store /x/y
fails "mkdir of what exists" 1 "/a: File exists" run mkdir store /a
fails "mkdir --parents through a file" 1 "exists and is not a folder" bash -c \
	"'$szpool' put store passphrase /file && '$szpool' mkdir -p store /file/x"

prints "ls sorts" $'a\nc\nfile' run ls store
prints "ls of a file" /file run ls store /file
prints "ls -R" $'/:\na\nc\nfile\n\n/a:\nb\n\n/a/b:\n\n/c:\nd\n\n/c/d:\ne\n\n/c/d/e:' run ls -R store /
ok "ls -l" run ls -l store /
then_ok "it has mode, links, owner, size, time" has '^-rw-r--r-- +1 +0 +0 +31 20[0-9-]+ [0-9:]+ file$'
ok "ls --json" run ls --json store /file /a
then_ok "it is complete" json '.[0].path == "/file" and .[0].type == "file" and .[0].size_bytes == 31 and
	.[0].mtime_s > 0 and .[1].path == "/a/b" and .[1].type == "folder" and (length == 2)'
printf 'x' >$'latin\xe9'
ok "a name that is not UTF-8" run put store $'latin\xe9' /
ok "ls --json of it" run ls --json store
then_ok "it comes as hex" json '[.[].path | objects | .hex] == ["2f6c6174696ee9"]'
prints "NO_COLOR and pipes: no colours" "" bash -c "'$szpool' status store | tr -dc '\033'"

printf 'one\n' >one
printf 'two\n' >two
ok "put, several into a folder" run put store one two /a
prints "cat, several" $'one\ntwo' run cat store /a/one /a/two
fails "cat of a folder" 1 "/a: is a folder; 'szpool ls' lists it" run cat store /a
mkdir kinds && ln -s one kinds/link && mkfifo kinds/fifo && printf x >kinds/file
ok "put other kinds" run put store kinds /
fails "cat of a link" 1 "/kinds/link: is a symbolic link; it leads to one" run cat store /kinds/link
fails "get of it to standard output" 1 "it leads to one" run get store /kinds/link -
fails "cat of a FIFO" 1 "/kinds/fifo: is a FIFO, and has no content" run cat store /kinds/fifo
for command in ls cat rm "rm -f"; do
	# shellcheck disable=SC2086
	fails "$command of a file with a slash at its end" 1 "/kinds/file/: Not a directory" run $command store /kinds/file/
done
fails "put over it so" 1 "/kinds/file/: Not a directory" run put store kinds/file /kinds/file/
prints "it is as it was" x run cat store /kinds/file
ok "remove them" run rm -r store /kinds/
fails "put, several to what is no folder" 1 "several sources need a folder" run put store one two /new
ok "put to a new name" run put store one /new
prints "it has that name" one run cat store /new
fails "put a folder over a file" 1 "there is a file of that name" bash -c \
	"mkdir -p new && '$szpool' put store new /"
fails "put a file over a folder" 1 "there is a folder of that name" bash -c \
	"printf x >c && '$szpool' put store c /"
prints "put of standard input" piped bash -c "printf piped | '$szpool' put store - /in && '$szpool' get store /in -"
fails "it needs a name" 1 "/a: is a folder in the pool" run put store - /a
fails "it comes alone" 2 "only source" run put store - one /a
mkdir here && touch here/x
prints "put . takes the folder's name" x bash -c "cd here && '$szpool' put ../store . / && '$szpool' ls ../store /here"
fails "put of what is not there" 1 "nothing: left out: No such file" run put store nothing /
ok "the store does not go into itself" bash -c "mkdir -p own && mv store own/ && '$szpool' put own/store own / 2>warned;
	status=\$?; mv own/store . && [ \$status = 0 ] && grep -q 'not put into itself' warned"

ok "put over a file" bash -c "ln one hard && '$szpool' put store one hard / && printf new >one.new && mv one.new one &&
	'$szpool' put store one /"
prints "the name has the new content" new run cat store /one
prints "its other name keeps the old one" one run cat store /hard

prints "get of several into a folder" $'new\ntwo' bash -c "mkdir out.d && '$szpool' get store /one /a/two out.d && cat out.d/one; echo; cat out.d/two"
fails "get of several to what is no folder" 1 "several paths need one" run get store /one /a/two none
fails "get of a folder to standard output" 1 "is a folder" run get store /a -
fails "get over a folder" 1 "left out: Is a directory" bash -c "mkdir -p out.d/new && '$szpool' get store /new out.d"
prints "get over a file" new bash -c "printf old >target && '$szpool' get store /one target && cat target"
ok "get of the root folder keeps the target's mode" bash -c "mkdir -m 0711 all && '$szpool' get store / all &&
	[ \$(stat -c %a all) = 711 ] && [ -f all/one ]"
ok "get does not follow a link in the target" bash -c "mkdir -p all.2 elsewhere && ln -s ../elsewhere all.2/a;
	! '$szpool' get store / all.2 2>left && [ -z \"\$(ls elsewhere)\" ] && grep -q '/a: left out' left"

fails "rm of a full folder" 1 "Directory not empty; 'szpool rm -r'" run rm store /a
prints "rm --dry-run" $'would remove /a/b\nwould remove /a/one\nwould remove /a/two\nwould remove /a' run rm -r --dry-run store /a
ok "rm -r" run rm -r store /a /in
fails "what was removed is gone" 1 "/a: No such file or folder" run ls store /a
fails "rm of what is not there" 1 "/a: No such file" run rm store /a
ok "rm -f of it" run rm -f store /a
fails "rm of the root folder" 1 "root folder" run rm -r store /

ok "df" run df store
then_ok "it has a line of sizes" has '^ +[0-9]+M +[0-9.]+[KM] +[0-9]+M +[0-9]+%$'
ok "df --json" run df --json store
then_ok "its sizes add up" json '.size_bytes == .used_bytes + .available_bytes and .available_bytes > 500000000'
ok "info" run info store
then_ok "it shows the sizes" has '^ +stored: '
ok "info --json" run info --json store
then_ok "it names the devices" json '(.devices | length) == 6 and .used_bytes > 0'
ok "seal" run seal store
ok "seal --json" run seal --json store
then_ok "it names the generation" json '.generation >= 0'

ok "status" run status store
then_ok "it reads as zpool status does" has '^\s+raidz2-0 +ONLINE +0 +0 +0$'
ok "status --check of a healthy pool" run status --check store
ok "status --json" run status --json store
then_ok "it is complete" json '.state == "ONLINE" and (.config | length) == 8 and .data_errors == 0 and .damage == []'
fails "scrub --stop without one" 1 "no scrub is under way" run scrub --stop store
ok "scrub" run scrub store
then_ok "it says what it did" has '^  scan: scrub repaired 0B in [0-9:]+ with 0 errors on '
ok "scrub --json" run scrub --json store
then_ok "it is JSON alone" json '.scan.kind == "scrub" and .scan.state == "finished" and .scan.errors == 0'

printf 'short' >short
ok "put" run put store short /
fails "a closed standard output is no success" 1 "Bad file descriptor" sh -c "'$szpool' cat store /short >&-"
fails "nor a closed standard input" 1 "Bad file descriptor" sh -c "'$szpool' put store - /none <&-"
ok "--memory" run ls --memory 256M store
ok "create with properties" create -o compression=off -o recordsize=128K properties
ok "create with a slash at the end" create slash/
prints "it opens without one" "" run ls slash
mkdir far
ok "create with folders elsewhere" create --devices 3 --raid raidz1 --device-dir far/1 --device-dir far/2 --device-dir 3 apart
ok "they are remembered" run status --check apart
mv far near
fails "moved, they are asked for" 6 "devices 0 and 1; of 3 devices 1 are there" run mkdir apart /none
then_ok "by where they were" warns "$work/far/1: a device's folder was there, and is no more"
then_ok "and how to tell" warns "say where to with --device-dir"
fails "reading asks, too" 6 "say with --device-dir where they are" run ls apart
ok "they can be named" run status --check --device-dir near/1 --device-dir near/2 apart
ok "to the one who reads alone" bash -c "! '$szpool' ls -q apart"
ok "who writes is told once" run mkdir --device-dir near/1 --device-dir near/2 apart /new
prints "then they are remembered" new run ls apart
then_ok "and nothing is warned of" test ! -s err
mv near/1 1
ok "one that is gone is warned of" run mkdir apart /degraded
then_ok "by its place" warns "$work/near/1: a device's folder was there"
mv 1 near/1
ok "and found again" run scrub apart
then_ok "without a word" test ! -s err
# A copy of the store's own folder alone names the original's devices, which are not its own.
cp -a apart twin
find near apart -type f -exec sha256sum {} + | sort >before
fails "a copy does not write to the original's devices" 6 "no root is left" run mkdir twin /x
then_ok "and says whose they are" warns "is a copy, and the devices' folders that it names are the original's"
cp -a near twins
ok "it has its own" run mkdir --device-dir twins/1 --device-dir twins/2 twin /x
prints "and remembers them" x bash -c "'$szpool' ls twin | grep x"
find near apart -type f -exec sha256sum {} + | sort >after
ok "the original is as it was" cmp before after
# One of them alone is elsewhere: the copy does without, today and tomorrow.
mkdir away half
ok "create with one elsewhere" create --devices 3 --raid raidz1 --device-dir away/1 --device-dir half/2 --device-dir half/3 half
cp -a half quarter
find away -type f -exec sha256sum {} + | sort >before
ok "a copy is written to" run mkdir quarter /x
ok "and again" run mkdir quarter /y
find away -type f -exec sha256sum {} + | sort >after
ok "never in the original's device" cmp before after
fails "a folder named twice" 1 "near/1/: is named twice" run ls --device-dir near/1 --device-dir near/1/ apart
fails "the store as a device" 1 "apart: is the store's own folder" run ls --device-dir apart apart
fails "a folder that is not there" 1 "--device-dir far/1: No such file" run ls --device-dir far/1 apart
ok "another folder" run ls --device-dir near apart
then_ok "is warned of" warns "near: is no device's folder of this store"
mkdir bay inner
three() { create --devices 3 --device-dir "$1" --device-dir "$2" --device-dir bay/3 inner; }
fails "create with a folder twice" 1 "bay/1/: is named twice" three bay/1 bay/1/
fails "create with the store as a device" 1 "inner: is the store's own folder" three inner bay/2
mkdir inner/1
fails "create with a folder too deep in the store" 1 "directly in the store's folder" three inner/1/2 bay/2
rmdir inner/1
fails "create with the name of what is live" 1 "but not 'live'" three inner/live bay/2
mkdir bay/1
fails "create with one folder in another" 1 "bay/1/2: lies in bay/1" three bay/1/2 bay/1
ok "nothing was made" test "$(find bay inner)" = "$(printf 'bay\nbay/1\ninner')"
ok "create with a folder in the store" three inner/1 bay/1
ok "it opens" run status --check inner
done_testing
