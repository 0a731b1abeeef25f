"""homeport quantize on the tiny V3: names, types and bytes of the output by an independent reader, its meaning against the
numpy forward pass, runs that are cut off, and what it refuses."""

import json
import os
import pathlib
import resource
import shutil
import signal
import struct
import subprocess
import time

import hf_cases
import hf_forward
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HOMEPORT_BUILD", ROOT / "build" / "dev"))
CASE = "v3"
NUMPY = {"F32": np.float32, "BF16": np.uint16, "F8_E4M3": np.uint8, "I8": np.int8, "I32": np.uint32, "I64": np.int64}


def read_folder(folder):
    """name -> (dtype, array) of every file; offsets must be aligned to their element."""
    out = {}
    for path in sorted(folder.glob("*.safetensors")):
        raw = path.read_bytes()
        (size,) = struct.unpack("<Q", raw[:8])
        for name, t in json.loads(raw[8 : 8 + size]).items():
            if name == "__metadata__":
                continue
            begin, end = t["data_offsets"]
            dtype = np.dtype(NUMPY[t["dtype"]])
            assert begin % dtype.itemsize == 0 and size % 8 == 0
            out[name] = t["dtype"], np.frombuffer(raw[8 + size + begin : 8 + size + end], dtype).reshape(t["shape"])
    return out


def meaning(stored):
    """Weights in float32 under their plain names, by the published definitions."""
    out = {}
    for name, (dtype, x) in stored.items():
        if name.endswith(".weight_packed"):
            weight = name.removesuffix("_packed")
            shape = tuple(stored[weight + "_shape"][1])
            q = (x[:, :, None] >> (4 * np.arange(8, dtype=np.uint32)) & 15).reshape(shape).astype(np.float32) - 8
            scale = hf_cases.from_bf16(stored[weight + "_scale"][1])
            out[weight] = q * np.repeat(scale, shape[1] // scale.shape[1], 1)
        elif dtype == "F8_E4M3":
            scale = stored[name + ("_scale_inv" if name + "_scale_inv" in stored else "_scale")][1]
            out[name] = hf_cases.from_e4m3(x) * hf_cases.spread(scale, x.shape)
        elif dtype == "I8":
            out[name] = x.astype(np.float32) * stored[name + "_scale"][1]
        elif not name.endswith(("_scale", "_scale_inv", "_shape")):
            out[name] = hf_cases.from_bf16(x) if dtype == "BF16" else x.astype(np.float32)
    return out


def quantize(source, output, *flags, ok=True):
    command = [BUILD / "homeport", "quantize", source, output, "--json", *flags]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=900, check=False)
    assert (done.returncode == 0) == ok, done.stderr
    return json.loads(done.stdout) if ok else done.stderr


def agree(folder, case, weights):
    """The engine's logits of the folder are the numpy model's of what its weights mean."""
    line = " ".join(str(t) for t in hf_cases.tokens(case)) + "\n"
    model, tokens = hf_forward.Model(hf_cases.CASES[case], weights), hf_cases.tokens(case)
    want = [model.forward(tokens[: hf_cases.PROMPT])[-1]]
    want += [model.forward(tokens[i : i + 1])[-1] for i in range(hf_cases.PROMPT, len(tokens))]
    command = [BUILD / "logits_tool", folder, "ref", "2", "dump", hf_cases.PROMPT]
    done = subprocess.run([str(c) for c in command], input=line.encode(), capture_output=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr.decode()
    got = np.frombuffer(done.stdout, np.float32).reshape(-1, hf_cases.VOCAB)
    error = np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)
    assert error.max() <= 1e-4
    assert (got.argmax(1) == np.argmax(want, 1)).all()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantize") / "bf16"
    hf_cases.write_checkpoint(folder, CASE, "bf16", shards=2)
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


@pytest.mark.parametrize("recipe", ["fp8", "int8", "int4", "mixed"])
def test_output_means_what_the_engine_reads(source, tmp_path, recipe):
    report = quantize(source, tmp_path / "q", "--to", recipe, "--shard-mb", "1")
    stored = read_folder(tmp_path / "q")
    weights = meaning(stored)
    assert set(weights) == set(read_folder(source))
    assert report["bytes_after"] == sum(x.nbytes for _, x in stored.values())
    if recipe == "mixed":  # what it promises, down to a tiny model's embeddings
        assert report["bytes_after"] <= 0.4 * report["bytes_before"]
    original = meaning(read_folder(source))
    for entry in report["classes"]:
        bound = {"unchanged": 0, "fp8": 0.03, "int8": 0.01, "int4": 0.08}[entry["storage"]]
        assert entry["relative_error"] <= bound
    for name, w in original.items():
        assert np.linalg.norm(weights[name] - w) <= 0.08 * np.linalg.norm(w), name
    agree(tmp_path / "q", CASE, weights)


@pytest.mark.parametrize("recipe", ["fp8", "int4"])
@pytest.mark.parametrize("case", [c for c in hf_cases.CASES if c != CASE])
def test_every_architecture(case, recipe, tmp_path):
    hf_cases.write_checkpoint(tmp_path / "bf16", case, "bf16")
    quantize(tmp_path / "bf16", tmp_path / "q", "--to", recipe)
    agree(tmp_path / "q", case, meaning(read_folder(tmp_path / "q")))


