"""A llama forward pass in numpy float32, written to be read: the independent witness for the C++ executors.

Reads GGUF itself and dequantizes by the format's definition; shares no code and no table with src/.
"""

import struct

import numpy as np

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# ggml type number: (elements per block, bytes per block)
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 8: (32, 34), 14: (256, 210), 30: (1, 2)}


class Gguf:
    def __init__(self, path):
        self.bytes = np.memmap(path, np.uint8, "r")
        self.at = 8
        tensors, keys = self.scalar(10), self.scalar(10)
        self.meta = {self.text(): self.value(self.scalar(4)) for _ in range(keys)}
        self.table_at = self.at
        self.table = {}
        for _ in range(tensors):
            name = self.text()
            dims = [self.scalar(10) for _ in range(self.scalar(4))]
            self.table[name] = (dims, self.scalar(4), self.scalar(10))
        alignment = self.meta.get("general.alignment", 32)
        self.data = -(-self.at // alignment) * alignment

    def scalar(self, kind):
        code = "<" + SCALARS[kind]
        (value,) = struct.unpack_from(code, self.bytes, self.at)
        self.at += struct.calcsize(code)
        return value

    def text(self):
        size = self.scalar(10)
        self.at += size
        return bytes(self.bytes[self.at - size : self.at]).decode("utf-8", "replace")

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            inner, count = self.scalar(4), self.scalar(10)
            return [self.value(inner) for _ in range(count)]
        return self.scalar(kind)

    def tensor(self, name):
        dims, kind, offset = self.table[name]
        if kind not in BLOCKS:
            raise ValueError(f"{name}: ggml type {kind} is not known to this reference")
        elements, size = BLOCKS[kind]
        count = int(np.prod(dims)) // elements
        start = self.data + offset
        raw = np.asarray(self.bytes[start : start + count * size]).reshape(count, size)
        return dequantize(kind, raw).astype(np.float32).reshape(dims[::-1])


def half(raw):
    return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)


def nibbles(raw):
    return np.concatenate([raw & 15, raw >> 4], axis=1).astype(np.float32)


def dequantize(kind, raw):
    if kind == 0:
        return raw.view(np.float32)
    if kind == 1:
        return half(raw)
    if kind == 30:
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if kind == 2:  # q4_0
        return half(raw[:, :2]) * (nibbles(raw[:, 2:]) - 8)
    if kind == 3:  # q4_1
        return half(raw[:, :2]) * nibbles(raw[:, 4:]) + half(raw[:, 2:4])
    if kind == 8:  # q8_0
        return half(raw[:, :2]) * raw[:, 2:].view(np.int8)
    low, high = raw[:, :128].reshape(-1, 2, 64), raw[:, 128:192].reshape(-1, 2, 32)  # q6_k
    scale = raw[:, 192:208].view(np.int8).astype(np.float32)
    low = np.concatenate([low & 15, low >> 4], axis=2)
    high = np.concatenate([(high >> s) & 3 for s in (0, 2, 4, 6)], axis=2)
    quants = (low | (high << 4)).reshape(-1, 16, 16).astype(np.float32) - 32
    return half(raw[:, 208:]).reshape(-1, 1, 1) * scale[:, :, None] * quants


class Llama:
    """Plain llama: no bias, no q/k norm, rotary pairs (0, 1), (2, 3), … without scaling."""

    def __init__(self, path):
        g = Gguf(path)
        meta = {k.removeprefix("llama."): v for k, v in g.meta.items() if k.startswith("llama.")}
        assert g.meta["general.architecture"] == "llama" and "rope_freqs.weight" not in g.table
        assert meta.get("rope.scaling.type", "none") == "none"
        self.vocabulary = g.meta.get("tokenizer.ggml.tokens", [])
        self.layers = meta["block_count"]
        self.heads, self.kv_heads = meta["attention.head_count"], meta["attention.head_count_kv"]
        self.dim = meta["embedding_length"] // self.heads
        self.eps = np.float32(meta["attention.layer_norm_rms_epsilon"])
        self.weights = {name: g.tensor(name) for name in g.table}
        self.weights.setdefault("output.weight", self.weights["token_embd.weight"])
        theta = meta.get("rope.freq_base", 10000.0)
        self.frequencies = theta ** (-np.arange(0, self.dim, 2, dtype=np.float64) / self.dim)
        self.cache = [None] * self.layers

    def norm(self, x, name):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.eps) * self.weights[name]

    def rotate(self, x, position):  # [batch, tokens, heads, dim]
        angle = (position + np.arange(x.shape[1]))[:, None, None] * self.frequencies
        cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
        even, odd = x[..., 0::2], x[..., 1::2]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)

    def attention(self, x, layer, position):
        batch, count, _ = x.shape
        w = {n: self.weights[f"blk.{layer}.attn_{n}.weight"] for n in ("q", "k", "v", "output")}
        q = self.rotate((x @ w["q"].T).reshape(batch, count, self.heads, self.dim), position)
        k = self.rotate((x @ w["k"].T).reshape(batch, count, self.kv_heads, self.dim), position)
        v = (x @ w["v"].T).reshape(batch, count, self.kv_heads, self.dim)
        if position > 0:
            k = np.concatenate([self.cache[layer][0], k], axis=1)
            v = np.concatenate([self.cache[layer][1], v], axis=1)
        self.cache[layer] = (k, v)
        q = q.reshape(batch, count, self.kv_heads, -1, self.dim)
        scores = np.einsum("btgjd,bsgd->bgjts", q, k, optimize=True) / np.float32(np.sqrt(self.dim))
        hidden = np.arange(k.shape[1])[None, :] > position + np.arange(count)[:, None]
        scores = np.where(hidden, np.float32(-np.inf), scores)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        out = np.einsum("bgjts,bsgd->btgjd", scores, v, optimize=True).reshape(batch, count, -1)
        return out @ w["output"].T

    def forward(self, tokens, position):
        """tokens [batch, count] from `position` on; logits [batch, vocab] of the last one."""
        x = self.weights["token_embd.weight"][tokens]
        for i in range(self.layers):
            p = f"blk.{i}."
            x = x + self.attention(self.norm(x, p + "attn_norm.weight"), i, position)
            h = self.norm(x, p + "ffn_norm.weight")
            gate = h @ self.weights[p + "ffn_gate.weight"].T
            up = h @ self.weights[p + "ffn_up.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ self.weights[p + "ffn_down.weight"].T
        return self.norm(x[:, -1], "output_norm.weight") @ self.weights["output.weight"].T

    def greedy(self, prompts, count):
        """Tokens [batch, count], the lead of the best logit over the second, and the chosen token's log-probability."""
        tokens, position = np.asarray(prompts), 0
        chosen, leads, logprobs = [], [], []
        for _ in range(count):
            logits = self.forward(tokens, position)
            position += tokens.shape[1]
            best = logits.argmax(axis=-1)
            two = np.partition(logits, -2, axis=-1)[:, -2:]
            top = logits.max(axis=-1)
            chosen.append(best)
            leads.append(two[:, 1] - two[:, 0])
            logprobs.append(-np.log(np.exp(logits - top[:, None]).sum(axis=-1)))
            tokens = best[:, None]
        return np.stack(chosen, 1), np.stack(leads, 1), np.stack(logprobs, 1)
