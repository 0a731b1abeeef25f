"""A folder with a checkpoint of Llama-3-8B's shape, random bf16 weights and a tokenizer of made-up words: for speed only.

write(folder, layers=32, small=False): 16 GB; fewer layers cut it, small makes it tiny. Needs numpy.
"""

import json
import struct

import numpy as np


def shapes(c):
    h, ffn, kv = c["hidden_size"], c["intermediate_size"], c["num_key_value_heads"] * c["head_dim"]
    q = c["num_attention_heads"] * c["head_dim"]
    out = {"model.embed_tokens.weight": (c["vocab_size"], h), "lm_head.weight": (c["vocab_size"], h), "model.norm.weight": (h,)}
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        out |= {p + "input_layernorm.weight": (h,), p + "post_attention_layernorm.weight": (h,)}
        for name, shape in (("q", (q, h)), ("k", (kv, h)), ("v", (kv, h)), ("o", (h, q))):
            out[f"{p}self_attn.{name}_proj.weight"] = shape
        for name, shape in (("gate", (ffn, h)), ("up", (ffn, h)), ("down", (h, ffn))):
            out[f"{p}mlp.{name}_proj.weight"] = shape
    return out


def write(folder, layers=32, small=False):
    sizes = (256, 512, 4, 2, 64, 32768) if small else (4096, 14336, 32, 8, 128, 128256)
    keys = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size")
    config = dict(zip(keys, sizes, strict=True)) | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": layers,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config))
    header, at = {}, 0
    for name, shape in shapes(config).items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    values = np.random.default_rng(1).standard_normal(1 << 24, np.float32) / np.float32(sizes[0] ** 0.5)
    block = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    with open(folder / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        while at > 0:
            out.write(block[: min(at, len(block))])
            at -= min(at, len(block))
    write_tokenizer(folder, config["vocab_size"])


def write_tokenizer(folder, vocab):
    """Byte-level BPE without merges: a token for every byte, then names of numbers, so that every drawn token has a text."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letter = {byte: chr(byte) for byte in printable}
    letter |= {byte: chr(256 + i) for i, byte in enumerate(byte for byte in range(256) if byte not in letter)}
    tokens = {letter[byte]: byte for byte in range(256)} | {f"~{i}": i for i in range(256, vocab)}
    tokenizer = {
        "model": {"type": "BPE", "vocab": tokens, "merges": []},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "decoder": {"type": "ByteLevel"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
