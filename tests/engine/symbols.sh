#!/usr/bin/env bash
# Names that the program exports and that libzpool, or a library that it needs, defines too. The
# program's would silently take the place of the library's: allowed are the leaf driver, the functions for messages,
# for how buffers are laid out and for random numbers, which are meant to, and jemalloc's setting.
#
#   symbols.sh PROGRAM
set -euo pipefail
program=$1
allowed='^(vdev_disk_ops|vcmn_err|abd_size_alloc_linear|random_get_pseudo_bytes|malloc_conf)$'

# Defined, dynamic, without the version behind the name.
names() { nm -D --defined-only "$@" | awk 'NF == 3 { sub(/@.*/, "", $3); print $3 }' | sort -u; }

mapfile -t libraries < <(ldd "$program" | awk '$3 ~ /^\// { print $3 }')
printf '%s\n' "${libraries[@]}" | grep -q libzpool || {
	echo "$program is not linked with libzpool" >&2
	exit 1
}
# With a version: a copy of the C library's own variable (stdout), not a definition of ours.
own=$(nm -D --defined-only "$program" | awk 'NF == 3 && $3 !~ /@/ { print $3 }' | sort -u)
for name in vdev_disk_ops vcmn_err abd_size_alloc_linear random_get_pseudo_bytes; do
	grep -qx "$name" <<<"$own" || {
		echo "$program does not export $name: libzpool would use its own" >&2
		exit 1
	}
done
both=$(comm -12 <(printf '%s\n' "$own") <(names "${libraries[@]}") | grep -vE "$allowed" || true)
[ -z "$both" ] || {
	echo "exported by $program and by a library:" >&2
	printf '%s\n' "$both" >&2
	exit 1
}
# Nothing else leaves the program: what is exported one day could collide the next.
others=$(printf '%s\n' "$own" | grep -vE "$allowed" || true)
[ -z "$others" ] || {
	echo "exported by $program without a need:" >&2
	printf '%s\n' "$others" >&2
	exit 1
}
