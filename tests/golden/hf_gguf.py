"""The tiny Hugging Face checkpoints of hf_cases.py as GGUF files, cut and permuted as llama.cpp's converter does."""

import struct

import numpy as np

U32, F32, BOOL, STRING = 4, 6, 7, 8
TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8, "bf16": 30}


def text(s):
    return struct.pack("<Q", len(s)) + s.encode()


def pair(key, kind, value):
    packed = text(value) if kind == STRING else struct.pack({U32: "<I", F32: "<f", BOOL: "<?"}[kind], value)
    return text(key) + struct.pack("<I", kind) + packed


def q8_0(x):
    """(file bytes, meaning)"""
    groups = x.reshape(-1, 32)
    d = (np.abs(groups).max(1) / 127).astype(np.float16)
    safe = np.where(d == 0, 1, d).astype(np.float32)
    q = np.clip(np.rint(groups / safe[:, None]), -127, 127).astype(np.int8)
    raw = np.concatenate([d[:, None].view(np.uint8), q.view(np.uint8)], 1)
    return raw.tobytes(), (d.astype(np.float32)[:, None] * q).reshape(x.shape)


def q4_0(x):
    groups = x.reshape(-1, 32)
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(1)[:, None], 1)[:, 0]
    d = (extreme / -8).astype(np.float16)
    safe = np.where(d == 0, 1, d).astype(np.float32)
    q = np.clip(np.rint(groups / safe[:, None]) + 8, 0, 15).astype(np.uint8)
    raw = np.concatenate([d[:, None].view(np.uint8), q[:, :16] | (q[:, 16:] << 4)], 1)
    return raw.tobytes(), (d.astype(np.float32)[:, None] * (q.astype(np.float32) - 8)).reshape(x.shape)


def encode(kind, x):
    if kind == "f32":
        return x.astype(np.float32).tobytes(), x
    if kind == "f16":
        half = x.astype(np.float16)
        return half.tobytes(), half.astype(np.float32)
    return {"q8_0": q8_0, "q4_0": q4_0}[kind](x)


def interleave(x, heads):
    """Rows of a head from (0, d/2), (1, d/2 + 1), … to (0, 1), (2, 3), …"""
    return x.reshape(heads, 2, -1, x.shape[-1]).swapaxes(1, 2).reshape(x.shape)


LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": "attn_kv_b",
    "mlp.gate": "ffn_gate_inp",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
}


def tensors(c, weights, split_kv_b):
    """GGUF name to (values, matrix?). Prediction layers are dropped, as converters do."""
    out = {}
    for name, x in weights.items():
        if not name.startswith("model.layers."):
            known = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
            out[known[name.removesuffix(".weight")] + ".weight"] = x
            continue
        layer, rest = name.removeprefix("model.layers.").split(".", 1)
        if int(layer) >= c["num_hidden_layers"] or "experts." in rest.replace("shared_experts.", ""):
            continue
        if rest == "mlp.gate.e_score_correction_bias":
            out[f"blk.{layer}.exp_probs_b.bias"] = x
            continue
        stem, ending = rest.rsplit(".", 1)
        if c["model_type"] in ("llama", "deepseek") and stem[-6:] in ("q_proj", "k_proj"):
            x = interleave(x, c["num_attention_heads" if stem[-6] == "q" else "num_key_value_heads"])
        if stem == "self_attn.kv_b_proj" and split_kv_b:
            heads, nope = c["num_attention_heads"], c["qk_nope_head_dim"]
            both = x.reshape(heads, nope + c["v_head_dim"], -1)
            out[f"blk.{layer}.attn_k_b.weight"] = both[:, :nope].swapaxes(1, 2)
            out[f"blk.{layer}.attn_v_b.weight"] = both[:, nope:]
        else:
            out[f"blk.{layer}.{LAYER[stem]}.{ending}"] = x
    for i in range(c.get("first_k_dense_replace", 1 << 30), c["num_hidden_layers"]):
        for part in ("gate", "up", "down"):
            stack = [weights[f"model.layers.{i}.mlp.experts.{e}.{part}_proj.weight"] for e in range(c["n_routed_experts"])]
            out[f"blk.{i}.ffn_{part}_exps.weight"] = np.stack(stack)
    return out


