"""A forward pass over Hugging Face weights in numpy, written to be read: the witness that needs no torch.

Latent attention is expanded to keys and values per head (the engine works absorbed), experts run one by one. Shares no
code with src/. Formulas: modeling_deepseek.py of DeepSeek-V2 and V3, and the Llama, Qwen2 and Qwen3 papers.
"""

import numpy as np


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def silu(x):
    return x / (1 + np.exp(-x))


def mscale(factor, m):
    return 1.0 if factor <= 1 else 0.1 * m * np.log(factor) + 1


def rope_frequencies(c, dims):
    """(radians per position of each pair, factor on cos and sin)"""
    theta = c.get("rope_theta", 10000.0)
    f = theta ** (-np.arange(0, dims, 2) / dims)
    s = c.get("rope_scaling") or {}
    kind = s.get("rope_type", s.get("type", "default"))
    if kind == "linear":
        return f / s["factor"], 1.0
    if kind == "llama3":
        wave, original = 2 * np.pi / f, s["original_max_position_embeddings"]
        low, high = s["low_freq_factor"], s["high_freq_factor"]
        smooth = np.clip((original / wave - low) / (high - low), 0, 1)
        return (1 - smooth) * f / s["factor"] + smooth * f, 1.0
    if kind == "yarn":
        original = s["original_max_position_embeddings"]

        def pair(turns):
            return dims * np.log(original / (turns * 2 * np.pi)) / (2 * np.log(theta))

        low = max(np.floor(pair(s.get("beta_fast", 32))), 0)
        high = min(np.ceil(pair(s.get("beta_slow", 1))), dims - 1)
        ramp = np.clip((np.arange(dims // 2) - low) / max(high - low, 0.001), 0, 1)
        if "attention_factor" in s:
            magnitude = s["attention_factor"]
        else:
            magnitude = mscale(s["factor"], s.get("mscale", 1)) / mscale(s["factor"], s.get("mscale_all_dim", 0))
        return f / s["factor"] * ramp + f * (1 - ramp), magnitude
    return f, 1.0


def rotate(x, position, frequencies, magnitude, interleaved):  # [tokens, heads, dims]
    angle = (position + np.arange(x.shape[0]))[:, None, None] * frequencies
    cos, sin = np.cos(angle) * magnitude, np.sin(angle) * magnitude
    half = x.shape[-1] // 2
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., :half], x[..., half:])
    pairs = a * cos - b * sin, a * sin + b * cos
    return np.stack(pairs, -1).reshape(x.shape) if interleaved else np.concatenate(pairs, -1)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attend(q, k, v, position, scale):
    """q [t, heads, d], k and v [s, heads, d]; causal."""
    scores = np.einsum("thd,shd->hts", q, k) * scale
    hidden = np.arange(k.shape[0])[None, :] > position + np.arange(q.shape[0])[:, None]
    return np.einsum("hts,shd->thd", softmax(np.where(hidden, -np.inf, scores)), v)


class Model:
    """Keeps keys and values; forward() may be called with any number of tokens at a time."""

    def __init__(self, config, weights):
        self.c = config
        self.w = {n: x.astype(np.float64) for n, x in weights.items()}
        self.cache, self.position = {}, 0
        self.heads = config["num_attention_heads"]
        self.latent = "kv_lora_rank" in config
        self.dim = config.get("head_dim", config["hidden_size"] // self.heads)
        dims = config["qk_rope_head_dim"] if self.latent else self.dim
        self.frequencies, self.magnitude = rope_frequencies(config, dims)

    def linear(self, x, name):
        y = x @ self.w[name + ".weight"].T
        return y + self.w[name + ".bias"] if name + ".bias" in self.w else y

    def turn(self, x):
        return rotate(x, self.position, self.frequencies, self.magnitude, self.latent)

    def remember(self, layer, k, v):
        if layer in self.cache:
            k = np.concatenate([self.cache[layer][0], k])
            v = np.concatenate([self.cache[layer][1], v])
        self.cache[layer] = (k, v)
        return k, v

    def grouped_attention(self, x, p, layer):
        t, kv = x.shape[0], self.c["num_key_value_heads"]
        q = self.linear(x, p + "q_proj").reshape(t, self.heads, self.dim)
        k = self.linear(x, p + "k_proj").reshape(t, kv, self.dim)
        v = self.linear(x, p + "v_proj").reshape(t, kv, self.dim)
        if p + "q_norm.weight" in self.w:
            q = rms_norm(q, self.w[p + "q_norm.weight"], self.c["rms_norm_eps"])
            k = rms_norm(k, self.w[p + "k_norm.weight"], self.c["rms_norm_eps"])
        k, v = self.remember(layer, self.turn(k), v)
        group = self.heads // kv
        k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
        return attend(self.turn(q), k, v, self.position, self.dim**-0.5).reshape(t, -1)

    def latent_attention(self, x, p, layer):
        c, t = self.c, x.shape[0]
        nope, rope, v_dim, rank = (c[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank"))
        if c["q_lora_rank"]:
            low = rms_norm(self.linear(x, p + "q_a_proj"), self.w[p + "q_a_layernorm.weight"], 1e-6)
            q = self.linear(low, p + "q_b_proj")
        else:
            q = self.linear(x, p + "q_proj")
        q = q.reshape(t, self.heads, nope + rope)
        q = np.concatenate([q[..., :nope], self.turn(q[..., nope:])], -1)
        kv = self.linear(x, p + "kv_a_proj_with_mqa")
        latent = rms_norm(kv[:, :rank], self.w[p + "kv_a_layernorm.weight"], 1e-6)
        both = self.linear(latent, p + "kv_b_proj").reshape(t, self.heads, nope + v_dim)
        k_rope = np.repeat(self.turn(kv[:, None, rank:]), self.heads, 1)
        k, v = self.remember(layer, np.concatenate([both[..., :nope], k_rope], -1), both[..., nope:])
        scaling = c.get("rope_scaling") or {}
        scale = (nope + rope) ** -0.5 * mscale(scaling.get("factor", 1), scaling.get("mscale_all_dim", 0)) ** 2
        return attend(q, k, v, self.position, scale).reshape(t, -1)

    def gated(self, x, p):
        return self.linear(silu(self.linear(x, p + "gate_proj")) * self.linear(x, p + "up_proj"), p + "down_proj")

    def route(self, logits, bias):
        """Experts and weights of one token."""
        c = self.c
        sigmoid = c["scoring_func"] == "sigmoid"
        scores = 1 / (1 + np.exp(-logits)) if sigmoid else softmax(logits)
        choice = scores + bias
        if c["topk_method"] != "greedy":
            groups = choice.reshape(c["n_group"], -1)
            best = np.sort(groups, 1)[:, -2:].sum(1) if c["topk_method"] == "noaux_tc" else groups.max(1)
            keep = np.argsort(-best, kind="stable")[: c["topk_group"]]
            mask = np.full_like(groups, -np.inf)
            mask[keep] = 0
            choice = choice + mask.reshape(-1)
        chosen = np.argsort(-choice, kind="stable")[: c["num_experts_per_tok"]]
        weights = scores[chosen]
        if c["norm_topk_prob"]:
            weights = weights / (weights.sum() + 1e-20)
        return chosen, weights * c["routed_scaling_factor"]

    def experts(self, x, p):
        out = self.gated(x, p + "shared_experts.")
        logits = x @ self.w[p + "gate.weight"].T
        bias = self.w.get(p + "gate.e_score_correction_bias", 0.0)
        for t in range(x.shape[0]):
            for e, weight in zip(*self.route(logits[t], bias), strict=True):
                out[t] += weight * self.gated(x[t], f"{p}experts.{e}.")
        return out

    def layer(self, x, i):
        p, eps = f"model.layers.{i}.", self.c["rms_norm_eps"]
        h = rms_norm(x, self.w[p + "input_layernorm.weight"], eps)
        attention = self.latent_attention if self.latent else self.grouped_attention
        x = x + self.linear(attention(h, p + "self_attn.", i), p + "self_attn.o_proj")
        h = rms_norm(x, self.w[p + "post_attention_layernorm.weight"], eps)
        return x + (self.experts if p + "mlp.gate.weight" in self.w else self.gated)(h, p + "mlp.")

    def predict(self, tokens):
        """What the next-token-prediction layer of V3 (arXiv 2412.19437, section 2.2) says after each pair of tokens
        (i, i + 1) about token i + 2: logits [tokens - 1, vocab]. Its hidden states are the model's after the last norm."""
        p, eps = f"model.layers.{self.c['num_hidden_layers']}.", self.c["rms_norm_eps"]
        x = self.w["model.embed_tokens.weight"][tokens[:-1]]
        for i in range(self.c["num_hidden_layers"]):
            x = self.layer(x, i)
        hidden = rms_norm(rms_norm(x, self.w["model.norm.weight"], eps), self.w[p + "hnorm.weight"], eps)
        following = rms_norm(self.w["model.embed_tokens.weight"][tokens[1:]], self.w[p + "enorm.weight"], eps)
        x = self.layer(self.linear(np.concatenate([following, hidden], -1), p + "eh_proj"), self.c["num_hidden_layers"])
        return rms_norm(x, self.w[p + "shared_head.norm.weight"], eps) @ self.w[p + "shared_head.head.weight"].T

    def forward(self, tokens):
        """Logits [tokens, vocab]."""
        x = self.w["model.embed_tokens.weight"][tokens]
        for i in range(self.c["num_hidden_layers"]):
            x = self.layer(x, i)
        self.position += len(tokens)
        head = self.w.get("lm_head.weight", self.w["model.embed_tokens.weight"])
        return rms_norm(x, self.w["model.norm.weight"], self.c["rms_norm_eps"]) @ head.T
