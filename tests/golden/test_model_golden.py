"""The C++ executor against the numpy reference on a real model: greedy tokens on `ref`, agreement on the fast ISAs."""

import math
import os
import pathlib
import subprocess

import numpy as np
import pytest
from reference_forward import Llama

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = pathlib.Path(os.environ.get("HOMEPORT_BUILD", ROOT / "build" / "dev")) / "logits_tool"
MODEL = pathlib.Path.home() / ".homeport" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
TOKENS, TIE = 64, 1e-4
PROMPTS = """the old man sat down by the river and
we found that the first law of physics is
in the year after the war the people of
a good book should have a clear beginning and
my mother said that I could go to the
the capital city of the country is known for
if you want to learn how to write code
the cat and the dog were best friends who
water is one of the most important things on
once upon a time there was a young girl
the company said that it would build a new
to make a cup of tea you need some
the results of the study show that many people
she looked at the sky and saw the moon
music has always been a part of human life
this is a list of things to do before
the number of students who work at night is
he could not believe what he had just seen
some of the world's best food comes from the
the main reason for the change was the high""".splitlines()


def encode(vocabulary, text):
    """Whole words only: each is one token with its leading space, so no tokenizer is needed."""
    ids = {token: i for i, token in enumerate(vocabulary)}
    return [ids["Ġ" + word] for word in text.split() if "Ġ" + word in ids][:7]


def run_tool(isa, mode, lines):
    text = "\n".join(" ".join(str(t) for t in line) for line in lines) + "\n"
    done = subprocess.run(
        [TOOL, MODEL, isa, "2", *mode], input=text, capture_output=True, text=True, timeout=900, check=False
    )
    if "is not to be had here" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def golden():
    if not MODEL.exists():
        pytest.skip(f"{MODEL} is not there: scripts/fetch_model.py brings it")
    assert TOOL.exists(), f"{TOOL} is not built: ninja -C build/dev logits_tool"
    model = Llama(MODEL)
    prompts = [encode(model.vocabulary, text) for text in PROMPTS]
    assert len(prompts) == 20 and all(len(p) == 7 for p in prompts)
    return prompts, *model.greedy(prompts, TOKENS)


def test_greedy_tokens_on_ref_are_the_references(golden):
    prompts, tokens, leads, _ = golden
    compared = 0
    for i, line in enumerate(run_tool("ref", ["greedy", str(TOKENS)], prompts)):
        got = np.array([int(t) for t in line])
        different = np.flatnonzero(got != tokens[i])
        if different.size:  # after a tie the two may go apart
            first = different[0]
            assert leads[i, first] < TIE, f"prompt {i}, token {first}: {got[first]} for {tokens[i, first]}"
            compared += first
        else:
            compared += TOKENS
    assert compared > 0.9 * tokens.size


@pytest.mark.parametrize("isa", ["avx2", "avx512", "amx"])
def test_fast_isas_agree_under_teacher_forcing(golden, isa):
    prompts, tokens, _, logprobs = golden
    rows = run_tool(isa, ["score"], [[*p, *t] for p, t in zip(prompts, tokens.tolist(), strict=True)])
    agreed, total = 0, 0.0
    for i, row in enumerate(rows):
        for j, cell in enumerate(row[-TOKENS:]):
            best, logprob = cell.split(":")
            agreed += int(best) == tokens[i, j]
            total += float(logprob)
    perplexity, reference = math.exp(-total / tokens.size), math.exp(-logprobs.mean())
    assert agreed / tokens.size >= 0.99, f"top-1 agreement {agreed / tokens.size:.4f}"
    assert abs(perplexity / reference - 1) < 0.005, f"perplexity {perplexity:.4f}, reference {reference:.4f}"
