#!/usr/bin/env python3
"""Goldens of every architecture in sizes that a GPU takes, through the program's own loading: prefill, then decode.

usage: gpu_goldens.py [--device cuda|cpu] [--tool build/gpu/logits_tool]
Needs numpy and nothing else: the reference is hf_forward.py, which test_hf_golden.py holds to transformers' logits within
1e-5 for each of these architectures. `--device cpu` runs the same path on the CPU (float32) as a check of this script.

Tolerances. The error of a row of logits is ‖got − want‖ / ‖want‖. What a device's arithmetic may cost is what the same
roundings cost in numpy (class Rounded), on the same weights and tokens:
  bf16   the operand and the outcome of every product rounded to bf16 (outcomes that go to the residual stream are not);
  fp8    operands of the layers' products in e4m3 with one scale per row; bf16 weights in e4m3 with 128 × 128 blocks;
  int8, int4   products as in bf16; weights as the checkpoint stores them, others rounded in groups of 128.
The device rounds at other places too (queries, keys, probabilities, parts of K), each at most as much as these: the median
of the rows' errors may be twice Rounded's, the largest three times Rounded's. Rounded's own errors: bf16 0.004 to 0.009,
fp8 0.05 to 0.12 (two layers of random weights, which forgive less than trained ones).
A row whose router has a near tie (some change of its logits by three times what Rounded changes them takes another expert)
counts for the median alone: it is far off when the choice falls otherwise. In bf16 at least half of the rows must be steady;
in fp8 few are.
Tokens: where the two largest logits of the reference are further apart than the allowed error could close, the argmax must
be the reference's.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import hf_cases
import hf_forward
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
# What the GPU's products take: more than three steps of K (64 bf16, 128 fp8); latent attention of 16 heads.
WIDE = {"hidden_size": 512, "intermediate_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2}
LATENT = {k: hf_cases.CASES["v3_wide"][k] for k in ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")} | {
    "hidden_size": 512,
    "intermediate_size": 512,
    "moe_intermediate_size": 512,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
}
CASES = {
    "llama": hf_cases.CASES["llama"] | WIDE,
    "llama3": hf_cases.CASES["llama3"] | WIDE,
    "qwen2": hf_cases.CASES["qwen2"] | WIDE,
    "qwen3": hf_cases.CASES["qwen3"] | WIDE | {"head_dim": 128},
    "v2_lite": hf_cases.CASES["v2_lite"] | LATENT,
    "v3": hf_cases.CASES["v3_wide"] | LATENT | {"q_lora_rank": 512},
}


def runs():
    """(case, how the checkpoint stores weights, what they become on the device)"""
    for case in CASES:
        yield case, "bf16", "bf16"
        yield case, "bf16", "fp8"
    for case, stored in (("llama", "int4"), ("llama", "int8"), ("v2_lite", "int4"), ("v3", "int8")):
        yield case, stored, stored
    yield "llama", "int4", "int8"
    yield "llama", "bf16", "int4"
    yield "v2_lite", "bf16", "int4"
    yield "v3", "bf16", "int8"
    for stored in ("fp8", "fp8_ue8m0"):
        yield "v3", stored, "bf16"
        yield "v3", stored, "fp8"


def to_bf16(x):
    return hf_cases.from_bf16(hf_cases.to_bf16(x)).astype(np.float64)


class Watched(hf_forward.Model):
    """Remembers what the routers saw of the last token."""

    def forward(self, tokens):
        self.seen = []
        logits = super().forward(tokens)
        self.seen = self.seen[len(tokens) - 1 :: len(tokens)]
        return logits

    def route(self, logits, bias):
        self.seen.append((logits, bias))
        return super().route(logits, bias)

    def steady(self, other):
        """Whether every router takes the same experts as far from its logits as three times where `other`'s are."""
        rng = np.random.default_rng(7)
        for (logits, bias), (rounded, _) in zip(self.seen, other.seen, strict=True):
            reach = 3 * np.abs(rounded - logits).max()
            want = set(super().route(logits, bias)[0].tolist())
            for sign in rng.choice([-1, 1], (32, len(logits))):
                if set(super().route(logits + reach * sign, bias)[0].tolist()) != want:
                    return False
        return True


