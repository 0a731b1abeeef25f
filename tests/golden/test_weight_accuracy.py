"""Perplexity of the default model with its weights in every type, against float32 arithmetic on the same dequantized
weights: rounding activations to few bits must not cost more than 0.2 %."""

import math
import os
import pathlib
import re
import subprocess

import pytest
from reference_forward import Gguf
from requantize import requantize

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = pathlib.Path(os.environ.get("HOMEPORT_BUILD", ROOT / "build" / "dev")) / "logits_tool"
MODEL = pathlib.Path.home() / ".homeport" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
WINDOW, WINDOWS = 128, int(os.environ.get("HOMEPORT_ACCURACY_WINDOWS", "16"))


@pytest.fixture(scope="module")
def windows():
    """This tree's own documents, word by word: each word that is one token with its leading space."""
    if not MODEL.exists():
        pytest.skip(f"{MODEL} is not there: scripts/fetch_model.py brings it")
    assert TOOL.exists(), f"{TOOL} is not built: ninja -C build/dev logits_tool"
    ids = {token: i for i, token in enumerate(Gguf(MODEL).meta["tokenizer.ggml.tokens"])}
    files = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    words = re.findall(r"[A-Za-z]+|[.,;:]", " ".join(f.read_text() for f in files))
    tokens = [ids["Ġ" + w] for w in words if "Ġ" + w in ids]
    assert len(tokens) >= WINDOW * WINDOWS
    return [tokens[i * WINDOW : (i + 1) * WINDOW] for i in range(WINDOWS)]


def log_likelihood(model, isa, lines, *kv):
    text = "\n".join(" ".join(map(str, line)) for line in lines) + "\n"
    done = subprocess.run([TOOL, model, isa, "2", "score", *kv], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cells = [cell.split(":")[1] for row in done.stdout.splitlines() for cell in row.split()]
    assert len(cells) == len(lines) * (WINDOW - 1)
    return sum(map(float, cells)) / len(cells)


@pytest.mark.parametrize("kind", ["bf16", "q8_0", "q4_0", "q4_1", "q4_k", "q6_k"])
def test_perplexity_is_that_of_float32(windows, tmp_path, kind):
    requantize(MODEL, kind, tmp_path / "quantized.gguf", tmp_path / "floats.gguf")
    want = log_likelihood(tmp_path / "floats.gguf", "auto", windows)
    got = log_likelihood(tmp_path / "quantized.gguf", "auto", windows)
    for file in tmp_path.iterdir():
        file.unlink()
    change = math.exp(want - got) - 1
    print(f"{kind}: perplexity {math.exp(-got):.3f}, float32 {math.exp(-want):.3f}, {change:+.4%}")
    assert abs(change) < 0.002


@pytest.mark.parametrize("kv, most", [("i8", 0.002), ("f8_e4m3", 0.02)])
def test_perplexity_with_an_8_bit_kv_cache(windows, kv, most):
    """int8 has a scale for each 64 values; e4m3 has 3 bits of mantissa and no scale, and loses more."""
    want, half, got = (log_likelihood(MODEL, "auto", windows, each) for each in ("f32", "f16", kv))
    change = math.exp(want - got) - 1
    print(f"KV {kv}: perplexity {math.exp(-got):.3f}, f16 {math.exp(-half):.3f}, float32 {math.exp(-want):.3f}, {change:+.4%}")
    assert 0 < abs(change) < most
