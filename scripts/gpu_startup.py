#!/usr/bin/env python3
"""Process start to first token of an 8B bf16 checkpoint whose file is in the page cache; the median of three runs.

usage: gpu_startup.py [--device cuda|cpu] [--tool build/gpu/logits_tool] [--layers 32] [--small] [--folder /dev/shm]
Writes a folder of Llama-3-8B's shape with random weights (16 GB; --layers cuts it, --small makes it tiny), runs the program's
own loading on it, and takes it away again. Needs numpy. A file in /dev/shm is in memory as one in the page cache is.
"""

import argparse
import json
import pathlib
import statistics
import struct
import subprocess
import sys
import tempfile
import time

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


def write(folder, layers, small):
    sizes = (256, 512, 4, 2, 64, 512) if small else (4096, 14336, 32, 8, 128, 128256)
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


def first_token(command):
    begin = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"1 2 3 4 5 6 7 8\n")
        process.stdin.close()
        line = process.stdout.readline()
        seconds = time.monotonic() - begin
    if process.returncode != 0 or not line.strip().isdigit():
        raise RuntimeError(f"{command[0]}: exit code {process.returncode}, first line {line!r}")
    return seconds


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    options.add_argument("--tool", default="build/gpu/logits_tool")
    options.add_argument("--layers", type=int, default=32)
    options.add_argument("--small", action="store_true")
    options.add_argument("--folder", default="/dev/shm")
    options = options.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="homeport_startup_") as name:
        folder = pathlib.Path(name)
        write(folder, options.layers, options.small)
        kernels = ["cuda", "1"] if options.device == "cuda" else ["auto", "2"]
        runs = [first_token([options.tool, str(folder), *kernels, "greedy", "1"]) for _ in range(4)]
    print("runs: " + " ".join(f"{s:.2f}" for s in runs) + " s, the first not counted")
    print(f"first token after {statistics.median(runs[1:]):.3f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
