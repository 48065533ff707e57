#!/usr/bin/python3
"""Makes the test vectors of szpool's format, from docs/FORMAT.md alone: other libraries than the
program's, and none of its code. Everything that is random in a store comes from SEED here.

    make_vectors.py             writes vectors.json and the *.bin files beside this script
    make_vectors.py --check     compares with what is there, and the hex in docs/FORMAT.md too
    make_vectors.py --markdown  prints the hex as docs/FORMAT.md shows it

Needs python3-cryptography, python3-nacl, python3-argon2.
"""
import hashlib
import json
import pathlib
import re
import struct
import sys
import zlib

from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.bindings import (crypto_aead_xchacha20poly1305_ietf_decrypt,
                           crypto_aead_xchacha20poly1305_ietf_encrypt)

HERE = pathlib.Path(__file__).resolve().parent
FORMAT_MD = HERE.parent.parent / "docs" / "FORMAT.md"
SEED = b"szpool vectors 1"

BAND, DELTA, INDEX, HOT, ROOT, LOG, LOCK, KEY, PLACES, KEEP = range(1, 11)
DATA, TOMBSTONE, POISON = 1, 2, 3
STORE_WIDE = 4095
PRESETS = {"test": (64, 1), "interactive": (64 * 1024, 3)}  # KiB, passes

values = {}  # what goes to vectors.json: numbers and hex
files = {}   # whole files


def rnd(label, length):
    return hashlib.shake_256(SEED + b" " + label.encode()).digest(length)


def u16(n):
    return struct.pack("<H", n)


def u32(n):
    return struct.pack("<I", n)


def u64(n):
    return struct.pack("<Q", n)


def varint(n):
    out = b""
    while n > 0x7F:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def zeros_to(data, length):
    assert len(data) <= length
    return data + bytes(length - len(data))


# [F2] ---------------------------------------------------------------------------------------------
def h(key, personal, salt, message):
    return hashlib.blake2b(message, digest_size=32, key=key, salt=salt or bytes(16),
                           person=zeros_to(personal.encode(), 16)).digest()


def d(message):
    return hashlib.blake2b(message, digest_size=32).digest()


def x(key, nonce, ad, text):
    """Ciphertext and tag, apart."""
    out = crypto_aead_xchacha20poly1305_ietf_encrypt(text, ad, nonce, key)
    return out[:-16], out[-16:]


def g(key, nonce, ad, text):
    out = AESGCM(key).encrypt(nonce, text, ad)
    return out[:-16], out[-16:]


def n_block(key, block):
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return encryptor.update(block) + encryptor.finalize()


def a(passphrase, salt, preset):
    memory_kib, passes = PRESETS[preset]
    return hash_secret_raw(passphrase, salt[:16], passes, memory_kib, 1, 32, Type.ID, 0x13)


# [F5] [F6] ----------------------------------------------------------------------------------------
def object_id(kind, device, generation, random):
    return u16(kind << 12 | device) + u64(generation)[:6] + random


def name(keys, oid):
    return n_block(keys["name"], oid).hex()


# [F7] ---------------------------------------------------------------------------------------------
def use_keys(master, store_id, epoch):
    keys = {use: h(master, "szpool1 " + use, store_id, u32(epoch))
            for use in ("name", "head", "journal", "object", "slotdir", "state", "filler")}
    keys.update(master=master, store_id=store_id, epoch=epoch)
    return keys


M = rnd("master", 32)
S = rnd("store id", 16)
KEYS = use_keys(M, S, 1)
DEVICE_ID = rnd("device 3", 16)
LINEAGE = rnd("lineage", 16)
DEVICE = 3
DEVICE_SECTORS = 1 << 20


# [F8] ---------------------------------------------------------------------------------------------
class Identity:
    def __init__(self, label, kind, generation, base=0, count=0, device=DEVICE, keys=None):
        self.keys = keys or KEYS
        self.id = object_id(kind, device, generation, rnd(label + " id", 8))
        self.salt = rnd(label + " salt", 32)
        self.device_id = bytes(16) if device == STORE_WIDE else DEVICE_ID
        self.kind, self.base, self.count = kind, base, count

    def encode(self):
        return (self.id + self.salt + self.keys["store_id"] + self.device_id + u16(self.kind) +
                u16(1) + u32(self.keys["epoch"]) + u64(self.base) + u64(self.count) + LINEAGE)

    def object_key(self):
        return h(self.keys["object"], "szpool1 object", None, self.encode())

    def pages_key(self):
        return h(self.object_key(), "szpool1 pages", None, b"")

    def ref(self, digest):
        return self.id + digest


