#!/usr/bin/env python3
"""DeepSeek-V2-Lite at its real size on the CPU: from a file of 9 GB to tokens, with the memory and the speed of it.

usage: bench/full_size.py [--folder FOLDER] [--threads N] [--keep]

Writes a GGUF of V2-Lite's published shape with random int4 weights (q4_0; one random block over and over, so that it takes as
long as the disk), serves it as any file is served, and asks for one answer. Random weights say nothing sensible: what is measured
is bytes, seconds and tokens, which do not depend on the values. Wants 10 GB of disk and 12 GB of memory.
"""
import argparse, json, pathlib, socket, struct, subprocess, sys, tempfile, threading, time, urllib.request

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "golden"))
from hf_gguf import BOOL, F32, STRING, TYPES, U32, pair, text  # noqa: E402

LAYERS, HIDDEN, HEADS, VOCAB, RANK, NOPE, ROPE, V = 27, 2048, 16, 102400, 512, 128, 64, 128
EXPERTS, USED, SHARED, EXPERT_FFN, DENSE_FFN = 64, 6, 2, 1408, 10944
ARRAY, I32 = 9, 5
PROMPT, ANSWER = 512, 64


def utf8(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def array(key, kind, values):
    packed = b"".join(utf8(v) for v in values) if kind == STRING else struct.pack(f"<{len(values)}i", *values)
    return text(key) + struct.pack("<IIQ", ARRAY, kind, len(values)) + packed


def metadata():
    m = [pair("general.architecture", STRING, "deepseek2"), pair("general.name", STRING, "V2-Lite's shape, random weights")]
    numbers = {
        "block_count": LAYERS, "embedding_length": HIDDEN, "feed_forward_length": DENSE_FFN, "context_length": 163840,
        "attention.head_count": HEADS, "attention.head_count_kv": 1, "attention.kv_lora_rank": RANK, "rope.dimension_count": ROPE,
        "attention.key_length": RANK + ROPE, "attention.value_length": RANK, "attention.key_length_mla": NOPE + ROPE,
        "attention.value_length_mla": V, "leading_dense_block_count": 1, "expert_count": EXPERTS, "expert_used_count": USED,
        "expert_shared_count": SHARED, "expert_feed_forward_length": EXPERT_FFN, "expert_gating_func": 1,
        "rope.scaling.original_context_length": 4096,
    }
    m += [pair("deepseek2." + k, U32, v) for k, v in numbers.items()]
    m.append(pair("deepseek2.rope.scaling.type", STRING, "yarn"))
    floats = {"attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 1e4, "expert_weights_scale": 1.0, "rope.scaling.factor": 40.0,
              "rope.scaling.yarn_log_multiplier": 0.0707}
    m += [pair("deepseek2." + k, F32, v) for k, v in floats.items()]
    m.append(pair("deepseek2.expert_weights_norm", BOOL, False))
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]  # byte-level BPE's letters for bytes
    letters = [chr(b) if b in printable else None for b in range(256)]
    spare = iter(range(256, 512))
    letters = [c or chr(next(spare)) for c in letters]
    words = letters + [f"<{i}>" for i in range(256, VOCAB)]
    m += [pair("tokenizer.ggml.model", STRING, "gpt2"), pair("tokenizer.ggml.pre", STRING, "deepseek-llm"),
          array("tokenizer.ggml.tokens", STRING, words), array("tokenizer.ggml.token_type", I32, [1] * VOCAB),
          array("tokenizer.ggml.merges", STRING, []),
          pair("tokenizer.ggml.bos_token_id", U32, VOCAB - 2), pair("tokenizer.ggml.eos_token_id", U32, VOCAB - 1)]
    return m


def tensors():
    """(name, shape, type)"""
    yield from (("token_embd.weight", (VOCAB, HIDDEN), "q4_0"), ("output.weight", (VOCAB, HIDDEN), "q4_0"), ("output_norm.weight", (HIDDEN,), "f32"))
    for i in range(LAYERS):
        parts = {"attn_norm": (HIDDEN,), "ffn_norm": (HIDDEN,), "attn_kv_a_norm": (RANK,), "attn_q": (HEADS * (NOPE + ROPE), HIDDEN),
                 "attn_kv_a_mqa": (RANK + ROPE, HIDDEN), "attn_k_b": (HEADS, RANK, NOPE), "attn_v_b": (HEADS, V, RANK),
                 "attn_output": (HIDDEN, HEADS * V)}
        ffn, ending = (DENSE_FFN, "") if i == 0 else (SHARED * EXPERT_FFN, "_shexp")
        parts |= {"ffn_gate" + ending: (ffn, HIDDEN), "ffn_up" + ending: (ffn, HIDDEN), "ffn_down" + ending: (HIDDEN, ffn)}
        if i > 0:
            parts |= {"ffn_gate_inp": (EXPERTS, HIDDEN), "ffn_gate_exps": (EXPERTS, EXPERT_FFN, HIDDEN),
                      "ffn_up_exps": (EXPERTS, EXPERT_FFN, HIDDEN), "ffn_down_exps": (EXPERTS, HIDDEN, EXPERT_FFN)}
        for name, shape in parts.items():
            yield f"blk.{i}.{name}.weight", shape, "f32" if len(shape) == 1 or name == "ffn_gate_inp" else "q4_0"


