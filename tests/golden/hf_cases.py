"""Tiny random checkpoints, one per architecture with every feature on, written in Hugging Face's layout.

Weights come from a counter-based generator, so they are the same bits on every machine and need no file in the tree.
"""

import hashlib
import json
import pathlib
import struct

import numpy as np

PROMPT, STEPS, VOCAB = 40, 16, 256
YARN = {"type": "yarn", "factor": 40, "original_max_position_embeddings": 32, "beta_fast": 32, "beta_slow": 1}
DENSE = {
    "num_hidden_layers": 2,
    "hidden_size": 128,
    "intermediate_size": 192,
    "vocab_size": VOCAB,
    "max_position_embeddings": 2048,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
DEEPSEEK = DENSE | {
    "num_hidden_layers": 3,
    "rms_norm_eps": 1e-6,
    "num_key_value_heads": 4,
    "kv_lora_rank": 64,
    "q_lora_rank": 96,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 96,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "rope_theta": 10000,
    "attention_bias": False,
}
CASES = {
    "llama": DENSE | {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_key_value_heads": 4},
    "llama_linear": DENSE
    | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "rope_scaling": {"type": "linear", "factor": 4.0},
    },
    "llama3": DENSE
    | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "qwen2": DENSE | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": DENSE
    | {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "head_dim": 48,
        "rope_theta": 1000000,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 32,
            "attention_factor": 0.9,
        },
    },
    "v2_lite": DEEPSEEK
    | {
        "architectures": ["DeepseekV2ForCausalLM"],
        "model_type": "deepseek_v2",
        "q_lora_rank": None,
        "topk_method": "greedy",
        "n_group": 1,
        "topk_group": 1,
        "scoring_func": "softmax",
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.0,
        "rope_scaling": YARN | {"mscale": 0.707, "mscale_all_dim": 0.707},
    },
    "v2": DEEPSEEK
    | {
        "architectures": ["DeepseekV2ForCausalLM"],
        "model_type": "deepseek_v2",
        "topk_method": "group_limited_greedy",
        "n_group": 4,
        "topk_group": 2,
        "scoring_func": "softmax",
        "norm_topk_prob": False,
        "routed_scaling_factor": 4.0,
        "rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 0.8},
    },
    "v3": DEEPSEEK
    | {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "n_shared_experts": 1,
        "topk_method": "noaux_tc",
        "n_group": 4,
        "topk_group": 2,
        "scoring_func": "sigmoid",
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.5,
        "num_nextn_predict_layers": 1,
        "rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0},
    },
}
# The first DeepSeek-MoE (16B): transformers has no class for it, so that hf_forward.py alone is its witness.
WITNESS_ONLY = {
    "deepseek_moe": DENSE
    | {
        "architectures": ["DeepseekForCausalLM"],
        "model_type": "deepseek",
        "num_hidden_layers": 3,
        "num_key_value_heads": 4,
        "n_routed_experts": 8,
        "n_shared_experts": 2,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 96,
        "first_k_dense_replace": 1,
        "moe_layer_freq": 1,
        "topk_method": "greedy",
        "n_group": 1,
        "topk_group": 1,
        "scoring_func": "softmax",
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.0,
    },
    # V3 in sizes that a GPU takes, whose heads and feed-forwards are whole blocks of 128 for up to four ranks.
    "v3_wide": CASES["v3"]
    | {
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "intermediate_size": 512,
        "moe_intermediate_size": 512,
        "kv_lora_rank": 512,
        "q_lora_rank": 128,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "num_nextn_predict_layers": 0,
    },
}
# How the weights are stored; the reference always runs on what they mean in float32.
VARIANTS = {name: ["f32", "bf16"] for name in CASES}
VARIANTS["v3"] += ["fp8", "fp8_ue8m0"]
CASES |= WITNESS_ONLY


def noise(name, shape):
    """Uniform numbers of variance 1: splitmix64 over a counter, seeded by all of the tensor's name."""
    seed = np.uint64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))
    with np.errstate(over="ignore"):
        z = seed + np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    uniform = (z >> np.uint64(11)).astype(np.float64) / 2.0**53
    return ((uniform - 0.5) * np.sqrt(12)).reshape(shape)