# [F12] --------------------------------------------------------------------------------------------
def header(ident, label, slots=0, pages=0, length=0, folded=0, entries=0, leaves=0, tops=0,
           payload=0, digest=bytes(32), body=b""):
    plaintext = (ident.id + ident.keys["store_id"] + ident.device_id + u16(ident.kind) + u16(1) +
                 u32(ident.keys["epoch"]) + u64(ident.base) + u64(ident.count) + LINEAGE +
                 u32(slots) + u32(pages) + u64(length) + u64(folded) + u64(entries) + u32(leaves) +
                 u32(tops) + u32(payload) + u32(0) + digest + bytes(24))
    assert len(plaintext) == 192
    plaintext = zeros_to(plaintext + body, 4024)
    nonce = rnd(label + " header nonce", 24)
    text, tag = x(ident.keys["head"], nonce, ident.salt, plaintext)
    return ident.salt + nonce + text + tag


# [F15] [F16] [F17] --------------------------------------------------------------------------------
def page(ident, number, payload, label):
    assert len(payload) == 4056
    nonce = rnd(f"{label} page {number}", 24)
    text, tag = x(ident.pages_key(), nonce, u32(number), payload)
    return nonce + text + tag


def trailer(ident, header_page, label):
    nonce = rnd(label + " trailer", 24)
    _, tag = x(ident.pages_key(), nonce, header_page[-16:], b"")
    return nonce + tag


def pad(n):
    step = 1
    while step * 2 <= n // 8:
        step *= 2
    return (n + step - 1) // step * step


def finish(ident, label, slots, pages, used_pages, **fields):
    """Header, slots, pages (padded to `pages`), trailer."""
    for i in range(len(used_pages), pages):
        used_pages.append(rnd(f"{label} padding page {i}", 4096))
    length = 4096 * (1 + len(slots) + pages) + 40
    top = header(ident, label, slots=len(slots), pages=pages, length=length,
                 digest=d(b"".join(p[-16:] for p in used_pages)), **fields)
    out = top + b"".join(slots) + b"".join(used_pages) + trailer(ident, top, label)
    assert len(out) == length
    return out


# [F20] --------------------------------------------------------------------------------------------
def blob(ident, payload, label):
    rest = payload[3832:]
    chunks = [rest[i:i + 4056] for i in range(0, len(rest), 4056)]
    pages = [page(ident, i, zeros_to(chunk, 4056), label) for i, chunk in enumerate(chunks)]
    return finish(ident, label, [], pad(len(pages)), pages, payload=len(payload),
                  body=payload[:3832])


# [F14] [F18] [F19] --------------------------------------------------------------------------------
def sector_content(sector, version=0):
    """What the test sectors hold."""
    return bytes((sector * 7 + version * 31 + i + (i >> 8)) & 0xFF for i in range(4096))


def seal_sector(key, sector, content, label):
    nonce = rnd(f"{label} sector {sector}", 12)
    text, tag = g(key, nonce, u64(sector), content)
    return text, nonce + tag


def entry(sector, state, slot_or_count, nonce_tag=bytes(28)):
    return u64(sector | state << 56) + u32(slot_or_count) + nonce_tag


def leaf(entries):
    return zeros_to(u16(1) + u16(len(entries)) + u32(0) + b"".join(entries), 4056)


def fence(first_sectors):
    return zeros_to(u16(2) + u16(len(first_sectors)) + u32(0) +
                    b"".join(u64(s) for s in first_sectors), 4056)


def sectors_object(ident, label, content, runs, slots, page_count, folded=0, arrival=None):
    """content: {sector: version}; runs: [(sector, state, count)]; arrival: order of the slots."""
    order = arrival or sorted(content)
    key = ident.object_key()
    texts, entries = [], []
    for slot, sector in enumerate(order):
        text, nonce_tag = seal_sector(key, sector, sector_content(sector, content[sector]), label)
        texts.append(text)
        entries.append((sector, entry(sector, DATA, slot, nonce_tag)))
    entries += [(sector, entry(sector, state, count)) for sector, state, count in runs]
    entries.sort()
    for slot in range(len(texts), slots):
        texts.append(rnd(f"{label} free slot {slot}", 4096))
    leaves = [entries[i:i + 101] for i in range(0, len(entries), 101)]
    pages = [page(ident, i, leaf([e for _, e in one]), label) for i, one in enumerate(leaves)]
    tops = b"".join(u64(one[0][0]) for one in leaves)
    assert len(leaves) <= 479
    return finish(ident, label, texts, page_count, pages, folded=folded, entries=len(entries),
                  leaves=len(leaves), tops=len(leaves), body=tops)


