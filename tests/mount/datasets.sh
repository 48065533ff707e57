#!/usr/bin/env bash
# Datasets below the one that is mounted: in their place, files that are nobody else's, what goes across. TAP.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$(readlink -f "$0")")/lib.sh"

inode() { stat -c %i "$1"; }

ok "create" create store
mkdir m m2
ok "create-dataset" run create-dataset store music
ok "below it" run create-dataset store music/old
fails "twice" 1 "there is a dataset 'music' already" run create-dataset store music
fails "without its parent" 1 "there is no dataset above 'a/b'" run create-dataset store a/b
fails "a name that is none" 1 "cannot be a dataset's name" run create-dataset store 'a@b'
printf hello >hello
ok "put" run put --dataset music/old store hello /
prints "cat" hello run cat --dataset music/old store /hello
fails "a dataset is named by an option" 1 "'music' is a dataset of its own" run ls store /music
fails "nothing is put into it so" 1 "'music' is a dataset of its own" run put store hello /music
mkdir music && touch music/x
fails "nothing is put under it" 1 "a dataset has its place" run put store music /
fails "it is in no other" 1 "No such file" run cat --dataset music store /hello
fails "a dataset that is not there" 1 "cannot open the dataset" run ls --dataset none store /

ok "mount" mount_here
prints "they are in their place" $'music\nmusic/old\nmusic/old/hello' bash -c "cd m && find * | sort"
prints "with what is in them" hello cat m/music/old/hello
printf one >m/music/song && printf two >m/song && mkdir m/music/folder m/folder
ok "fsync in one" sync m/music/song
prints "commands see it" one run cat --dataset music store /song
ls m/music/new 2>/dev/null # the kernel remembers that there is none
ok "put beside it" run put --dataset music store hello /new
prints "the mount has it" hello cat m/music/new
fails "no file is another's: link" 1 "Invalid cross-device link" ln m/song m/music/linked
ok "mv copies" bash -c "mv m/song m/music/moved && ! test -e m/song"
prints "what it was" two cat m/music/moved
fails "its folder is not removed" 1 "Device or resource busy" rmdir m/music/old
fails "nor renamed" 1 "Device or resource busy" bash -c "mv -T m/music m/other"
fails "nor replaced" 1 "Device or resource busy" bash -c "mv -T m/folder m/music"
fails "nor by a command" 1 "resource busy" run rm -r store /music
run rm --dataset music -r store /folder /new
rmdir m/folder
head -c 100000 /dev/urandom >m/music/old/big
ln m/music/old/big m/music/old/again
ok "numbers are one file's alone" python3 -c '
import os
seen = {}
for folder, names, files in os.walk("m"):
    for name in names + files:
        path = os.path.join(folder, name)
        stat = os.lstat(path)
        other = seen.setdefault(stat.st_ino, path)
        assert other == path or os.path.samefile(path, other) and stat.st_nlink == 2, (path, other)'
ok "seal" run seal store
prints "statfs is of each" "music old" bash -c "
	used() { stat -fc '(%b - %f) * %S' \$1; }
	[ \$((\$(used m/music/old))) -gt \$((\$(used m/music))) ] && echo music old"
ok "tar takes hard links for what they are" bash -c "tar -C m -cf tree.tar . && tar -tvf tree.tar | grep -q 'link to ./music/old/'"
ok "a new one" run create-dataset store photos
ok "is there" test -d m/photos
prints "and listed" $'music\nphotos' ls m
ok "and is written to" bash -c "cp m/music/old/big m/photos/ && sync m/photos/big"
first=$(inode m/music/old/hello)
exec 3>m/music/open && rm m/music/open && printf kept >&3
prints "what has no name any more" kept cat /proc/self/fd/3
exec 3>&-
ok "umount" run umount m
wait "$server"
ok "mount again" mount_here
prints "numbers stay" "$first" inode m/music/old/hello
ok "a snapshot, while others are open" run snapshot store before
ok "is read beside them" ls m/.zfs/snapshot/before
ok "and destroyed" run destroy-snapshot --yes store before
prints "what was written is there" two cat m/music/moved
kill -KILL "$server"
wait "$server" 2>/dev/null
ok "umount removes it" run umount m
ok "mount what was killed" mount_here
ok "what was synced is there" cmp m/music/old/big m/photos/big
ok "umount" run umount m
wait "$server"

ok "mount --dataset" mount_here --dataset music
prints "is that one" $'moved\nold\nsong' ls m
prints "and what is below it" hello cat m/old/hello
prints "commands are for the root, unless they say so" $'music\nphotos' run ls store
prints "so" hello run cat --dataset music/old store /hello
ok "put into it" run put --dataset music store hello /put
prints "is seen" hello cat m/put
ok "umount" run umount m
wait "$server"
ok "mount, read-only" mount_here --read-only
prints "has them" hello cat m/music/old/hello
fails "nothing is written" 1 "Read-only file system" touch m/music/x
ok "umount" run umount m
wait "$server"
fails "get leaves it out, and says so" 1 "music: left out: a dataset of its own; --dataset music" run get store / got
ok "no folder looks like it" test ! -e got/music
ok "ls -R goes on" run ls -R store /
then_ok "and says so" grep -qF "music: left out: a dataset of its own; --dataset music" err
run ls -R --dataset music store / >out 2>err
then_ok "of one that is deeper, too" grep -qF "old: left out: a dataset of its own; --dataset music/old" err
mkdir taken && touch taken/x
ok "put a folder" run put --dataset music store taken hello /
fails "nothing is hidden by a dataset: a folder" 1 "'taken' is there already" run create-dataset store music/taken
fails "a file" 1 "'hello' is there already" run create-dataset store music/hello
ok "none was made" run rm --dataset music -r store /taken /hello
ok "an empty folder" run mkdir --dataset music store /taken
ok "is its place" run create-dataset store music/taken
fails "which is not removed" 1 "resource busy" run rm --dataset music -r store /taken
ok "it is sound" bash -c "'$szpool' scrub store | grep -q 'with 0 errors'"
done_testing
