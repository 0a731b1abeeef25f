"""A model cut over ranks (threads of one process) against the logits of one: every architecture, two and four ranks."""

import subprocess

import hf_cases
import hf_gguf
import pytest
import test_hf_golden as whole

CASES = ["llama", "qwen2", "qwen3", "v2_lite", "v2", "v3"]


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_folder(case, ranks, tmp_path):
    for variant in ("f32", "bf16"):
        hf_cases.write_checkpoint(tmp_path / variant, case, variant)
        got = whole.run(tmp_path / variant, case, threads=f"{ranks}x1")
        whole.compare(got, whole.golden(case, variant))


@pytest.mark.parametrize("case", ["qwen3", "v3"])
@pytest.mark.parametrize("split", [False, True])
def test_gguf(case, split, tmp_path):
    if split and "kv_lora_rank" not in hf_cases.CASES[case]:
        pytest.skip("no kv_b")
    hf_gguf.write(tmp_path / "m.gguf", hf_cases.CASES[case], hf_cases.store(case, "f32")[1], split_kv_b=split)
    whole.compare(whole.run(tmp_path / "m.gguf", case, threads="2x2"), whole.golden(case, "f32"))


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("variant", ["fp8", "fp8_ue8m0"])
def test_fp8_blocks_stay_whole(variant, ranks, tmp_path):
    """Heads and feed-forwards of whole blocks: the same codes and scales, so the same logits."""
    meaning = hf_cases.write_checkpoint(tmp_path / "m", "v3_wide", variant)
    got = whole.run(tmp_path / "m", "v3_wide", threads=f"{ranks}x1")
    whole.compare(got, whole.witness("v3_wide", meaning))


def test_a_cut_through_a_block_is_refused(tmp_path):
    hf_cases.write_checkpoint(tmp_path / "m", "v3", "fp8")
    done = subprocess.run([whole.TOOL, tmp_path / "m", "ref", "2x1", "score"], input="1 2\n", capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "a feed-forward of an expert of 96 in blocks of 128 cannot be cut for 2 ranks" in done.stderr


@pytest.mark.parametrize("variant", ["f32", "bf16"])
def test_prediction_layer(variant, tmp_path):
    hf_cases.write_checkpoint(tmp_path / "m", "v3", variant)
    line = " ".join(str(t) for t in hf_cases.tokens("v3")) + "\n"
    answers = []
    for threads in ("2", "2x1", "4x1"):
        command = [whole.TOOL, tmp_path / "m", "ref", threads, "predict", "7"]
        answers.append(subprocess.run(command, input=line, capture_output=True, text=True, timeout=120, check=True).stdout)
    assert answers[0] == answers[1] == answers[2]


def test_alone_among_others_and_in_pieces_the_same_bits(tmp_path):
    """Batch invariance among two ranks: a sequence's logits are the same however its tokens were cut."""
    hf_cases.write_checkpoint(tmp_path / "m", "v3", "bf16")
    line = (" ".join(str(t) for t in hf_cases.tokens("v3")) + "\n").encode()
    seen = set()
    for prefill in (1, 17, 40):
        command = [whole.TOOL, tmp_path / "m", "ref", "2x1", "dump", str(prefill)]
        done = subprocess.run(command, input=line, capture_output=True, timeout=120, check=True)
        seen.add(done.stdout[-hf_cases.STEPS * hf_cases.VOCAB * 4 :])
    assert len(seen) == 1