# [F27] [F28] --------------------------------------------------------------------------------------
def run_entry(kind, sequence, sector, place, nonce_tags):
    return (u32(kind) + u32(len(nonce_tags)) + u64(sequence) + u64(sector) + u32(place) +
            b"".join(nonce_tags))


def record(key, number, previous, entries, sector_pages, label):
    payload = zeros_to(u32(len(entries)) + u32(sector_pages) + u64(0) + b"".join(entries), 4056)
    nonce = rnd(f"{label} record {number}", 24)
    text, tag = x(key, nonce, u64(number) + previous, payload)
    return nonce + text + tag, tag


# [F10] [F11] --------------------------------------------------------------------------------------
def unlock_secret(kind, salt, preset="test", passphrase=b"", key_file=b"", recovery=b""):
    if kind == 1:
        return h(a(passphrase, salt, preset), "szpool1 unlock", None, u32(1))
    if kind == 2:
        return h(a(passphrase, salt, preset), "szpool1 unlock", None, u32(2) + key_file)
    if kind == 3:
        return h(d(key_file), "szpool1 unlock", None, u32(3))
    return h(recovery, "szpool1 unlock", None, u32(4))


def slot_payload(kind, index, revision, keys, old_epoch=0, old_master=bytes(32)):
    return zeros_to(u32(1) + u32(kind) + u32(index) + u32(keys["epoch"]) + u64(revision) +
                    keys["store_id"] + keys["master"] + u32(old_epoch) + u32(0) + old_master, 408)


def slot_head(unlock, object_salt, label):
    """Salt and commitment, and K_slot."""
    salt = rnd(label + " slot salt", 32)
    commitment = h(unlock, "szpool1 commit", None, object_salt + salt)
    return salt + commitment, h(unlock, "szpool1 slot", None, object_salt + salt)


def slot(unlock, object_salt, payload, label):
    head, key = slot_head(unlock, object_salt, label)
    nonce = rnd(label + " slot nonce", 24)
    text, tag = x(key, nonce, head, payload)
    return head + nonce + text + tag


def directory(keys, salt, slots, revision, parent, infos, label):
    payload = u32(1) + u32(0) + u64(revision) + parent
    for kind, wall_time, text in infos:
        payload += u32(kind) + u32(0) + u64(wall_time) + zeros_to(text, 64)
    nonce = rnd(label + " directory nonce", 24)
    text, tag = x(keys["slotdir"], nonce, salt + b"".join(slots), zeros_to(payload, 4056))
    return nonce + text + tag


def key_object(keys, salt, used, revision, label, parent=bytes(32)):
    """used: {index: (kind, wall time, label, slot)}"""
    slots = [used[i][3] if i in used else rnd(f"{label} free slot {i}", 512) for i in range(8)]
    infos = [used[i][:3] if i in used else (0, 0, b"") for i in range(8)]
    return assemble(keys, salt, slots, revision, parent, infos, label)


def assemble(keys, salt, slots, revision, parent, infos, label):
    out = (salt + b"".join(slots) + directory(keys, salt, slots, revision, parent, infos, label) +
           rnd(label + " rest", 8160))
    assert len(out) == 16384
    return out


