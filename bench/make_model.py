#!/usr/bin/env python3
"""Writes a GGUF file of random weights in the shape of a real model: for speed only.

usage: bench/make_model.py SHAPE TYPE OUT [--layers N] [--tokenizer MODEL.gguf]
SHAPE: smollm-135m, qwen-1.5b (R1-Distill-Qwen-1.5B), v2-lite (DeepSeek-V2-Lite).  TYPE: bf16, q8_0, q4_0, q4_1, q4_k_m.

Speed depends on shapes and formats, not on values, so every tensor of a type repeats one random block and a file takes as
long as its write. q4_k_m is q4_K with q6_K where the usual recipe has it: the head, and the values and down projections of
half of the layers; rows that blocks of 256 do not divide get q5_0 and q8_0, as there. No tokenizer is written unless a model is
named whose tokenizer is copied; ids that it lacks become tokens without use.
"""
import argparse, pathlib, struct
import numpy as np

SHAPES = {
    "smollm-135m": dict(arch="llama", layers=30, hidden=576, heads=9, kv_heads=3, ffn=1536, vocab=49152, tied=True, theta=1e5),
    "qwen-1.5b": dict(arch="qwen2", layers=28, hidden=1536, heads=12, kv_heads=2, ffn=8960, vocab=151936, bias=True, theta=1e4),
    "v2-lite": dict(arch="deepseek2", layers=27, hidden=2048, heads=16, ffn=10944, vocab=102400, theta=1e4, rank=512, nope=128,
                    rope=64, v_dim=128, dense=1, experts=64, used=6, shared=2, expert_ffn=1408),
}
# name: (number in the file, elements of a block, bytes of a block, offsets of its half-precision scales, their value)
TYPES = {
    "f32": (0, 1, 4, (), 0), "bf16": (30, 1, 2, (), 0), "q4_0": (2, 32, 18, (0,), 4e-3), "q4_1": (3, 32, 20, (0, 2), 2e-3),
    "q5_0": (6, 32, 22, (0,), 2e-3), "q8_0": (8, 32, 34, (0,), 2.5e-4), "q4_k": (12, 256, 144, (0, 2), 1e-4),
    "q6_k": (14, 256, 210, (208,), 2e-5),
}
CODES = {int: (4, "<I"), float: (6, "<f")}


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


def entry(key, value):
    if isinstance(value, str):
        return text(key) + struct.pack("<I", 8) + text(value)
    kind, code = CODES[type(value)]
    return text(key) + struct.pack("<I", kind) + struct.pack(code, value)


SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY, UNUSED = 8, 9, 5


def tokenizer_entries(path, vocab):
    """The tokenizer's keys of a GGUF file as they lie there, lists of a value for each token made `vocab` long."""
    data, at, out = pathlib.Path(path).read_bytes(), 24, []

    def number(code):
        nonlocal at
        at += struct.calcsize(code)
        return struct.unpack_from(code, data, at - struct.calcsize(code))[0]

    def skip(kind, count):
        nonlocal at
        if kind in SIZES:
            at += SIZES[kind] * count
            return
        for _ in range(count):
            length = number("<Q")
            at += length

    for _ in range(struct.unpack_from("<Q", data, 16)[0]):
        begin = at
        skip(STRING, 1)
        key, kind = data[begin + 8 : at].decode(), number("<I")
        head, element, count = at, None, 1
        if kind == ARRAY:
            element, count = number("<I"), number("<Q")
        values = at
        skip(kind if element is None else element, count)
        if not key.startswith("tokenizer."):
            continue
        if key in ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.scores"):
            extra = [text(f"<unused {i}>") if element == STRING else struct.pack("<i", UNUSED) for i in range(count, vocab)]
            out.append(data[begin:head] + struct.pack("<IQ", element, vocab) + data[values:at] + b"".join(extra))
        else:
            out.append(data[begin:at])
    return out