@pytest.mark.parametrize("recipe", ["fp8", "int8", "int4", "mixed"])
@pytest.mark.parametrize("case", ["llama", "qwen2", "qwen3", "v2_lite", "v3"])
def test_calibration_brings_the_outputs_nearer(case, recipe, tmp_path):
    """On a text of its own kind that it has not seen; every matrix that tokens meet has been rounded by it."""
    original = hf_cases.write_checkpoint(tmp_path / "bf16", case, "bf16")
    rng = np.random.default_rng(1)
    (tmp_path / "tokens").write_text(" ".join(str(t) for t in rng.integers(0, hf_cases.VOCAB, 2048)))
    other = rng.integers(0, hf_cases.VOCAB, 512)
    flags = ["--to", recipe, "--embeddings", "keep", "--threads", "1"]
    plain = quantize(tmp_path / "bf16", tmp_path / "plain", *flags)
    assert plain["tensors_calibrated"] == 0
    report = quantize(tmp_path / "bf16", tmp_path / "fed", *flags, "--calibrate-tokens", tmp_path / "tokens")
    assert report["tensors_calibrated"] == sum(c["tensors"] for c in report["classes"] if c["storage"] != "unchanged") > 10
    assert report["bytes_after"] == plain["bytes_after"]
    assert {n: (d, x.shape) for n, (d, x) in read_folder(tmp_path / "fed").items()} == {
        n: (d, x.shape) for n, (d, x) in read_folder(tmp_path / "plain").items()}
    want = hf_forward.Model(hf_cases.CASES[case], original).forward(other)
    # By the token in the middle: one whose choice of experts was a near tie may flip either way, and is far off then.
    errors = [np.median(np.linalg.norm(hf_forward.Model(hf_cases.CASES[case], meaning(read_folder(tmp_path / name))).forward(other) - want, axis=1))
              for name in ("plain", "fed")]
    assert errors[1] < 0.85 * errors[0], errors


@pytest.mark.parametrize("tied", [True, False])
def test_calibration_rounds_the_head_too(tied, tmp_path, monkeypatch):
    monkeypatch.setitem(hf_cases.CASES, "small", hf_cases.CASES["llama"] | {"tie_word_embeddings": tied})
    hf_cases.write_checkpoint(tmp_path / "bf16", "small", "bf16")
    (tmp_path / "tokens").write_text(" ".join(str(t) for t in np.random.default_rng(1).integers(0, hf_cases.VOCAB, 600)))
    report = quantize(tmp_path / "bf16", tmp_path / "q", "--embeddings", "fp8", "--threads", "1", "--calibrate-tokens",
                      tmp_path / "tokens")
    quantized = sum(c["tensors"] for c in report["classes"] if c["storage"] != "unchanged")
    assert report["tensors_calibrated"] == (quantized if tied else quantized - 1), "an embedding alone is rounded to nearest"