def two_key_text(key_1, key_2, nonce, ad, plaintext, free_at, attempts=4096):
    """A ciphertext and tag that open under both keys. Under key_1 it is plaintext, but for the 16
    bytes at free_at, which take what the second tag needs (Len, Grubbs, Ristenpart: Partitioning
    Oracle Attacks, USENIX Security 2021)."""
    p, two128 = (1 << 130) - 5, 1 << 128

    def mac_parts(key):
        # The one-time key is the keystream's first block: encrypt zeros and look at what the tag
        # function needs. libsodium does not hand it out, so ChaCha20 is done here.
        subkey = hchacha20(key, nonce[:16])
        one_time = chacha20_block(subkey, 0, bytes(4) + nonce[16:])[:32]
        r = int.from_bytes(one_time[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
        return r, int.from_bytes(one_time[16:], "little")

    (r1, s1), (r2, s2) = mac_parts(key_1), mac_parts(key_2)
    first, _ = x(key_1, nonce, ad, plaintext)
    for attempt in range(attempts):
        text = bytearray(first)
        # the 16 bytes before the free ones are free as well: they vary the attempts
        text[free_at - 16:free_at - 8] = rnd(f"two keys {attempt}", 8)
        text[free_at:free_at + 16] = bytes(16)
        mac_data = (zeros_to(ad, -(-len(ad) // 16) * 16) + zeros_to(bytes(text), -(-len(text) // 16) * 16) +
                    u64(len(ad)) + u64(len(text)))
        blocks = [int.from_bytes(mac_data[i:i + 16], "little") + two128
                  for i in range(0, len(mac_data), 16)]
        at = (-(-len(ad) // 16) * 16 + free_at) // 16
        power = len(blocks) - at

        def rest(r):
            total = 0
            for i, block in enumerate(blocks):
                total = (total + (0 if i == at else block)) * r % p
            return total

        inverse = pow(pow(r1, power, p) - pow(r2, power, p), -1, p)
        for wrap in range(-4, 5):
            value = (rest(r2) - rest(r1) + s2 - s1 + wrap * two128) * inverse % p
            if not two128 <= value < 2 * two128:
                continue
            tag_1 = ((rest(r1) + value * pow(r1, power, p)) % p + s1) % two128
            tag_2 = ((rest(r2) + value * pow(r2, power, p)) % p + s2) % two128
            if tag_1 != tag_2:
                continue
            text[free_at:free_at + 16] = (value - two128).to_bytes(16, "little")
            sealed = bytes(text) + tag_1.to_bytes(16, "little")
            for key in (key_1, key_2):  # both libraries' word for it
                crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, ad, nonce, key)
            return sealed[:-16], sealed[-16:]
    raise RuntimeError("no attempt worked")


def quarter(state, i, j, k, m):
    def rotate(value, count):
        return (value << count | value >> (32 - count)) & 0xFFFFFFFF
    for left, right, other, count in ((i, j, m, 16), (k, m, j, 12), (i, j, m, 8), (k, m, j, 7)):
        state[left] = (state[left] + state[right]) & 0xFFFFFFFF
        state[other] = rotate(state[other] ^ state[left], count)


def chacha_rounds(state):
    for _ in range(10):
        for i in range(4):
            quarter(state, i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(state, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)


def hchacha20(key, nonce16):
    state = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce16))
    chacha_rounds(state)
    return struct.pack("<8I", *(state[:4] + state[12:]))


def chacha20_block(key, counter, nonce12):
    start = list(struct.unpack("<16I", b"expand 32-byte k" + key + u32(counter) + nonce12))
    state = list(start)
    chacha_rounds(state)
    return struct.pack("<16I", *((p + q) & 0xFFFFFFFF for p, q in zip(state, start)))


# ---- the vectors ---------------------------------------------------------------------------------
def make_keys():
    values["keys"] = {use: value.hex() if isinstance(value, bytes) else value
                      for use, value in KEYS.items()}
    values["names"] = []
    for kind, device, generation in ((BAND, 0, 0), (DELTA, 5, 17), (ROOT, STORE_WIDE, 2 ** 48 - 1)):
        random = rnd(f"name {kind}", 8)
        oid = object_id(kind, device, generation, random)
        values["names"].append(dict(kind=kind, device=device, generation=generation,
                                    random=random.hex(), id=oid.hex(), name=name(KEYS, oid)))
    ident = Identity("identity", BAND, 17, base=6144, count=2048)
    values["identity"] = dict(
        id=ident.id.hex(), salt=ident.salt.hex(), device_id=DEVICE_ID.hex(), kind=BAND,
        base_sector=6144, sector_count=2048, lineage=LINEAGE.hex(), encoded=ident.encode().hex(),
        k_obj=ident.object_key().hex(), k_pages=ident.pages_key().hex())
    log_id = object_id(LOG, DEVICE, 18, rnd("log key", 8))
    values["log_key"] = dict(id=log_id.hex(), key=h(KEYS["journal"], "szpool1 journal", None,
                                                    log_id).hex())


def make_sectors():
    key = bytes.fromhex(values["identity"]["k_obj"])
    values["sectors"] = []
    for sector in (0, 1 << 40):
        text, nonce_tag = seal_sector(key, sector, sector_content(sector), "single")
        values["sectors"].append(dict(sector=sector, nonce=nonce_tag[:12].hex(),
                                      tag=nonce_tag[12:].hex(), ciphertext=text.hex(),
                                      ciphertext_digest=d(text).hex()))


def make_band():
    ident = Identity("band", BAND, 17, base=512, count=256)
    # 28 sectors, in the order of their arrival; two runs of POISON; the rest is absent
    order = [512 + (i * 77) % 200 for i in range(28)]
    content = {sector: 0 for sector in order}
    free = [s for s in range(512, 768) if s not in content]
    runs = [(free[0], POISON, 1), (765, POISON, 3)]
    assert 765 in free and free[0] < 765
    data = sectors_object(ident, "band", content, runs, 32, 1, folded=9, arrival=order)
    files["band"] = data
    values["band"] = dict(
        id=ident.id.hex(), name=name(KEYS, ident.id), digest=d(data[:4096]).hex(), base_sector=512,
        sector_count=256, data_slots=32, page_count=1, folded_to=9, entries=30, order=order,
        poison=[list(run[::2]) for run in runs], header_nonce=data[32:56].hex(),
        trailer=data[-40:].hex())


def make_log():
    """Three records: writes, a rewrite and a TRIM, the last commit; and the same log as it might have
    gone on from record 1 otherwise."""
    ident = Identity("log", LOG, 18, count=DEVICE_SECTORS)
    body = (u64(18) + rnd("root 17", 32) + u64(17) + u64(1000) + u64(4242) + rnd("machine", 16) +
            rnd("open id", 16))
    head = header(ident, "log", body=body)
    key = ident.object_key()
    log_key = h(KEYS["journal"], "szpool1 journal", None, ident.id)
    band_id = object_id(BAND, DEVICE, 18, rnd("open band", 8))

    def seal_run(first, count, version, label):
        sealed = [seal_sector(key, s, sector_content(s, version), label)
                  for s in range(first, first + count)]
        return [t for t, _ in sealed], [n for _, n in sealed]

    texts_a, tags_a = seal_run(100, 3, 1, "log a")
    texts_b, tags_b = seal_run(4000, 2, 1, "log b")
    page_0, tag_0 = record(log_key, 0, head[-16:], [
        run_entry(1, 1000, 100, 0, tags_a), run_entry(1, 1001, 4000, 3, tags_b),
        u32(4) + u32(0) + u64(5) + band_id + rnd("open band salt", 32),
        run_entry(2, 1002, 5 * 2048 + 7, 0, [rnd("band sector", 28)])], 5, "log")
    texts_c, tags_c = seal_run(101, 1, 2, "log c")
    rewrite = run_entry(1, 1003, 101, 0, tags_c)
    trim = u32(3) + u32(0) + u64(1004) + u64(4001) + u64(64)
    page_1, tag_1 = record(log_key, 1, tag_0, [rewrite, trim], 1, "log")
    commit = u32(6) + u32(0) + u64(1005) + u64(18)
    finished = u32(5) + u32(0) + u64(5) + rnd("finished band", 32)
    last = u32(6) + u32(1) + u64(1005) + u64(18)
    page_2, _ = record(log_key, 2, tag_1, [finished, last], 0, "log")
    files["log"] = (head + page_0 + b"".join(texts_a + texts_b) + page_1 + b"".join(texts_c) +
                    page_2)
    other_1, other_tag_1 = record(log_key, 1, tag_0, [commit], 0, "log fork")
    other_2, _ = record(log_key, 2, other_tag_1, [commit], 0, "log fork")
    files["log_fork"] = (head + page_0 + b"".join(texts_a + texts_b) + other_1 + other_2)
    values["log"] = dict(id=ident.id.hex(), epoch=18, base=rnd("root 17", 32).hex(),
                         base_generation=17, first_sequence=1000, inode=4242,
                         machine=rnd("machine", 16).hex(), open_id=rnd("open id", 16).hex(),
                         key=log_key.hex(), record_pages=[1, 7, 9], fork_pages=[1, 7, 8])


def make_delta():
    """What a seal makes of that log: 101 was written twice, 4001 and the following were trimmed."""
    ident = Identity("delta", DELTA, 18, count=DEVICE_SECTORS)
    content = {100: 1, 101: 2, 102: 1, 4000: 1}
    data = sectors_object(ident, "delta", content, [(4001, TOMBSTONE, 64)], pad(4), pad(1))
    files["delta"] = data
    values["delta"] = dict(id=ident.id.hex(), digest=d(data[:4096]).hex(),
                           content=[[s, v] for s, v in sorted(content.items())],
                           tombstone=[4001, 64])


def make_two_leaves():
    """A delta of TRIMs, mostly: 150 entries in two leaves."""
    ident = Identity("two leaves", DELTA, 19, count=DEVICE_SECTORS)
    content = {50: 0, 70000: 0}
    runs = [(1000 + 10 * i, TOMBSTONE if i % 3 else POISON, 1 + i % 10) for i in range(148)]
    files["delta_two_leaves"] = sectors_object(ident, "two leaves", content, runs, pad(2), pad(2))
    values["two_leaves"] = dict(content=[[s, v] for s, v in sorted(content.items())],
                                runs=[list(run) for run in runs])


def make_fences():
    firsts = [i * 101 * 3 for i in range(506)]
    values["fence"] = dict(count=506, step=303, payload_digest=d(fence(firsts)).hex())


def make_blobs():
    runs = [(100, 3), (4000, 65), (1 << 40, 1)]
    encoded, end = varint(len(runs)), 0
    for first, count in runs:
        encoded += varint(first - end) + varint(count)
        end = first + count
    list_payload = u32(3) + encoded
    values["list"] = dict(runs=[list(r) for r in runs], payload=list_payload.hex())
    list_ident = Identity("list", INDEX, 18)
    files["list"] = blob(list_ident, list_payload, "list")

    band = values["band"]
    band_ref = bytes.fromhex(band["id"] + band["digest"])
    shard_payload = u32(2) + u32(0) + u32(2)
    for number in (2, 127):
        shard_payload += (u32(number) + band_ref + u64(9) + u32(28) + u32(32))
    shard_ident = Identity("shard", INDEX, 17)
    files["shard"] = blob(shard_ident, shard_payload, "shard")

    hot_sectors = sorted((0, 1, 64, 255), key=lambda s: (s % 64, s))
    plain = b"".join(sector_content(s) for s in hot_sectors)
    deflated = b"\x78\x01"  # a zlib stream of stored blocks: the same whatever made it
    deflated += b"\x01" + u16(len(plain)) + u16(len(plain) ^ 0xFFFF) + plain
    deflated += struct.pack(">I", zlib.adler32(plain))
    assert zlib.decompress(deflated) == plain
    written, poison = bytearray(32), bytearray(32)
    for s in hot_sectors:
        written[s // 8] |= 1 << s % 8
    poison[20] = 0x10
    hot_payload = bytes(written) + bytes(poison) + deflated
    hot_ident = Identity("hot", HOT, 18)
    files["hot"] = blob(hot_ident, hot_payload, "hot")
    values["hot"] = dict(payload=hot_payload.hex(), sectors=hot_sectors, poison=[164])

    def ref(ident, label):
        return ident.ref(d(files[label][:4096]))

    delta = values["delta"]
    delta_ref = bytes.fromhex(delta["id"] + delta["digest"])
    manifest_payload = (
        u32(1) + DEVICE_ID + u64(18) + u64(DEVICE_SECTORS) + u32(256) + u32(6) + b"\x02" +
        ref(hot_ident, "hot") + u32(1) + u32(0) +
        ref(shard_ident, "shard") + u32(2) +
        u64(18) + delta_ref + u64(68) + u64(len(files["delta"])) + b"\x01" + encoded +
        u64(12) + object_id(DELTA, DEVICE, 12, rnd("older delta", 8)) + rnd("older digest", 32) +
        u64(70000) + u64(1 << 28) + b"\x00" + ref(list_ident, "list"))
    manifest_ident = Identity("manifest", INDEX, 18)
    files["manifest"] = blob(manifest_ident, manifest_payload, "manifest")
    values["manifest"] = dict(device_id=DEVICE_ID.hex(), generation=18,
                              payload=manifest_payload.hex())
    values["shard"] = dict(payload=shard_payload.hex())

    devices = []
    for i in range(6):
        devices.append((DEVICE_ID if i == DEVICE else rnd(f"device {i}", 16)) + u64(DEVICE_SECTORS) +
                       bytes([1 if i == 5 else 0]) + u64(16 if i == 5 else 0) + u64(1000 + i) +
                       u64(10 + i) + ref(manifest_ident, "manifest"))
    ancestors = [rnd(f"ancestor {i}", 16) + u64(11 - i) + rnd(f"ancestor digest {i}", 32)
                 for i in range(2)]
    root_payload = (u32(1) + u64(0) + S + LINEAGE + u64(18) + rnd("root 17", 32) + u64(123456789) +
                    u64(1700000000000000000) + u64(1005) + u64(70) + u32(256) + b"\x02\x01" +
                    u64(4) + d(files["key_all_types"]) + u32(6) + b"".join(devices) + u32(2) +
                    b"".join(ancestors))
    root_ident = Identity("root", ROOT, 18, device=STORE_WIDE)
    files["root"] = blob(root_ident, root_payload, "root")
    digest = d(files["root"][:4096])
    crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    bits = int.from_bytes(digest[:10], "big")
    code = "18-" + "".join(crockford[bits >> (75 - 5 * i) & 31] for i in range(16))
    values["root"] = dict(payload=root_payload.hex(), digest=digest.hex(), code=code, generation=18)

    long_ident = Identity("long", INDEX, 18)
    runs = [(i * 1000, 1 + i % 5) for i in range(24000)]
    payload, end = u32(3) + varint(len(runs)), 0
    for first, count in runs:
        payload += varint(first - end) + varint(count)
        end = first + count
    files["long_list"] = blob(long_ident, payload, "long list")
    values["long_list"] = dict(count=24000, pages=(len(files["long_list"]) - 4136) // 4096)


PASSPHRASE = "pässwörd of the vectors".encode()
KEY_FILE = rnd("key file", 64)
RECOVERY = rnd("recovery key", 32)


def make_key_objects():
    salt = rnd("key object salt", 32)
    secrets = {kind: unlock_secret(kind, salt, "test", PASSPHRASE, KEY_FILE, RECOVERY)
               for kind in (1, 2, 3, 4)}
    values["unlock"] = dict(passphrase=PASSPHRASE.hex(), key_file=KEY_FILE.hex(),
                            recovery=RECOVERY.hex(), salt=salt.hex(),
                            **{f"u_{kind}": secret.hex() for kind, secret in secrets.items()})
    wall = 1700000000000000000

    def used_slots(kinds, revision=1, keys=KEYS, **old):
        return {index: (kind, wall + index, f"slot {index}".encode(),
                        slot(secrets[kind], salt, slot_payload(kind, index, revision, keys, **old),
                             f"type {kind}"))
                for index, kind in kinds.items()}

    every = used_slots({0: 1, 2: 2, 5: 3, 7: 4})
    files["key_all_types"] = key_object(KEYS, salt, every, 4, "key", parent=rnd("key parent", 32))
    values["key_all_types"] = dict(version=4, parent=rnd("key parent", 32).hex(),
                                   digest=d(files["key_all_types"]).hex(),
                                   slots={str(i): every[i][0] for i in every})
    values["slot"] = dict(index=7, type=4, head=every[7][3][:64].hex(),
                          k_slot=slot_head(secrets[4], salt, "type 4")[1].hex())

    other_salt = rnd("interactive salt", 32)
    secret = unlock_secret(1, other_salt, "interactive", PASSPHRASE)
    one = {0: (1, wall, b"", slot(secret, other_salt, slot_payload(1, 0, 1, KEYS), "interactive"))}
    files["key_interactive"] = key_object(KEYS, other_salt, one, 1, "interactive")

    # the payload says another index than the slot's
    wrong = {3: (4, wall, b"", slot(secrets[4], salt, slot_payload(4, 2, 1, KEYS), "wrong index"))}
    files["key_wrong_index"] = key_object(KEYS, salt, wrong, 1, "wrong index")

    # two slots change places under a directory that stays
    whole = files["key_all_types"]
    slots = [whole[32 + 512 * i:544 + 512 * i] for i in range(8)]
    slots[5], slots[7] = slots[7], slots[5]
    files["key_swapped"] = whole[:32] + b"".join(slots) + whole[4128:]

    # one bit of the directory
    edited = bytearray(whole)
    edited[4152 + 50] ^= 1
    files["key_edited"] = bytes(edited)

    # a slot that decrypts under the keys of two recovery keys; its commitment is the first's
    rekey = use_keys(M, S, 2)
    second = rnd("second recovery key", 32)
    second_secret = h(second, "szpool1 unlock", None, u32(4))
    head, key_1 = slot_head(secrets[4], salt, "two keys")
    key_2 = h(second_secret, "szpool1 slot", None, salt + head[:32])
    nonce = rnd("two keys slot nonce", 24)
    payload = slot_payload(4, 0, 1, rekey, old_epoch=1, old_master=rnd("old master", 32))
    text, tag = two_key_text(key_1, key_2, nonce, head, payload, 96)
    two = {0: (4, wall, b"", head + nonce + text + tag)}
    files["key_two_keys"] = key_object(rekey, salt, two, 1, "two keys")
    values["two_keys"] = dict(second_recovery=second.hex(), k_slot_1=key_1.hex(),
                              k_slot_2=key_2.hex())


def make_notes():
    nonce = rnd("note nonce", 24)
    plain = zeros_to(b"host.example", 64) + u64(1234) + rnd("note open id", 16) + u64(77)
    text, tag = x(KEYS["state"], nonce, zeros_to(b"szpool1 lock", 16), plain)
    values["note"] = dict(purpose="szpool1 lock", plaintext=plain.hex(),
                          note=(nonce + text + tag).hex())


def markdown():
    """Pairs of a dotted name and what docs/FORMAT.md shows for it."""
    shown = []

    def show(path):
        value = values
        for part in path.split("."):
            value = value[int(part) if part.isdigit() else part]
        shown.append((path, str(value)))

    for use in ("master", "store_id", "epoch", "name", "head", "journal", "object", "slotdir", "state",
                "filler"):
        show("keys." + use)
    for i in range(len(values["names"])):
        for field in ("kind", "device", "generation", "random", "id", "name"):
            show(f"names.{i}.{field}")
    for field in ("encoded", "k_obj", "k_pages"):
        show("identity." + field)
    for i in range(2):
        for field in ("sector", "nonce", "tag", "ciphertext_digest"):
            show(f"sectors.{i}.{field}")
    for path in ("log_key.id", "log_key.key", "unlock.salt", "unlock.passphrase", "unlock.key_file",
                 "unlock.recovery", "unlock.u_1", "unlock.u_2", "unlock.u_3", "unlock.u_4",
                 "slot.head", "slot.k_slot", "key_all_types.digest", "band.digest", "band.trailer",
                 "list.payload", "root.digest", "root.code", "note.plaintext", "note.note"):
        show(path)
    return shown


def wrap(text, width=64):
    if len(text) <= 2 * width or not re.fullmatch("[0-9a-f]+", text):
        return [text]
    return [text[i:i + 2 * width] for i in range(0, len(text), 2 * width)]


def markdown_text():
    lines = []
    for path, text in markdown():
        first, *more = wrap(text)
        lines.append(f"{path} = {first}")
        lines += [f"    {line}" for line in more]
    return "\n".join(lines)


def check_markdown():
    """The hex in FORMAT.md is the vectors', all of it, and nothing else."""
    block = re.search(r"```vectors\n(.*?)\n```", FORMAT_MD.read_text(), re.S)
    if not block:
        return ["docs/FORMAT.md has no block ```vectors"]
    found, last = {}, None
    for line in block.group(1).splitlines():
        if line.startswith("    "):
            found[last] += line.strip()
        else:
            last, text = line.split(" = ", 1)
            found[last] = text
    wanted = dict(markdown())
    return ([f"docs/FORMAT.md: {path} is {found.get(path)}, not {text}"
             for path, text in wanted.items() if found.get(path) != text] +
            [f"docs/FORMAT.md: {path} is no vector" for path in found if path not in wanted])


def main():
    make_keys()
    make_sectors()
    make_band()
    make_log()
    make_delta()
    make_two_leaves()
    make_fences()
    make_key_objects()
    make_blobs()
    make_notes()
    outputs = {HERE / "vectors.json": (json.dumps(values, indent=1) + "\n").encode()}
    outputs.update({HERE / f"{label}.bin": data for label, data in files.items()})
    if sys.argv[1:] == ["--markdown"]:
        print(markdown_text())
    elif sys.argv[1:] == ["--check"]:
        bad = [f"{path.name} differs from what make_vectors.py makes"
               for path, data in outputs.items() if not path.exists() or path.read_bytes() != data]
        bad += [f"{path.name} is not made by make_vectors.py"
                for path in HERE.glob("*.bin") if path not in outputs]
        bad += check_markdown()
        print("\n".join(bad) if bad else f"{len(outputs)} files and docs/FORMAT.md are as made")
        sys.exit(1 if bad else 0)
    elif not sys.argv[1:]:
        for path, data in outputs.items():
            path.write_bytes(data)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
