#!/usr/bin/env python3
"""What `homeport quantize` costs: size, error, perplexity and agreement, on the default model and on a tiny DeepSeek-V3.

usage: bench/quantization.py [MODEL.gguf] [--text FILE] [--calibrate FILE] [--keep FOLDER] [--tiny]

The default model comes as GGUF; it is dequantized to bf16 first, in Hugging Face's layout with its tokenizer, and that is
the original that everything is compared with. The tiny V3 is tests/golden/hf_cases.py's, random, with its prediction layer.
Texts: the documents of this tree; what calibrates is not what measures.
"""
import argparse, json, pathlib, resource, subprocess, sys, tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "golden"))
import hf_cases  # noqa: E402
from reference_forward import Gguf  # noqa: E402

MEASURE = ["README.md", "docs/gateway.md", "docs/journal.md", "docs/performance.md"]
CALIBRATE = ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/*.md", "docs/adr/*.md"]  # less what measures
LAYER = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
         "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj"}
GLOBAL = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
KEEP = ["--embeddings", "keep"]
ROWS = [("fp8", "fp8", []), ("fp8, embedding kept", "fp8", KEEP), ("int8", "int8", []), ("int4", "int4", []), ("mixed", "mixed", [])]


def halves(x, heads):
    """GGUF's llama has its rotary pairs side by side, Hugging Face's in halves."""
    return x.reshape(heads, -1, 2, x.shape[-1]).swapaxes(1, 2).reshape(x.shape)


def tokenizer_json(meta):
    vocabulary = meta["tokenizer.ggml.tokens"]
    special = [i for i, kind in enumerate(meta["tokenizer.ggml.token_type"]) if kind in (3, 4)]
    return {
        "added_tokens": [{"id": i, "content": vocabulary[i], "special": True, "normalized": False} for i in special],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(vocabulary)}, "merges": meta["tokenizer.ggml.merges"]},
    }


def to_folder(gguf, folder):
    """A llama GGUF as a bf16 folder in Hugging Face's layout."""
    file = Gguf(gguf)
    m = {k.removeprefix("llama."): v for k, v in file.meta.items()}
    if file.meta["general.architecture"] != "llama":
        sys.exit(f"{gguf}: expected a llama, found {file.meta['general.architecture']}")
    heads, kv_heads = m["attention.head_count"], m["attention.head_count_kv"]
    entries = {}
    for name in file.table:
        stem, x = name.removesuffix(".weight"), file.tensor(name)
        if stem.startswith("blk."):
            _, layer, part = stem.split(".")
            x = halves(x, heads if part == "attn_q" else kv_heads) if part in ("attn_q", "attn_k") else x
            stem = f"model.layers.{layer}.{LAYER[part]}"
        else:
            stem = GLOBAL[stem]
        entries[stem + ".weight"] = ("BF16", hf_cases.to_bf16(x))
    folder.mkdir()
    hf_cases.write_safetensors(folder / "model.safetensors", entries)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": m["block_count"],
              "hidden_size": m["embedding_length"], "intermediate_size": m["feed_forward_length"],
              "vocab_size": len(m["tokenizer.ggml.tokens"]), "max_position_embeddings": m["context_length"],
              "num_attention_heads": heads, "num_key_value_heads": kv_heads, "rms_norm_eps": m["attention.layer_norm_rms_epsilon"],
              "rope_theta": m["rope.freq_base"], "tie_word_embeddings": "lm_head.weight" not in entries, "hidden_act": "silu",
              "bos_token_id": m["tokenizer.ggml.bos_token_id"], "eos_token_id": m["tokenizer.ggml.eos_token_id"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(m)))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": m.get("tokenizer.chat_template", "")}))


def report(program, source, folder, recipe, flags):
    out = subprocess.run([program, "quantize", source, folder, "--to", recipe, "--json", *flags], stdout=subprocess.PIPE, check=True)
    return json.loads(out.stdout)


def table(program, name, source, work, measure, calibrate):
    print(f"\n{name}\n  {'recipe':<32} {'size':>8} {'linear error':>13} {'perplexity':>22} {'top-1':>8}")
    for label, recipe, flags in ROWS:
        for mode, extra in ("", []), (", calibrated", calibrate):
            folder = work / f"{source.name}-{(label + mode).replace(', ', '-').replace(' ', '-')}"
            r = report(program, source, folder, recipe, [*measure, *flags, *extra])
            q, worst = r["quality"], max(c["relative_error"] for c in r["classes"])
            print(f"  {label + mode:<32} {100 * r['bytes_after'] / r['bytes_before']:>6.1f} % {100 * worst:>11.2f} % "
                  f"{q['perplexity_before']:>9.4f} -> {q['perplexity_after']:>8.4f} {100 * q['top1_agreement']:>6.2f} %", flush=True)
    print(f"  (on {q['tokens']} tokens; {r['bytes_before'] / 1e6:.1f} MB in bf16)", flush=True)


def texts(patterns, without=()):
    paths = [p for pattern in patterns for p in sorted(ROOT.glob(pattern))]
    return "\n\n".join(p.read_text() for p in paths if str(p.relative_to(ROOT)) not in without)


def default_model(a, work):
    text, calibration = a.text or work / "measure.txt", a.calibrate or work / "calibrate.txt"
    if not a.text:
        text.write_text(texts(MEASURE))
    if not a.calibrate:
        calibration.write_text(texts(CALIBRATE, without=MEASURE))
    to_folder(a.model, work / "bf16")
    table(a.program, a.model.stem, work / "bf16", work, ["--text", text], ["--calibrate", calibration])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", nargs="?", type=pathlib.Path, default=pathlib.Path.home() / ".homeport/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    p.add_argument("--text", type=pathlib.Path)
    p.add_argument("--calibrate", type=pathlib.Path)
    p.add_argument("--keep", type=pathlib.Path, help="leave the folders here")
    p.add_argument("--tiny", action="store_true", help="the tiny V3 alone")
    p.add_argument("--program", default=str(ROOT / "build/release/homeport"))
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = a.keep or pathlib.Path(temporary)
        work.mkdir(exist_ok=True)
        if not a.tiny:
            default_model(a, work)
        rng = np.random.default_rng(5)
        for name in ("measure", "calibrate"):
            (work / f"{name}.tokens").write_text(" ".join(str(t) for t in rng.integers(0, hf_cases.VOCAB, 4096)))
        hf_cases.write_checkpoint(work / "tiny-v3", "v3", "bf16")
        table(a.program, "tiny DeepSeek-V3, random weights", work / "tiny-v3", work, ["--tokens", work / "measure.tokens"],
              ["--calibrate-tokens", work / "calibrate.tokens"])
    print(f"\nmost memory of any run: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
