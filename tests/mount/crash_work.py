#!/usr/bin/env python3
"""Works in a mounted folder until it goes away, and tells what of it had been synced.

    crash_work.py work FOLDER JOURNAL SEED     files that are made, appended to, renamed, removed, each step synced
    crash_work.py check FOLDER JOURNAL         all that the journal says was synced is there; nothing else is

The journal lies outside: a line before each step, and one when it is durable. Several workers take a folder each.
"""
import hashlib
import os
import random
import sys
import time

FOLDERS = 4
LIMIT_S = 60  # nobody ended it


def content(seed, number, size):
    """Of a file, up to any size: what it begins with is the same for each size."""
    blocks = (hashlib.sha512(f"{seed} {number} {i}".encode()).digest() * 64 for i in range(-(-size // 4096)))
    return b"".join(blocks)[:size]


def path_of(folder, number, place):
    return os.path.join(folder, str(place), f"file {number}")


def sync_folder(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)


def write_synced(path, flags, data):
    fd = os.open(path, flags, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
        os.fsync(fd)
    finally:
        os.close(fd)


def step(folder, seed, chance, files, number, journal):
    """One change. files: number → (place, size)."""
    kind = chance.choice(["make", "make", "append", "rename", "remove", "unlinked"])
    if not files or kind == "make":
        place, size = chance.randrange(FOLDERS), chance.choice([0, 100, 5000, 200000])
        journal(f"{number} {place} {size}")
        path = path_of(folder, number, place)
        write_synced(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, content(seed, number, size))
        sync_folder(os.path.dirname(path))
        files[number] = (place, size)
    elif kind == "unlinked":
        # Open, full and without a name when the end comes: its space has to come back.
        fd = os.open(os.path.join(folder, "unlinked"), os.O_WRONLY | os.O_CREAT, 0o600)
        os.unlink(os.path.join(folder, "unlinked"))
        os.write(fd, content(seed, number, 100000))
        os.fsync(fd)
        return fd
    else:
        number = chance.choice(sorted(files))
        place, size = files[number]
        path = path_of(folder, number, place)
        if kind == "append":
            more = size + chance.choice([1, 4096, 70000])
            journal(f"{number} {place} {more}")
            write_synced(path, os.O_WRONLY | os.O_APPEND, content(seed, number, more)[size:])
            files[number] = (place, more)
        elif kind == "rename":
            to = (place + 1) % FOLDERS
            journal(f"{number} {to} {size}")
            os.rename(path, path_of(folder, number, to))
            sync_folder(os.path.join(folder, str(to)))
            sync_folder(os.path.dirname(path))
            files[number] = (to, size)
        else:
            journal(f"{number} - 0")
            os.unlink(path)
            sync_folder(os.path.dirname(path))
            del files[number]
    journal("synced")
    return None


def read_journal(path):
    """seed, and for each file all states that it may be in: the synced one, and those begun after it."""
    states = {}
    seed, pending = None, None
    if os.path.exists(path):
        with open(path, encoding="ascii") as lines:
            for line in lines:
                words = line.split()
                if words[0] == "seed":
                    seed = words[1]
                elif words[0] == "synced":
                    states[pending[0]] = [pending[1]]
                else:
                    pending = (int(words[0]), (words[1], int(words[2])))
                    states.setdefault(pending[0], [("-", 0)]).append(pending[1])
    return seed, states


def work(folder, journal_path, seed):
    known, states = read_journal(journal_path)
    seed = known or seed
    files = {}
    for number, _ in states.items():
        found = find(folder, number)
        if found:
            files[number] = found
    chance = random.Random(f"{seed} {len(states)} {os.getpid()}")
    number = max(states, default=0) + 1
    with open(journal_path, "a", buffering=1, encoding="ascii") as out:
        def journal(line):
            out.write(line + "\n")
        if known is None:
            journal(f"seed {seed}")
        # What a step left half done when the end came is settled by what was found.
        for n in states:
            place, size = files.get(n, ("-", 0))
            journal(f"{n} {place} {size}")
            journal("synced")
        for place in range(FOLDERS):
            os.makedirs(os.path.join(folder, str(place)), exist_ok=True)
        sync_folder(folder)
        sync_folder(os.path.dirname(folder))
        held = []
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            fd = step(folder, seed, chance, files, number, journal)
            number += 1
            if fd is not None:
                held.append(fd)
            if len(held) > 20:
                os.close(held.pop(0))


def find(folder, number):
    for place in range(FOLDERS):
        try:
            return place, os.stat(path_of(folder, number, place)).st_size
        except FileNotFoundError:
            pass
    return None


def check(folder, journal_path):
    seed, states = read_journal(journal_path)
    problems = []
    found = {}
    for place in range(FOLDERS):
        path = os.path.join(folder, str(place))
        for name in os.listdir(path) if os.path.isdir(path) else []:
            number = int(name.split()[1])
            if number in found:
                problems.append(f"{number} is in {found[number][0]} and in {place}")
            with open(os.path.join(path, name), "rb") as file:
                found[number] = (str(place), file.read())
    for number in found.keys() - states.keys():
        problems.append(f"{number}: nobody made it")
    for number, may_be in states.items():
        place, data = found.get(number, ("-", b""))
        sizes = [size for at, size in may_be if at == place]
        begun = len(may_be) > 1
        if not sizes:
            problems.append(f"{number} is in {place}; it may be one of {may_be}")
        elif not (len(data) in sizes or (begun and min(sizes) <= len(data) <= max(sizes)) or
                  (begun and len(data) <= max(sizes) and may_be[0][0] == "-")):
            problems.append(f"{number} has {len(data)} bytes; it may be one of {may_be}")
        elif data != content(seed, number, len(data)):
            at = next(i for i, (a, b) in enumerate(zip(data, content(seed, number, len(data)))) if a != b)
            problems.append(f"{number} of {len(data)} bytes differs from byte {at} on; it may be one of {may_be}")
    for problem in problems:
        print(problem)
    print(f"{len(found)} files, {len(states)} in the journal")
    return 1 if problems else 0


def main():
    if sys.argv[1] == "check":
        sys.exit(check(*sys.argv[2:4]))
    try:
        work(*sys.argv[2:5])
    except OSError as error:
        print(f"ended by: {error}")


main()
