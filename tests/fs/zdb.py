#!/usr/bin/env python3
"""Compares what zdb, which shares no code with this project's file system, finds on the devices with
what store_tree says that it stored: every attribute, every entry's type, link counts, the delete
queue, the accounting, content, and that no block leaks.

    zdb.py STORE_TREE
"""
import collections
import filecmp
import os
import re
import subprocess
import sys
import tempfile
import time

POOL = "szpool"
TIMEOUT_S = 100
RECORD_BYTES = 512 << 10
TYPES = {0o1: "FIFO", 0o2: "Character Device", 0o4: "Directory", 0o6: "Block Device",
         0o10: "Regular File", 0o12: "Symbolic Link", 0o14: "Socket"}
EXPECTED = ("path", "mode", "uid", "gid", "size", "links", "parent", "atime", "mtime", "rdev",
            "target")
# Copied out and compared; each is a run of zdb.
CONTENT = ("/sizes/131073", "/sizes/5242957", "/changed", "/cut", "/grown")

failures = []
count = 0


def case(name, problems):
    """A TAP line, and what is wrong."""
    global count
    count += 1
    print(f"{'not ok' if problems else 'ok'} {count} - {name}", flush=True)
    for problem in problems[:20]:
        print(f"#   {problem[:300]}")
    failures.extend(problems)


def skip(name, why):
    global count
    count += 1
    print(f"ok {count} - {name} # SKIP {why}", flush=True)


def zdb(devices, *arguments):
    run = subprocess.run(["zdb", "-e", "-p", devices, *arguments], capture_output=True,
                         timeout=TIMEOUT_S, text=True, check=False)
    return run.returncode, run.stdout + run.stderr


def read_expected(path):
    with open(path, encoding="utf-8") as file:
        for line in file:
            number, *fields = line.rstrip("\n").split("\t")
            yield int(number), dict(zip(EXPECTED, fields))


def octal(text):
    """A value, from what zdb prints of it."""
    return bytes(int(code, 8) for code in text.split("\\")[1:])


def parse_xattrs(text):
    """The extended attributes that stand in an inode: values by name."""
    part = text.partition("\tSA xattrs: ")[2].partition("\n\n")[2]
    lines = (re.fullmatch(r"\t\t(.*?) = ((?:\\[0-7]{3})*)", line) for line in part.split("\n"))
    return {line[1]: octal(line[2]) for line in lines if line}


def parse_object(text):
    """One object of zdb -ddddd -P: its header's numbers, its attributes, its entries and blocks."""
    found = {"entries": {}, "sa_xattrs": parse_xattrs(text)}
    found["blocks"] = re.findall(r"\n +[0-9a-f]+ +L0 (\d+:[0-9a-f]+):[0-9a-f]+ \w+L/([0-9a-f]+)P", text)
    header = text.split("\n", 2)[1].split(None, 8)
    found["object"], found["used"], found["type"] = int(header[0]), int(header[4]), header[8]
    found["dblk"], found["dnsize"] = int(header[3]), int(header[5])
    for line in text.split("\n"):
        entry = re.fullmatch(r"\t\t(.*) = (-?\d+)(?: \(type: (.*)\))? ?", line)
        attribute = re.fullmatch(r"\t([a-z]+)\s+(.*)", line)
        if entry:
            found["entries"][entry[1]] = (int(entry[2]), entry[3])
        elif attribute:
            found[attribute[1]] = attribute[2]
    return found


def parse(text):
    parts = text.split("    Object  lvl")[1:]
    return {found["object"]: found for found in map(parse_object, parts)}


def check_attributes(expected, objects):
    for number, want in expected.items():
        got = objects.get(number)
        if got is None:
            yield f"{want['path']}: object {number} is not there"
            continue
        want = dict(want, atime=time.ctime(int(want["atime"])), mtime=time.ctime(int(want["mtime"])))
        rdev = int(want["rdev"])
        # The kernel keeps its own dev_t on disk: 12 bits of major, 20 of minor.
        want["rdev"] = f"0x{os.major(rdev) << 20 | os.minor(rdev):016x}" if rdev else ""
        for name in EXPECTED:
            if got.get(name, "") != want[name]:
                yield f"{want['path']}: {name} is {got.get(name)!r}, not {want[name]!r}"