def write(path):
    """Returns the number of weights."""
    rng, table, at, count = np.random.default_rng(1), b"", 0, 0
    blocks = rng.integers(0, 256, (1 << 20, 18), dtype=np.uint8)
    blocks[:, :2] = np.frombuffer(np.float16(0.004).tobytes(), np.uint8)
    chunk = blocks.tobytes()
    plan = [(name, shape, kind, int(np.prod(shape)) * 4 if kind == "f32" else int(np.prod(shape)) // 32 * 18) for name, shape, kind in tensors()]
    for name, shape, kind, size in plan:
        table += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape[::-1]) + struct.pack("<IQ", TYPES[kind], at)
        at += -(-size // 32) * 32
        count += int(np.prod(shape))
    meta = metadata()
    head = b"GGUF" + struct.pack("<IQQ", 3, len(plan), len(meta)) + b"".join(meta) + table
    with open(path, "wb") as out:
        out.write(head + b"\0" * (-len(head) % 32))
        for _, shape, kind, size in plan:
            if kind == "f32":
                values = np.ones(shape, np.float32) if len(shape) == 1 else rng.standard_normal(shape, np.float32) * np.float32(0.02)
                out.write(values.tobytes())
            else:
                for begin in range(0, size, len(chunk)):
                    out.write(chunk[: size - begin])
            out.write(b"\0" * (-size % 32))
    return count


def memory(pid, key):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024**2
    return 0.0


def ask(port, prompt, answer):
    """Seconds to the first token, and tokens a second after it."""
    body = {"model": "default", "prompt": [i * 37 % 256 for i in range(prompt)], "max_tokens": answer, "stream": True, "ignore_eos": True,
            "temperature": 0, "stream_options": {"include_usage": True}}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", json.dumps(body).encode(), {"content-type": "application/json"})
    start, first, last, tokens = time.monotonic(), 0.0, 0.0, 0
    with urllib.request.urlopen(request) as reply:
        for line in reply:
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
                if event["choices"]:
                    last = time.monotonic()
                    first = first or last
    return first - start, tokens, (tokens - 1) / (last - first)


def serve(program, path, threads):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [program, "node", "--model", path, "--port", str(port), "--device", "cpu", "--context", "4096", "--no-access-log"]
    start = time.monotonic()
    server = subprocess.Popen([*map(str, command), "--threads", str(threads)], stdout=subprocess.DEVNULL)
    inspect = json.loads(subprocess.run([program, "inspect", path, "--json"], stdout=subprocess.PIPE, check=True).stdout)
    print(f"KV cache: {inspect['kv_bytes_per_token_f16']} bytes per token in 16 bits", flush=True)
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ready")
                break
            except OSError:
                if server.poll() is not None:
                    sys.exit("the server has ended")
                time.sleep(0.1)
        print(f"from file to ready: {time.monotonic() - start:.1f} s; resident {memory(server.pid, 'VmRSS'):.2f} GiB", flush=True)
        wait, tokens, speed = ask(port, PROMPT, ANSWER)
        print(f"one stream, prompt of {PROMPT}: first token after {wait:.2f} s ({PROMPT / wait:.1f} tokens/s), then {speed:.2f} tokens/s "
              f"over {tokens} tokens", flush=True)
        results = []
        team = [threading.Thread(target=lambda: results.append(ask(port, 16, 32))) for _ in range(8)]
        start = time.monotonic()
        for t in team:
            t.start()
        for t in team:
            t.join()
        total = sum(r[1] for r in results)
        print(f"eight streams at once, 16 + 32 tokens each: {total / (time.monotonic() - start):.2f} tokens/s in all", flush=True)
        print(f"most resident: {memory(server.pid, 'VmHWM'):.2f} GiB", flush=True)
    finally:
        server.terminate()
        server.wait()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--folder", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()))
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--keep", action="store_true", help="leave the file there, and take it if it is there already")
    p.add_argument("--write-only", action="store_true", help="write the file, keep it, measure nothing")
    p.add_argument("--program", default=str(ROOT / "build/release/homeport"))
    a = p.parse_args()
    path = a.folder / "v2-lite-shape.q4_0.gguf"
    try:
        if not (a.keep and path.exists()):
            count = write(path)
            print(f"{path}: {path.stat().st_size / 1e9:.2f} GB, {count / 1e9:.2f} billion weights", flush=True)
        if not a.write_only:
            serve(a.program, path, a.threads)
    finally:
        if not a.keep and not a.write_only:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
