"""Rewrites a llama GGUF file with its matrices in another weight type, beside a float32 file of exactly the same weights.

Plain rounding, no search for better scales: what is compared is how the kernels multiply with the weights that are there.
"""

import struct

import numpy as np
from reference_forward import Gguf

NUMBERS = {"f32": 0, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q8_0": 8, "q4_k": 12, "q6_k": 14, "bf16": 30}


def f16(x):
    return x.astype(np.float16)


def raw(x):
    return np.ascontiguousarray(x).view(np.uint8)


def inverse(d):
    return np.divide(1.0, d, out=np.zeros_like(d), where=d != 0)


def nibble_pairs(q):
    """[blocks, 32] of 0..15: the first 16 in the low nibbles."""
    return (q[:, :16] | q[:, 16:] << 4).astype(np.uint8)


def to_bf16(x):
    bits = x.view(np.uint32)
    words = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return raw(words.reshape(-1, 1)), (words.astype(np.uint32) << 16).view(np.float32)


def to_q8_0(x):
    x = x.reshape(-1, 32)
    d = f16(np.abs(x).max(1, keepdims=True) / 127)
    q = np.clip(np.rint(x * inverse(d.astype(np.float32))), -127, 127).astype(np.int8)
    return np.hstack([raw(d), raw(q)]), d.astype(np.float32) * q


def to_q4_0(x):
    x = x.reshape(-1, 32)
    d = f16(np.take_along_axis(x, np.abs(x).argmax(1)[:, None], 1) / -8)
    q = np.clip(np.rint(x * inverse(d.astype(np.float32))) + 8, 0, 15).astype(np.uint8)
    return np.hstack([raw(d), nibble_pairs(q)]), d.astype(np.float32) * (q.astype(np.float32) - 8)


def to_q4_1(x):
    x = x.reshape(-1, 32)
    low = f16(x.min(1, keepdims=True))
    d = f16((x.max(1, keepdims=True) - low.astype(np.float32)) / 15)
    q = np.clip(np.rint((x - low.astype(np.float32)) * inverse(d.astype(np.float32))), 0, 15).astype(np.uint8)
    return np.hstack([raw(d), raw(low), nibble_pairs(q)]), d.astype(np.float32) * q + low.astype(np.float32)


def to_q5_0(x):
    x = x.reshape(-1, 32)
    d = f16(np.take_along_axis(x, np.abs(x).argmax(1)[:, None], 1) / -16)
    q = np.clip(np.rint(x * inverse(d.astype(np.float32))) + 16, 0, 31).astype(np.uint8)
    high = np.packbits(q >> 4, axis=1, bitorder="little")
    return np.hstack([raw(d), high, nibble_pairs(q & 15)]), d.astype(np.float32) * (q.astype(np.float32) - 16)


def to_q4_k(x):
    x = x.reshape(-1, 8, 32)
    low = np.maximum(-x.min(2), 0)
    scale = np.maximum(x.max(2) + low, 0) / 15
    d, dmin = f16(scale.max(1, keepdims=True) / 63), f16(low.max(1, keepdims=True) / 63)
    s = np.clip(np.rint(scale * inverse(d.astype(np.float32))), 0, 63).astype(np.uint8)
    m = np.clip(np.rint(low * inverse(dmin.astype(np.float32))), 0, 63).astype(np.uint8)
    step, base = (d.astype(np.float32) * s)[:, :, None], (dmin.astype(np.float32) * m)[:, :, None]
    q = np.clip(np.rint((x + base) * inverse(step)), 0, 15).astype(np.uint8)
    packed = np.hstack([s[:, :4] | (s[:, 4:] >> 4) << 6, m[:, :4] | (m[:, 4:] >> 4) << 6, (s[:, 4:] & 15) | (m[:, 4:] & 15) << 4])
    nibbles = (q[:, 0::2] | q[:, 1::2] << 4).reshape(-1, 128)
    return np.hstack([raw(d), raw(dmin), packed, nibbles]), step * q - base


def to_q6_k(x):
    x = x.reshape(-1, 16, 16)
    scale = np.abs(x).max(2) / 31
    d = f16(scale.max(1, keepdims=True) / 127)
    s = np.clip(np.rint(scale * inverse(d.astype(np.float32))), -128, 127).astype(np.int8)
    step = (d.astype(np.float32) * s)[:, :, None]
    q = np.clip(np.rint(x * inverse(step)) + 32, 0, 63).astype(np.uint8)
    quarters = q.reshape(-1, 2, 4, 32)  # each half of the block: four runs of 32
    low = np.concatenate([quarters[:, :, :2] & 15 | (quarters[:, :, 2:] & 15) << 4], axis=2).reshape(-1, 128)
    high = sum((quarters[:, :, i] >> 4) << 2 * i for i in range(4)).reshape(-1, 64)
    return np.hstack([low, high, raw(s), raw(d)]), step * (q.astype(np.float32) - 32)


def kind_of(wanted, row):
    """What rows of this length get: blocks of 256 where they fit."""
    return {"q4_k": "q5_0", "q6_k": "q8_0"}.get(wanted, wanted) if row % 256 else wanted


def write(path, head, tensors):
    table, offset = b"", 0
    for name, dims, kind, data in tensors:
        table += struct.pack("<Q", len(name)) + name.encode() + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
        offset += -(-data.nbytes // 32) * 32
    with open(path, "wb") as out:
        size = out.write(head + table)
        out.write(bytes(-size % 32))
        for *_, data in tensors:
            out.write(data.tobytes())
            out.write(bytes(-data.nbytes % 32))


def requantize(source, wanted, quantized, floats):
    """Writes both files."""
    g = Gguf(source)
    assert g.meta.get("general.alignment", 32) == 32
    head = bytes(g.bytes[: g.table_at])
    ours, exact = [], []
    for name, (dims, _, _) in g.table.items():
        x = g.tensor(name)
        kind, data, values = "f32", raw(x), x
        if len(dims) == 2:
            kind = kind_of(wanted, dims[0])
            data, values = globals()[f"to_{kind}"](x.reshape(-1))
        ours.append((name, dims, NUMBERS[kind], data))
        exact.append((name, dims, 0, raw(values.astype(np.float32))))
    write(quantized, head, ours)
    write(floats, head, exact)