def check_derived(expected, objects):
    """What follows from the mode: flags, project; and times and generation that make sense."""
    for number, want in expected.items():
        got = objects[number]
        mode = int(want["mode"], 8)
        flags = int(got["pflags"], 16)
        has_project = mode >> 12 in (0o4, 0o10)
        if bool(flags & 0x100) != (mode & 0o111 == 0o111):
            yield f"{want['path']}: NO_EXECS_DENIED of {got['pflags']} does not fit mode {mode:o}"
        if flags & 0x4 == 0 or bool(flags & 0x40) != (mode >> 12 == 0o4):
            yield f"{want['path']}: the ACL is not marked as trivial in {got['pflags']}"
        if has_project != ("projid" in got) or got.get("projid", "0") != "0":
            yield f"{want['path']}: project is {got.get('projid')}"
        if int(got["gen"]) == 0 or got["crtime"][-4:] < "2024" or got["ctime"][-4:] < "2024":
            yield f"{want['path']}: gen {got['gen']}, crtime {got['crtime']}, ctime {got['ctime']}"


def check_entries(objects):
    """Every entry leads to an object of its type; links and sizes are what the entries say."""
    names = collections.Counter()
    folders = {n: o for n, o in objects.items() if o["type"] == "ZFS directory"}
    for number, folder in folders.items():
        below = 0
        for name, (target, kind) in folder["entries"].items():
            names[target] += 1
            got = objects.get(target)
            if got is None:
                yield f"{folder['path']}/{name}: there is no object {target}"
                continue
            if TYPES[int(got["mode"], 8) >> 12] != kind:
                yield f"{folder['path']}/{name}: is a {kind}, with mode {got['mode']}"
            below += kind == "Directory"
        if int(folder["size"]) != len(folder["entries"]) + 2:
            yield f"{folder['path']}: size {folder['size']}, {len(folder['entries'])} entries"
        if int(folder["links"]) != below + 2:
            yield f"{folder['path']}: {folder['links']} links, {below} folders in it"
    # The root, and the folders of extended attributes.
    nameless = {int(got["xattr"]) for got in objects.values() if "xattr" in got}
    nameless |= {number for number, got in folders.items() if got["path"] == "/"}
    for number, got in objects.items():
        if got["type"] == "ZFS plain file" and int(got["links"]) != names[number]:
            yield f"{got['path']}: {got['links']} links, {names[number]} names"
        if got["type"] == "ZFS directory" and names[number] != (number not in nameless):
            yield f"{got['path']}: {names[number]} names"


def check_accounting(objects):
    """Space and number of objects by owner and by group. Every object's dnode counts too; zdb rounds
    what an object uses to blocks of 512 bytes."""
    for table, field in ((-1, "uid"), (-2, "gid")):
        want = collections.Counter()
        rounding = collections.Counter()
        for got in objects.values():
            if "uid" in got:
                owner = f"{int(got[field]):x}"
                want[owner] += got["used"] + got["dnsize"]
                rounding[owner] += 256 if got["used"] else 0
                want["obj-" + owner] += 1
        got = {name: value for name, (value, _) in objects[table]["entries"].items()}
        for name in sorted(set(want) | set(got)):
            if abs(want[name] - got.get(name, 0)) > rounding[name]:
                yield f"{field} {name}: {got.get(name)}, not {want[name]}"


def check_queue(objects):
    queues = [o for o in objects.values() if o["type"] == "ZFS delete queue"]
    if len(queues) != 1 or queues[0]["entries"]:
        yield f"the delete queue: {queues}"