class Rounded(Watched):
    """The reference with the roundings of a device whose products are of this form."""

    def __init__(self, config, weights, form):
        if form != "bf16":
            weights = {n: self.quantized(x, form) if hf_cases.is_fp8(n, x.shape) and "kv_b" not in n else x for n, x in weights.items()}
        super().__init__(config, weights)
        self.fp8 = form == "fp8"

    @staticmethod
    def quantized(x, form):
        if form == "fp8":
            codes, scale = hf_cases.quantize_fp8(x, ue8m0=False)
            return hf_cases.from_e4m3(codes) * hf_cases.spread(scale, x.shape)
        return hf_cases.int_meaning(*hf_cases.quantize_int(x, int(form[3:]), 128), 128)

    def linear(self, x, name):
        x = to_bf16(x)
        if self.fp8 and "kv_b" not in name:
            scale = np.maximum(np.abs(x).max(-1, keepdims=True), 1e-30) / 448
            x = hf_cases.from_e4m3(hf_cases.to_e4m3((x / scale).astype(np.float32))) * scale
        y = super().linear(x, name)
        return y if name.endswith(("o_proj", "down_proj")) else to_bf16(y)


def rows_of(model, rounded, tokens):
    """Prefill, then the rest one by one: the logits of both after each step, and whether it is steady."""
    cuts = [slice(0, hf_cases.PROMPT)] + [slice(i, i + 1) for i in range(hf_cases.PROMPT, len(tokens))]
    rows = [(model.forward(tokens[cut])[-1], rounded.forward(tokens[cut])[-1], model.steady(rounded)) for cut in cuts]
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


def errors(got, want):
    return np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)


def compare(got, want, steady, median, largest):
    """What is wrong, or nothing; and the rows' errors in words."""
    if got.shape != want.shape:
        return f"{got.shape} logits, expected {want.shape}", ""
    if not np.isfinite(got).all():
        return "logits that are not numbers", ""
    error = errors(got, want)
    words = f"errors {np.median(error):.5f} (at most {median:.5f}), largest {error.max(where=steady, initial=0):.5f} (at most {largest:.5f})"
    words += f" of {steady.sum()} steady rows" if not steady.all() else ""
    top = np.sort(want, axis=1)
    clear = steady & (top[:, -1] - top[:, -2] > 2 * largest * np.linalg.norm(want, axis=1))
    wrong = np.flatnonzero(clear & (got.argmax(1) != want.argmax(1)))
    if np.median(error) > median or error.max(where=steady, initial=0) > largest:
        return f"{words}, the largest at step {np.where(steady, error, 0).argmax()}", words
    return (f"other tokens at steps {wrong.tolist()}" if len(wrong) else ""), words


def logits_of(tool, model, device, weights, tokens):
    kernels = [f"cuda:{weights}", "1"] if device == "cuda" else ["ref", "2"]
    line = " ".join(str(t) for t in tokens) + "\n"
    command = [str(tool), str(model), *kernels, "dump", str(hf_cases.PROMPT)]
    done = subprocess.run(command, input=line.encode(), capture_output=True, timeout=120, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}")
    return np.frombuffer(done.stdout, np.float32).reshape(-1, hf_cases.VOCAB)


def main(argv=None):
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    options.add_argument("--tool", type=pathlib.Path, default=HERE.parents[1] / "build" / "gpu" / "logits_tool")
    options.add_argument("--weights", default="bf16,fp8,int8,int4", help="what they become on the device, by commas")
    options = options.parse_args(argv)
    hf_cases.CASES.update(CASES)
    passed = failed = 0
    for case, stored, weights in runs():
        exact = weights == stored or stored == "int4"  # of whole numbers: the checkpoint's own
        if weights not in options.weights.split(","):
            continue
        if options.device == "cpu" and (weights == "fp8" or weights.startswith("int") and weights != stored):
            continue  # the CPU keeps weights as they are stored
        with tempfile.TemporaryDirectory() as folder:
            meaning, tokens = hf_cases.write_checkpoint(folder, case, stored), hf_cases.tokens(case)
            rounded = Rounded(CASES[case], meaning, "bf16" if exact and weights.startswith("int") else weights)
            want, near, steady = rows_of(Watched(CASES[case], meaning), rounded, tokens)
            median = largest = 1e-4
            if options.device == "cuda":
                cost = errors(near, want)
                median, largest = 2 * np.median(cost), 3 * cost.max(where=steady, initial=0)
            try:
                got = logits_of(options.tool, folder, options.device, weights, tokens)
                wrong, words = compare(got, want, steady, median, largest)
                if weights == "bf16" and 2 * steady.sum() < len(steady):
                    wrong = f"only {steady.sum()} of {len(steady)} rows are steady: {words}"
            except (RuntimeError, subprocess.TimeoutExpired) as e:
                wrong, words = str(e), ""
        failed, passed = failed + bool(wrong), passed + (not wrong)
        print(f"{case} {stored} -> {weights}: {'FAILED: ' + wrong if wrong else words}", flush=True)
    print(f"goldens on {options.device}: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