def metadata(c, split_kv_b):
    arch = "deepseek2" if "kv_lora_rank" in c else c["model_type"]
    m = [pair("general.architecture", STRING, arch)]

    def put(key, kind, value):
        m.append(pair(f"{arch}.{key}", kind, value))

    put("block_count", U32, c["num_hidden_layers"])
    put("embedding_length", U32, c["hidden_size"])
    put("feed_forward_length", U32, c["intermediate_size"])
    put("context_length", U32, c["max_position_embeddings"])
    put("attention.head_count", U32, c["num_attention_heads"])
    put("attention.head_count_kv", U32, 1 if split_kv_b else c["num_key_value_heads"])
    put("attention.layer_norm_rms_epsilon", F32, c["rms_norm_eps"])
    put("rope.freq_base", F32, c.get("rope_theta", 10000.0))
    if "head_dim" in c:
        put("attention.key_length", U32, c["head_dim"])
        put("attention.value_length", U32, c["head_dim"])
    s = c.get("rope_scaling") or {}
    kind = s.get("rope_type", s.get("type"))
    if kind:
        put("rope.scaling.type", STRING, kind)
        put("rope.scaling.factor", F32, s["factor"])
        put("rope.scaling.original_context_length", U32, s.get("original_max_position_embeddings", 0))
        for key in ("low_freq_factor", "high_freq_factor"):
            if key in s:
                put("rope.scaling." + key, F32, s[key])
        if "attention_factor" in s:
            put("rope.scaling.attn_factor", F32, s["attention_factor"] / (0.1 * np.log(s["factor"]) + 1))
        if "mscale_all_dim" in s:
            put("rope.scaling.yarn_log_multiplier", F32, 0.1 * s["mscale_all_dim"])
    if arch == "deepseek2":
        rank, rope = c["kv_lora_rank"], c["qk_rope_head_dim"]
        if c["q_lora_rank"]:
            put("attention.q_lora_rank", U32, c["q_lora_rank"])
        put("attention.kv_lora_rank", U32, rank)
        put("rope.dimension_count", U32, rope)
        keys = ("attention.key_length", "attention.value_length")
        if split_kv_b:
            put(keys[0], U32, rank + rope)
            put(keys[1], U32, rank)
            keys = tuple(k + "_mla" for k in keys)
        put(keys[0], U32, c["qk_nope_head_dim"] + rope)
        put(keys[1], U32, c["v_head_dim"])
    if "n_routed_experts" in c:
        put("expert_count", U32, c["n_routed_experts"])
        put("expert_used_count", U32, c["num_experts_per_tok"])
        put("expert_shared_count", U32, c["n_shared_experts"])
        put("expert_feed_forward_length", U32, c["moe_intermediate_size"])
        put("leading_dense_block_count", U32, c["first_k_dense_replace"])
        put("expert_weights_scale", F32, c["routed_scaling_factor"])
        put("expert_weights_norm", BOOL, c["norm_topk_prob"])
        put("expert_gating_func", U32, 2 if c["scoring_func"] == "sigmoid" else 1)
        if c["n_group"] > 1:
            put("expert_group_count", U32, c["n_group"])
            put("expert_group_used_count", U32, c["topk_group"])
    return m


def write(path, c, weights, kind="f32", split_kv_b=False):
    """Writes the file; returns what the weights mean, in Hugging Face's names and layout when nothing was requantized."""
    meta, table, data, meaning = metadata(c, split_kv_b), b"", b"", {}
    for name, x in tensors(c, weights, split_kv_b).items():
        plain = x.ndim == 1 or "ffn_gate_inp" in name or x.shape[-1] % 32
        raw, meaning[name] = encode("f32" if plain else kind, np.ascontiguousarray(x))
        table += text(name) + struct.pack("<I", x.ndim) + struct.pack(f"<{x.ndim}Q", *x.shape[::-1])
        table += struct.pack("<IQ", TYPES["f32" if plain else kind], len(data))
        data += raw + b"\0" * (-len(raw) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(meaning), len(meta)) + b"".join(meta) + table
    path.write_bytes(head + b"\0" * (-len(head) % 32) + data)
    return meaning