def check_block_sizes(expected, objects):
    """A file of one block has it as large as it needs; more make it a record."""
    for number, want in expected.items():
        if want["path"].startswith("/sizes/"):
            size = max(512, min(RECORD_BYTES, (int(want["size"]) + 511) // 512 * 512))
            if objects[number]["dblk"] != size:
                yield f"{want['path']}: blocks of {objects[number]['dblk']} bytes, not {size}"


def check_content(folder, expected):
    for number, want in expected.items():
        if want["path"] not in CONTENT:
            continue
        out = os.path.join(folder, "out")
        status, text = zdb(os.path.join(folder, "devices"), "-r", POOL, want["path"][1:], out)
        if status != 0:
            yield f"{want['path']}: zdb says: {text}"
        elif not filecmp.cmp(out, os.path.join(folder, "content", str(number)), shallow=False):
            yield f"{want['path']}: the content differs"
        os.remove(out)


def is_of_many(path):
    """zdb finds no path of what lost the name that it got last; check_entries has counted its names."""
    return path.startswith(("/many/", "path not found"))


def block_read(devices, block):
    """A block as it stands on the devices; what is random is not compressed."""
    run = subprocess.run(["zdb", "-e", "-p", devices, "-R", POOL, f"{block[0]}:{block[1]}:r"],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=TIMEOUT_S, check=True)
    return run.stdout


def xattrs_of(devices, objects, number):
    """All extended attributes of an object, those in files too: (where, value) by name."""
    found = {name: ("inode", value) for name, value in objects[number]["sa_xattrs"].items()}
    folder = objects.get(int(objects[number].get("xattr", 0)), {"entries": {}})
    for name, (target, _) in folder["entries"].items():
        part = objects[target]
        content = b"".join(block_read(devices, block) for block in part["blocks"])
        if name in found:
            found[name] = ("both", b"")
        else:
            found[name] = ("file", content[:int(part["size"])])
    return found


def check_xattrs(folder, objects):
    """The attributes are where they belong, with their values, and there are no others; what many
    threads left is only seen to hang together."""
    wanted = collections.defaultdict(dict)
    with open(os.path.join(folder, "xattrs"), encoding="utf-8") as file:
        for line in file:
            number, name, where, size = line.rstrip("\n").split("\t")
            with open(os.path.join(folder, "content", f"{number}.{name}"), "rb") as value:
                wanted[int(number)][name] = (where, value.read(int(size)))
    for number, got in objects.items():
        if number < 0 or "path" not in got or is_of_many(got["path"]):
            continue
        found = xattrs_of(os.path.join(folder, "devices"), objects, number)
        for name in sorted(set(found) | set(wanted[number])):
            where, value = found.get(name, ("absent", b""))
            if (where, value) != wanted[number].get(name):
                yield f"{got['path']}: {name} is in: {where}, {len(value)} bytes"


def check_xattr_parts(objects):
    """What holds large attributes is flagged, and hangs on its inode as the kernel's ZFS has it."""
    hidden = {int(got["xattr"]): number for number, got in objects.items() if "xattr" in got}
    files = {target: folder for folder in hidden
             for target, _ in objects[folder]["entries"].values()}
    for number, got in objects.items():
        if "pflags" not in got:
            continue
        parent = hidden.get(number, files.get(number))
        if bool(int(got["pflags"], 16) & 0x1) != (parent is not None):
            yield f"{got['path']}: flags are {got['pflags']}"
        if parent is None:
            continue
        want = "41777" if number in hidden else "100644"
        owner = objects[hidden.get(number, hidden.get(parent))]
        if got["mode"] != want or int(got["parent"]) != parent:
            yield f"{got['path']}: mode {got['mode']}, parent {got['parent']}"
        if (got["uid"], got["gid"]) != (owner["uid"], owner["gid"]):
            yield f"{got['path']}: owner {got['uid']}:{got['gid']}"


def check_leaks(devices):
    status, text = zdb(devices, "-bcc", POOL)
    if status != 0 or "No leaks" not in text or re.search(r"zdb_blkptr_cb: Got error", text):
        yield from text.split("\n")


def main():
    with tempfile.TemporaryDirectory(prefix="szpool-test-zdb.") as folder:
        devices = os.path.join(folder, "devices")
        for name in ("devices", "content"):
            os.mkdir(os.path.join(folder, name))
        subprocess.run([sys.argv[1], folder], check=True, timeout=TIMEOUT_S)
        expected = dict(read_expected(os.path.join(folder, "expected")))
        status, text = zdb(devices, "-P", "-ddddd", f"{POOL}/")
        objects = parse(text)
        print("1..11")
        case("zdb reads the dataset", [] if status == 0 and len(expected) > 50 else [text[-2000:]])
        case("attributes", list(check_attributes(expected, objects)))
        case("flags, project, generation", list(check_derived(expected, objects)))
        case("entries, links and sizes of folders", list(check_entries(objects)))
        case("space by user and group", list(check_accounting(objects)))
        case("the delete queue is empty", list(check_queue(objects)))
        case("extended attributes", list(check_xattrs(folder, objects)))
        case("folders and files of extended attributes", list(check_xattr_parts(objects)))
        case("block sizes", list(check_block_sizes(expected, objects)))
        case("content", list(check_content(folder, expected)))
        case("no block leaks, all checksums match", list(check_leaks(devices)))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