def shapes(c):
    """Tensor name to shape, in Hugging Face's names."""
    h, heads, out = c["hidden_size"], c["num_attention_heads"], {}
    out["model.embed_tokens.weight"] = (c["vocab_size"], h)
    out["model.norm.weight"] = (h,)
    if not c["tie_word_embeddings"]:
        out["lm_head.weight"] = (c["vocab_size"], h)
    for i in range(c["num_hidden_layers"] + c.get("num_nextn_predict_layers", 0)):
        p = f"model.layers.{i}."
        out[p + "input_layernorm.weight"] = out[p + "post_attention_layernorm.weight"] = (h,)
        a = p + "self_attn."
        if "kv_lora_rank" in c:
            nope, rope, v, rank = (c[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank"))
            if c["q_lora_rank"]:
                out[a + "q_a_proj.weight"] = (c["q_lora_rank"], h)
                out[a + "q_a_layernorm.weight"] = (c["q_lora_rank"],)
                out[a + "q_b_proj.weight"] = (heads * (nope + rope), c["q_lora_rank"])
            else:
                out[a + "q_proj.weight"] = (heads * (nope + rope), h)
            out[a + "kv_a_proj_with_mqa.weight"] = (rank + rope, h)
            out[a + "kv_a_layernorm.weight"] = (rank,)
            out[a + "kv_b_proj.weight"] = (heads * (nope + v), rank)
            out[a + "o_proj.weight"] = (h, heads * v)
        else:
            dim = c.get("head_dim", h // heads)
            for n, count in (("q", heads), ("k", c["num_key_value_heads"]), ("v", c["num_key_value_heads"])):
                out[a + n + "_proj.weight"] = (count * dim, h)
                if c["model_type"] == "qwen2":
                    out[a + n + "_proj.bias"] = (count * dim,)
            if c["model_type"] == "qwen3":
                out[a + "q_norm.weight"] = out[a + "k_norm.weight"] = (dim,)
            out[a + "o_proj.weight"] = (h, heads * dim)
        if "n_routed_experts" in c and i >= c["first_k_dense_replace"]:
            ffn, m = c["moe_intermediate_size"], p + "mlp."
            out[m + "gate.weight"] = (c["n_routed_experts"], h)
            if c["topk_method"] == "noaux_tc":
                out[m + "gate.e_score_correction_bias"] = (c["n_routed_experts"],)
            blocks = [(f"{m}experts.{e}.", ffn) for e in range(c["n_routed_experts"])]
            blocks.append((m + "shared_experts.", ffn * c["n_shared_experts"]))
        else:
            blocks = [(p + "mlp.", c["intermediate_size"])]
        for prefix, ffn in blocks:
            out[prefix + "gate_proj.weight"] = out[prefix + "up_proj.weight"] = (ffn, h)
            out[prefix + "down_proj.weight"] = (h, ffn)
        if i >= c["num_hidden_layers"]:
            out[p + "enorm.weight"] = out[p + "hnorm.weight"] = out[p + "shared_head.norm.weight"] = (h,)
            out[p + "eh_proj.weight"] = (h, 2 * h)
            out[p + "embed_tokens.weight"] = out[p + "shared_head.head.weight"] = (c["vocab_size"], h)
    return out


def weights(c):
    """Tensor name to float32 values."""
    out = {}
    for name, shape in shapes(c).items():
        n = noise(name, shape)
        if "norm" in name:
            n = 1 + 0.2 * n
        elif name.endswith("e_score_correction_bias"):
            n = 0.1 * n
        elif name.endswith(".bias"):
            n = 0.5 * n
        elif "embed_tokens" not in name:
            n = n / np.sqrt(shape[-1])
        out[name] = n.astype(np.float32)
    for name in list(out):  # what the published prediction layers share with the model
        if name.startswith("model.layers.") and name.endswith("embed_tokens.weight"):
            out[name] = out["model.embed_tokens.weight"]
        elif name.endswith("shared_head.head.weight"):
            out[name] = out["lm_head.weight"]
    return out


def tokens(case):
    """The prompt and the tokens fed one by one after it."""
    return (np.abs(noise("tokens." + case, (PROMPT + STEPS,)) * 1e6).astype(np.int64)) % VOCAB


def to_bf16(x):
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


E4M3 = np.array(
    [(m / 8 * 2.0**-6 if e == 0 else (1 + m / 8) * 2.0 ** (e - 7)) for e in range(16) for m in range(8)][:127], np.float32
)


def to_e4m3(x):
    """Nearest of the 127 magnitudes; ties to the even code."""
    magnitude = np.minimum(np.abs(x), 448.0)
    high = np.clip(np.searchsorted(E4M3, magnitude), 1, 126)
    low = high - 1
    below, above = magnitude - E4M3[low], E4M3[high] - magnitude
    code = np.where((below < above) | ((below == above) & (low % 2 == 0)), low, high)
    code = np.where(magnitude == 0, 0, code)
    return (code | np.where(np.signbit(x), 0x80, 0)).astype(np.uint8)


def from_e4m3(code):
    return np.where(code & 0x80, -1, 1).astype(np.float32) * E4M3[code & 0x7F]


def spread(scale, shape, block=128):
    """One scale per block to one per element."""
    return np.repeat(np.repeat(scale, block, 0)[: shape[0]], block, 1)[:, : shape[1]]


def quantize_fp8(x, ue8m0, block=128):
    n, k = (-(-d // block) for d in x.shape)
    padded = np.zeros((n * block, k * block), np.float32)
    padded[: x.shape[0], : x.shape[1]] = x
    scale = np.abs(padded.reshape(n, block, k, block)).max(axis=(1, 3)) / np.float32(448)
    if ue8m0:
        scale = np.exp2(np.ceil(np.log2(scale))).astype(np.float32)
    return to_e4m3(x / spread(scale, x.shape)), scale.astype(np.float32)


def quantize_int(x, bits, group):
    """Codes and bf16 scales [n, k / group], rounded up, as `homeport quantize` chooses them."""
    n, groups = x.shape[0], -(-x.shape[1] // group)
    padded = np.zeros((n, groups * group), np.float32)
    padded[:, : x.shape[1]] = x
    padded = padded.reshape(n, groups, group)
    low, high = (-8, 7) if bits == 4 else (-127, 127)
    full = np.maximum(padded.max(2) / high, padded.min(2) / low)
    scale, codes, least = np.zeros_like(full), np.zeros(padded.shape, np.int8), np.full_like(full, np.inf)
    for factor in np.linspace(1, 0.65, 16) if bits == 4 else [1]:
        candidate = from_bf16(to_bf16((full * factor).astype(np.float32)))
        rounded = np.clip(np.rint(padded / np.maximum(candidate, 1e-30)[..., None]), low, high)
        error = ((rounded * candidate[..., None] - padded) ** 2).sum(2)
        better = error < least
        scale, least = np.where(better, candidate, scale), np.where(better, error, least)
        codes = np.where(better[..., None], rounded, codes).astype(np.int8)
    return codes.reshape(n, -1)[:, : x.shape[1]], scale.astype(np.float32)


def int_meaning(codes, scale, group):
    return codes.astype(np.float32) * np.repeat(scale, group, 1)[:, : codes.shape[1]]


# Of compressed-tensors checkpoints: bits, and columns to a scale (0: the whole row).
INT_FORMS = {"int4": (4, 128), "int8": (8, 0)}


def int_entries(name, codes, scale, bits):
    """A matrix as compressed-tensors stores it: nibbles of code + 8, eight to a word, or signed bytes."""
    entries = {name + "_scale": ("BF16", to_bf16(scale))}
    if bits == 8:
        return entries | {name: ("I8", codes)}
    nibbles = (codes.astype(np.int32) + 8).astype(np.uint32).reshape(codes.shape[0], -1, 8)
    packed = (nibbles << (4 * np.arange(8, dtype=np.uint32))).sum(2, dtype=np.uint32)
    return entries | {name + "_packed": ("I32", packed), name + "_shape": ("I64", np.array(codes.shape, np.int64))}


def is_fp8(name, shape):
    """The published recipe: every matrix but embeddings, head, router and eh_proj."""
    kept = ("embed_tokens", "lm_head", "shared_head", "mlp.gate.", "eh_proj")
    return len(shape) == 2 and not any(k in name for k in kept)


def store(case, variant):
    """(safetensors entries: name -> (dtype, array)), (what they mean: name -> float32)"""
    entries, meaning = {}, {}
    for name, x in weights(CASES[case]).items():
        if variant.startswith("fp8") and is_fp8(name, x.shape):
            codes, scale = quantize_fp8(x, variant == "fp8_ue8m0")
            entries[name] = ("F8_E4M3", codes)
            if variant == "fp8_ue8m0":
                exponent = (np.log2(scale) + 127).astype(np.uint8)
                entries[name + "_scale_inv"] = ("F8_E8M0", exponent)
            else:
                entries[name + "_scale_inv"] = ("F32", scale)
            meaning[name] = from_e4m3(codes) * spread(scale, x.shape)
        elif variant in INT_FORMS and is_fp8(name, x.shape):
            bits, group = INT_FORMS[variant]
            codes, scale = quantize_int(x, bits, group or x.shape[1])
            entries |= int_entries(name, codes, scale, bits)
            meaning[name] = int_meaning(codes, scale, group or x.shape[1])
        elif variant == "f32" or "e_score" in name:
            entries[name], meaning[name] = ("F32", x), x
        else:
            bits = to_bf16(x)
            entries[name], meaning[name] = ("BF16", bits), from_bf16(bits)
    return entries, meaning


def config(case, variant):
    c = dict(CASES[case])
    if variant.startswith("fp8"):
        c["quantization_config"] = {
            "activation_scheme": "dynamic",
            "fmt": "e4m3",
            "quant_method": "fp8",
            "weight_block_size": [128, 128],
        }
    if variant in INT_FORMS:
        c["quantization_config"] = {"quant_method": "compressed-tensors"}
    return c


def write_safetensors(path, entries):
    # Widest elements first: every tensor then starts at a multiple of its element size.
    entries = dict(sorted(entries.items(), key=lambda e: (-e[1][1].itemsize, e[0])))
    header, at = {}, 0
    for name, (dtype, x) in entries.items():
        header[name] = {"dtype": dtype, "shape": list(x.shape), "data_offsets": [at, at + x.nbytes]}
        at += x.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, x in entries.values():
            out.write(np.ascontiguousarray(x).tobytes())


def write_checkpoint(folder, case, variant="f32", shards=1):
    """A Hugging Face folder; returns what its weights mean."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    entries, meaning = store(case, variant)
    (folder / "config.json").write_text(json.dumps(config(case, variant), indent=1))
    if shards == 1:
        write_safetensors(folder / "model.safetensors", entries)
        return meaning
    names, index = list(entries), {}
    for s in range(shards):
        file = f"model-{s + 1:05}-of-{shards:05}.safetensors"
        part = {n: entries[n] for n in names[s::shards]}
        write_safetensors(folder / file, part)
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return meaning