def metadata(s, tokenizer=None):
    a = s["arch"]
    keys = {"vocab_size": s["vocab"], "context_length": 32768, "embedding_length": s["hidden"], "block_count": s["layers"],
            "attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": s["theta"], "attention.head_count": s["heads"],
            "feed_forward_length": s["ffn"]}
    if a == "deepseek2":
        keys |= {"attention.head_count_kv": 1, "leading_dense_block_count": s["dense"], "attention.kv_lora_rank": s["rank"],
                 "attention.key_length": s["rank"] + s["rope"], "attention.value_length": s["rank"],
                 "attention.key_length_mla": s["nope"] + s["rope"], "attention.value_length_mla": s["v_dim"],
                 "rope.dimension_count": s["rope"], "expert_feed_forward_length": s["expert_ffn"], "expert_count": s["experts"],
                 "expert_used_count": s["used"], "expert_shared_count": s["shared"], "expert_weights_scale": 1.0,
                 "expert_gating_func": 1}
    else:
        keys |= {"attention.head_count_kv": s["kv_heads"], "rope.dimension_count": s["hidden"] // s["heads"]}
    general = {"general.architecture": a, "general.name": "random weights"}
    words = tokenizer_entries(tokenizer, s["vocab"]) if tokenizer else [entry("tokenizer.ggml.model", "no_vocab")]
    return [entry(k, v) for k, v in general.items()] + [entry(f"{a}.{k}", v) for k, v in keys.items()] + words


def better_half(layer, layers):
    """The layers that the usual q4_k_m recipe gives more bits: the first and last eighth, and every third between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def tensors(s, wanted):
    """(name, dims, type) of every tensor; dims begin with the row length."""
    hidden, out = s["hidden"], []

    def add(name, dims, more_bits=False):
        kind = wanted if wanted != "q4_k_m" else "q6_k" if more_bits else "q4_k"
        if dims[0] % TYPES[kind][1]:
            kind = {"q4_k": "q5_0", "q6_k": "q8_0"}.get(kind, "q8_0")
        out.append((name, dims, kind))

    def norm(name, size):
        out.append((name, (size,), "f32"))

    add("token_embd.weight", (hidden, s["vocab"]), more_bits=s.get("tied", False))
    norm("output_norm.weight", hidden)
    if not s.get("tied"):
        add("output.weight", (hidden, s["vocab"]), more_bits=True)
    for i in range(s["layers"]):
        p, better = f"blk.{i}.", better_half(i, s["layers"])
        norm(p + "attn_norm.weight", hidden)
        norm(p + "ffn_norm.weight", hidden)
        ffn, suffix = s["ffn"], ""
        if s["arch"] == "deepseek2":
            heads, rank = s["heads"], s["rank"]
            add(p + "attn_q.weight", (hidden, heads * (s["nope"] + s["rope"])))
            add(p + "attn_kv_a_mqa.weight", (hidden, rank + s["rope"]))
            norm(p + "attn_kv_a_norm.weight", rank)
            add(p + "attn_k_b.weight", (s["nope"], rank, heads))
            add(p + "attn_v_b.weight", (rank, s["v_dim"], heads))
            add(p + "attn_output.weight", (heads * s["v_dim"], hidden))
            if i >= s["dense"]:
                experts, ffn, suffix = s["experts"], s["shared"] * s["expert_ffn"], "_shexp"
                out.append((p + "ffn_gate_inp.weight", (hidden, experts), "f32"))
                add(p + "ffn_gate_exps.weight", (hidden, s["expert_ffn"], experts))
                add(p + "ffn_up_exps.weight", (hidden, s["expert_ffn"], experts))
                add(p + "ffn_down_exps.weight", (s["expert_ffn"], hidden, experts), better)
        else:
            kv = hidden // s["heads"] * s["kv_heads"]
            for name, width, more in (("q", hidden, False), ("k", kv, False), ("v", kv, better)):
                add(f"{p}attn_{name}.weight", (hidden, width), more)
                if s.get("bias"):
                    norm(f"{p}attn_{name}.bias", width)
            add(p + "attn_output.weight", (hidden, hidden))
        add(f"{p}ffn_gate{suffix}.weight", (hidden, ffn))
        add(f"{p}ffn_up{suffix}.weight", (hidden, ffn))
        add(f"{p}ffn_down{suffix}.weight", (ffn, hidden), better)
    return out


def bytes_of(dims, kind):
    _, elements, size, _, _ = TYPES[kind]
    return int(np.prod(dims)) // elements * size


def random_block(kind, rng, room=16 << 20):
    _, _, size, scales, value = TYPES[kind]
    count = room // size
    if kind == "f32":
        return np.ones(count, np.float32).tobytes()
    if kind == "bf16":
        return ((rng.standard_normal(count, np.float32) * 0.02).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for i, at in enumerate(scales):  # a minimum is that of q4_1 (added) or q4_K (taken away): centred weights either way
        v = value if i == 0 else -7.5 * value if kind == "q4_1" else 7.5 * value
        blocks[:, at : at + 2] = np.frombuffer(np.float16(v).tobytes(), np.uint8)
    return blocks.tobytes()


def write(path, shape, wanted, layers=None, tokenizer=None):
    s, rng, blocks, offset, table = dict(SHAPES[shape]), np.random.default_rng(1), {}, 0, b""
    s["layers"] = layers or s["layers"]
    every = tensors(s, wanted)
    for name, dims, kind in every:
        table += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, TYPES[kind][0], offset)
        offset += -(-bytes_of(dims, kind) // 32) * 32
    keys = metadata(s, tokenizer)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(every), len(keys)) + b"".join(keys) + table
    part = pathlib.Path(f"{path}.part")
    with open(part, "wb") as out:
        out.write(head + bytes(-len(head) % 32))
        for _, dims, kind in every:
            left = size = bytes_of(dims, kind)
            block = memoryview(blocks.setdefault(kind, random_block(kind, rng)))
            while left:
                left -= out.write(block[: min(left, len(block))])
            out.write(bytes(-size % 32))
    part.rename(path)
    return offset


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("type", choices=["bf16", "q8_0", "q4_0", "q4_1", "q4_k_m"])
    parser.add_argument("out")
    parser.add_argument("--layers", type=int, help="fewer layers than the model has")
    parser.add_argument("--tokenizer", help="a GGUF file whose tokenizer is copied")
    a = parser.parse_args()
    print(f"{a.out}: {write(a.out, a.shape, a.type, a.layers, a.tokenizer) / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
