#!/usr/bin/env python3
"""Writes a store of a newer format into a folder: a key object that the passphrase PASSPHRASE of
tests/vectors opens, and an authentic root whose format version is 2. Prints the passphrase.

    newer_store.py FOLDER
"""
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "vectors"))
from make_vectors import (KEY, KEYS, LINEAGE, PASSPHRASE, ROOT, S, STORE_WIDE, Identity, blob, d,  # noqa: E402
                          key_object, name, object_id, rnd, slot, slot_payload, u32, u64,
                          unlock_secret)

folder = pathlib.Path(sys.argv[1])
device = folder / "0123456789abcdef"
device.mkdir(parents=True)

salt = rnd("newer salt", 32)
secret = unlock_secret(1, salt, "interactive", PASSPHRASE)
slots = {0: (1, 0, b"", slot(secret, salt, slot_payload(1, 0, 1, KEYS), "newer"))}
key = key_object(KEYS, salt, slots, 1, "newer")
(device / name(KEYS, object_id(KEY, STORE_WIDE, 1, d(key)[:8]))).write_bytes(key)

# What follows the version may be anything in a newer format.
root = Identity("newer root", ROOT, 7, device=STORE_WIDE)
payload = u32(2) + u64(0) + S + LINEAGE + u64(7) + rnd("newer rest", 300)
(device / name(KEYS, root.id)).write_bytes(blob(root, payload, "newer root"))
sys.stdout.buffer.write(PASSPHRASE)
