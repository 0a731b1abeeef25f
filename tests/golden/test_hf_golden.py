"""Every architecture against logits of Hugging Face transformers (tests/golden/hf, made by make_hf_goldens.py):
prefill, then 16 decode steps, from safetensors folders and from GGUF, in every weight type."""

import os
import pathlib
import subprocess

import hf_cases
import hf_forward
import hf_gguf
import numpy as np
import pytest

HERE = pathlib.Path(__file__).resolve().parent
TOOL = pathlib.Path(os.environ.get("HOMEPORT_BUILD", HERE.parents[1] / "build" / "dev")) / "logits_tool"
ALL = [(case, variant) for case, variants in hf_cases.VARIANTS.items() for variant in variants]
GGUF = [c for c in hf_cases.VARIANTS if c != "v2"]  # v2 has two different mscales, which GGUF cannot say


def golden(case, variant):
    return np.load(HERE / "hf" / f"{case}.{variant}.npz")["logits"]


def run(model, case, isa="ref", threads=2):
    assert TOOL.exists(), f"{TOOL} is not built: ninja -C build/dev logits_tool"
    line = " ".join(str(t) for t in hf_cases.tokens(case)) + "\n"
    command = [TOOL, model, isa, str(threads), "dump", str(hf_cases.PROMPT)]
    done = subprocess.run(command, input=line.encode(), capture_output=True, timeout=900, check=False)
    if b"is not to be had here" in done.stderr:
        pytest.skip(done.stderr.decode().strip())
    assert done.returncode == 0, done.stderr.decode()
    return np.frombuffer(done.stdout, np.float32).reshape(-1, hf_cases.VOCAB)


def witness(case, meaning):
    model, tokens = hf_forward.Model(hf_cases.CASES[case], meaning), hf_cases.tokens(case)
    rows = [model.forward(tokens[: hf_cases.PROMPT])[-1]]
    rows += [model.forward(tokens[i : i + 1])[-1] for i in range(hf_cases.PROMPT, len(tokens))]
    return np.stack(rows)


def compare(got, want, limit=1e-4):
    assert got.shape == want.shape == (1 + hf_cases.STEPS, hf_cases.VOCAB)
    error = np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)
    assert error.max() <= limit, f"relative error {error.max():.2e} at step {error.argmax()}"
    assert (got.argmax(1) == want.argmax(1)).all()


@pytest.mark.parametrize(("case", "variant"), ALL)
def test_witness_agrees_with_transformers(case, variant):
    compare(witness(case, hf_cases.store(case, variant)[1]), golden(case, variant), 1e-5)


@pytest.mark.parametrize(("case", "variant"), ALL)
def test_folder(case, variant, tmp_path):
    hf_cases.write_checkpoint(tmp_path / "m", case, variant, shards=1 if variant == "f32" else 3)
    compare(run(tmp_path / "m", case), golden(case, variant))


@pytest.mark.parametrize("case", GGUF)
@pytest.mark.parametrize("split", [False, True])
def test_gguf(case, split, tmp_path):
    if split and "kv_lora_rank" not in hf_cases.CASES[case]:
        pytest.skip("no kv_b")
    hf_gguf.write(tmp_path / "m.gguf", hf_cases.CASES[case], hf_cases.store(case, "f32")[1], split_kv_b=split)
    compare(run(tmp_path / "m.gguf", case), golden(case, "f32"))


@pytest.mark.parametrize("case", hf_cases.WITNESS_ONLY)
@pytest.mark.parametrize("variant", ["f32", "bf16"])
def test_folder_and_gguf_against_the_witness(case, variant, tmp_path):
    meaning = hf_cases.write_checkpoint(tmp_path / "m", case, variant)
    want = witness(case, meaning)
    compare(run(tmp_path / "m", case), want)
    hf_gguf.write(tmp_path / "m.gguf", hf_cases.CASES[case], meaning)
    compare(run(tmp_path / "m.gguf", case), want)


def merge(case, meaning):
    """Quantized GGUF tensors of a DeepSeek case back under Hugging Face's names."""
    c, out = hf_cases.CASES[case], {}
    names = {v: k for k, v in hf_gguf.LAYER.items()}
    names |= {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    for name, x in meaning.items():
        if not name.startswith("blk."):
            out[names[name.removesuffix(".weight")] + ".weight"] = x
            continue
        _, layer, stem, ending = name.split(".")
        p = f"model.layers.{layer}."
        if stem.endswith("_exps"):
            for e in range(c["n_routed_experts"]):
                out[f"{p}mlp.experts.{e}.{stem.split('_')[1]}_proj.weight"] = x[e]
        elif stem == "exp_probs_b":
            out[p + "mlp.gate.e_score_correction_bias"] = x
        elif stem == "attn_k_b":
            v = meaning[f"blk.{layer}.attn_v_b.weight"]
            both = np.concatenate([x.swapaxes(1, 2), v], 1)
            out[p + "self_attn.kv_b_proj.weight"] = both.reshape(-1, both.shape[-1])
        elif stem != "attn_v_b":
            out[f"{p}{names[stem]}.{ending}"] = x
    return out


@pytest.mark.parametrize("case", ["v2_lite", "v3"])
@pytest.mark.parametrize("kind", ["f16", "q8_0", "q4_0"])
@pytest.mark.parametrize("split", [False, True])
def test_quantized_gguf_against_its_dequantized_weights(case, kind, split, tmp_path):
    meaning = hf_gguf.write(tmp_path / "m.gguf", hf_cases.CASES[case], hf_cases.store(case, "f32")[1], kind, split)
    compare(run(tmp_path / "m.gguf", case), witness(case, merge(case, meaning)))


@pytest.mark.parametrize("variant", hf_cases.VARIANTS["v3"])
def test_prediction_layer_against_the_witness(variant, tmp_path):
    """No published implementation with logits to compare to: numpy alone, prefilled and decoded."""
    meaning = hf_cases.write_checkpoint(tmp_path / "m", "v3", variant)
    tokens = hf_cases.tokens("v3")
    want = hf_forward.Model(hf_cases.CASES["v3"], meaning).predict(tokens).argmax(1)
    for prefill in (1, hf_cases.PROMPT):
        command = [TOOL, tmp_path / "m", "ref", "2", "predict", str(prefill)]
        line = " ".join(str(t) for t in tokens) + "\n"
        done = subprocess.run(command, input=line, capture_output=True, text=True, timeout=900, check=True)
        got = [int(t) for t in done.stdout.split()]
        assert len(got) == len(tokens) - prefill
        assert got == want[prefill - 1 :].tolist()


@pytest.mark.parametrize("isa", ["avx2", "avx512", "amx"])
@pytest.mark.parametrize("case", hf_cases.VARIANTS)
def test_fast_isas_come_close(isa, case, tmp_path):
    """16-bit KV and operands: not the reference's bits, but its answers."""
    hf_cases.write_checkpoint(tmp_path / "m", case)
    got, want = run(tmp_path / "m", case, isa), golden(case, "f32")
    error = np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)
    assert error.max() <= 0.02, f"relative error {error.max():.2e}"