def test_fp8_has_deepseeks_layout(source, tmp_path):
    quantize(source, tmp_path / "q", "--embeddings", "keep")
    hf_cases.write_checkpoint(tmp_path / "theirs", CASE, "fp8")
    ours, theirs = read_folder(tmp_path / "q"), read_folder(tmp_path / "theirs")
    described = [{n: (d, x.shape) for n, (d, x) in m.items() if d == "F8_E4M3" or n.endswith("_scale_inv")} for m in (ours, theirs)]
    assert described[0] == described[1]
    config = json.loads((tmp_path / "q" / "config.json").read_text())
    assert config["quantization_config"] == {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    }
    assert (tmp_path / "q" / "tokenizer_config.json").exists()


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(tmp_path, monkeypatch):
    big = hf_cases.CASES["llama"] | {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 5}
    monkeypatch.setitem(hf_cases.CASES, "big", big)
    hf_cases.write_checkpoint(tmp_path / "big", "big", "bf16")
    flags = ["--to", "int4", "--shard-mb", "1", "--threads", "1"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert quantize(tmp_path / "big", whole, *flags)["files_resumed"] == 0
    command = [str(c) for c in (BUILD / "homeport", "quantize", tmp_path / "big", cut, *flags)]
    for _ in range(20):  # on a busy machine a run may be through before it is killed: that one is no test
        shutil.rmtree(cut, ignore_errors=True)
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not list(cut.glob("model-00003-of-*.safetensors")) and running.poll() is None:
            time.sleep(0.001)
        running.kill()
        if running.wait() == -signal.SIGKILL:
            break
    else:
        raise AssertionError("20 runs were through before they could be killed")
    assert "other options" in quantize(tmp_path / "big", cut, "--to", "int8", "--shard-mb", "1", ok=False)
    assert quantize(tmp_path / "big", cut, *flags)["files_resumed"] >= 2
    assert sorted(p.name for p in whole.iterdir()) == sorted(p.name for p in cut.iterdir())
    for path in whole.iterdir():
        assert (cut / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_run_killed_while_it_calibrates_ends_in_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setitem(hf_cases.CASES, "wide", hf_cases.CASES[CASE] | {"intermediate_size": 1280})  # two blocks of columns
    hf_cases.write_checkpoint(tmp_path / "bf16", "wide", "bf16")
    (tmp_path / "tokens").write_text(" ".join(str(t) for t in np.random.default_rng(1).integers(0, hf_cases.VOCAB, 700)))
    flags = ["--to", "mixed", "--calibrate-tokens", tmp_path / "tokens", "--threads", "1"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    quantize(tmp_path / "bf16", whole, *flags)
    command = [str(c) for c in (BUILD / "homeport", "quantize", tmp_path / "bf16", cut, *flags)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not list(cut.glob("homeport-calibrated/model.layers.1.*.weight")):
        assert running.poll() is None, "it was through before it could be killed"
        time.sleep(0.001)
    running.kill()
    running.wait()
    (tmp_path / "tokens").write_text("1 2 3")
    assert "other options" in quantize(tmp_path / "bf16", cut, *flags, ok=False)
    (tmp_path / "tokens").write_text(" ".join(str(t) for t in np.random.default_rng(1).integers(0, hf_cases.VOCAB, 700)))
    quantize(tmp_path / "bf16", cut, *flags)
    assert sorted(p.name for p in whole.iterdir()) == sorted(p.name for p in cut.iterdir())
    for path in whole.iterdir():
        assert (cut / path.name).read_bytes() == path.read_bytes(), path.name


def test_memory_is_a_few_stripes_whatever_the_size(tmp_path, monkeypatch):
    """A tensor alone is larger than what the process may hold."""
    big = hf_cases.CASES["llama"] | {"hidden_size": 1024, "intermediate_size": 49152, "num_hidden_layers": 1}
    monkeypatch.setitem(hf_cases.CASES, "big", big)
    monkeypatch.setattr(hf_cases, "noise", lambda name, shape: np.resize(np.sin(np.arange(4099.0)), shape))
    hf_cases.write_checkpoint(tmp_path / "big", "big", "bf16")
    limit = 90 << 20
    assert 49152 * 1024 * 2 > limit
    command = [str(c) for c in (BUILD / "homeport", "quantize", tmp_path / "big", tmp_path / "q", "--to", "int4", "--threads", "2")]
    bound = lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))  # noqa: E731
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, preexec_fn=bound)
    assert done.returncode == 0, done.stderr


def test_calibration_holds_less_than_a_layer(tmp_path, monkeypatch):
    """The experts of one layer alone, as they lie in the file, are larger than what the process may hold."""
    experts = {"hidden_size": 256, "intermediate_size": 256, "n_routed_experts": 400, "moe_intermediate_size": 256,
               "num_hidden_layers": 1, "first_k_dense_replace": 0, "num_nextn_predict_layers": 0}
    monkeypatch.setitem(hf_cases.CASES, "big", hf_cases.CASES[CASE] | experts)
    monkeypatch.setattr(hf_cases, "noise", lambda name, shape: np.resize(np.sin(np.arange(4099.0 + len(name))), shape))
    hf_cases.write_checkpoint(tmp_path / "big", "big", "bf16")
    (tmp_path / "tokens").write_text(" ".join(str(t) for t in np.random.default_rng(1).integers(0, hf_cases.VOCAB, 300)))
    limit = 120 << 20
    assert 400 * 3 * 256 * 256 * 2 > limit
    command = [BUILD / "homeport", "quantize", tmp_path / "big", tmp_path / "q", "--threads", "1"]
    command += ["--calibrate-tokens", tmp_path / "tokens"]
    bound = lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))  # noqa: E731
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=600, check=False, preexec_fn=bound)
    assert done.returncode == 0, done.stderr


def test_refusals(source, tmp_path):
    before = {p.name: p.read_bytes() for p in source.iterdir()}
    assert "input folder" in quantize(source, source, ok=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    assert "not empty" in quantize(source, tmp_path / "full", ok=False)
    assert "expected 32, 64 or 128" in quantize(source, tmp_path / "g", "--to", "int4", "--group", "48", ok=False)
    assert "fp8, int8, int4 or mixed" in quantize(source, tmp_path / "g", "--to", "int3", ok=False)
    assert "config.json" in quantize(tmp_path, tmp_path / "g", ok=False)
    quantize(source, tmp_path / "q")
    assert "quantized already" in quantize(tmp_path / "q", tmp_path / "again", ok=False)
    assert before == {p.name: p.read_bytes() for p in source.iterdir()}


def test_report_measures_against_the_original(source, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text(" ".join(str(t) for t in hf_cases.tokens(CASE)))
    quality = quantize(source, tmp_path / "q", "--to", "int8", "--tokens", tokens)["quality"]
    assert quality["tokens"] == hf_cases.PROMPT + hf_cases.STEPS - 1
    assert quality["perplexity_after"] == pytest.approx(quality["perplexity_before"], rel=0.02)
    assert quality["top1_agreement"] > 0.9
    tokens.write_text("1 2 999999")
    assert "vocabulary" in quantize(source, tmp_path / "q2", "--tokens", tokens, ok=False)
