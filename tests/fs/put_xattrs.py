#!/usr/bin/env python3
"""Puts a tree with extended attributes of every kind into a store, and compares what zdb finds on its
devices with what the tree has: names, values, and the place where the kernel's ZFS would keep them.

    put_xattrs.py SZPOOL DEVICES_OUT
"""
import os
import shutil
import subprocess
import sys
import tempfile

import zdb

INODE_VALUE_MAX = 32768  # a larger value gets a file of its own
LARGE = (32768, 32769, 60 << 10, 65536)


def attributes_set(path, sizes):
    """Attributes of those sizes that the file system takes, from small to large."""
    for size in sizes:
        try:
            os.setxattr(path, f"user.of {size}", os.urandom(size))
        except OSError:
            return


def make_tree(tree):
    os.makedirs(os.path.join(tree, "folder", "deep"))
    for name in ("none", "few", "large", "folder/deep/file", "names", "acl"):
        with open(os.path.join(tree, name), "wb") as file:
            file.write(name.encode())
    attributes_set(os.path.join(tree, "few"), (0, 1, 2, 300, 2000))
    attributes_set(os.path.join(tree, "folder"), (5, 100))
    attributes_set(os.path.join(tree, "folder/deep/file"), (7,))
    attributes_set(os.path.join(tree, "large"), LARGE)
    for i in range(40):
        os.setxattr(os.path.join(tree, "names"), f"user.name {i} " + "n" * (2 * i), bytes([i]))
    subprocess.run(["setfacl", "-m", "u:12:rw,g:34:r", os.path.join(tree, "acl")], check=False)
    subprocess.run(["setfacl", "-d", "-m", "u:12:rx", os.path.join(tree, "folder")], check=False)
    if os.geteuid() == 0:
        subprocess.run(["setcap", "cap_net_raw+ep", os.path.join(tree, "few")], check=False)


def wanted_of(tree):
    """(where, value) by name, by path below the tree."""
    wanted = {}
    for folder, folders, files in os.walk(tree):
        for name in ["."] * (folder == tree) + folders + files:
            path = os.path.normpath(os.path.join(folder, name))
            wanted["/" + os.path.relpath(path, os.path.dirname(tree))] = {
                name: ("inode" if len(value) <= INODE_VALUE_MAX else "file", value)
                for name in os.listxattr(path) for value in [os.getxattr(path, name)]}
    return wanted


def check_values(wanted, devices, objects):
    numbers = {got["path"]: number for number, got in objects.items() if "path" in got}
    for path, attributes in wanted.items():
        found = zdb.xattrs_of(devices, objects, numbers[path])
        for name in sorted(set(found) | set(attributes)):
            if found.get(name) != attributes.get(name):
                where, value = found.get(name, ("absent", b""))
                yield f"{path}: {name} is in: {where}, {len(value)} bytes"


def large_takes(folder):
    try:
        path = os.path.join(folder, "try")
        with open(path, "wb"):
            os.setxattr(path, "user.try", bytes(LARGE[-1]))
        return True
    except OSError:
        return False


def main():
    szpool, devices_out = map(os.path.abspath, sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="szpool-test-xattr.") as folder:
        os.chdir(folder)
        memory = tempfile.mkdtemp(prefix="szpool-test-xattr.", dir="/dev/shm")
        tree = os.path.join(memory if large_takes(memory) else folder, "tree")
        try:
            make_tree(tree)
            has_large = bool(os.listxattr(os.path.join(tree, "large")))
            with open("passphrase", "w", encoding="utf-8") as file:
                file.write("quiet otters mend the old boat\n")
            os.environ["SZPOOL_PASSPHRASE_FILE"] = "passphrase"
            os.mkdir("devices")
            for command in ([szpool, "create", "--kdf", "interactive", "--size", "1G", "store"], [szpool, "put", "store", tree, "/"],
                            [devices_out, "store", "devices"]):
                subprocess.run(command, check=True, timeout=zdb.TIMEOUT_S)
            status, text = zdb.zdb("devices", "-P", "-ddddd", f"{zdb.POOL}/")
            objects = zdb.parse(text)
            wanted = wanted_of(tree)
            print("1..5")
            zdb.case("zdb reads the dataset", [] if status == 0 and len(wanted) > 7 else [text[-2000:]])
            zdb.case("names, values, places", list(check_values(wanted, "devices", objects)))
            if has_large:
                zdb.case("large ones have files", list(zdb.check_xattr_parts(objects)) +
                         ([] if any("xattr" in got for got in objects.values()) else ["there are none"]))
            else:
                zdb.skip("large ones have files", "no file system here takes them")
            zdb.case("the delete queue is empty", list(zdb.check_queue(objects)))
            zdb.case("no block leaks, all checksums match", list(zdb.check_leaks("devices")))
        finally:
            shutil.rmtree(memory)
            os.chdir("/")
    return 1 if zdb.failures else 0


if __name__ == "__main__":
    sys.exit(main())
