"""Checkpoints that lie: every one is refused with a sentence that names the file and the field or tensor."""

import json
import os
import pathlib
import subprocess

import hf_cases
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = pathlib.Path(os.environ.get("HOMEPORT_BUILD", ROOT / "build" / "dev")) / "logits_tool"


def refusal(folder):
    done = subprocess.run([TOOL, folder, "ref", "1", "score"], input="1 2\n", capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    return done.stderr


def write(folder, case="v3", variant="f32", change=None, edit=None):
    """`change` goes over the configuration, `edit` changes the tensors."""
    folder.mkdir()
    entries, _ = hf_cases.store(case, variant)
    if edit:
        edit(entries)
    (folder / "config.json").write_text(json.dumps(hf_cases.config(case, variant) | (change or {})))
    hf_cases.write_safetensors(folder / "model.safetensors", entries)
    return folder


LIES = {
    "more experts than weights": ({"n_routed_experts": 12}, "ffn_gate_inp.weight' is [8, 128], expected [12, 128] (n_routed_experts"),
    "rank of the latent": ({"kv_lora_rank": 48}, "attn_kv_a_mqa.weight' is [80, 128], expected [64, 128] (kv_lora_rank"),
    "rank of the query": ({"q_lora_rank": 64}, "attn_q_a.weight' is [96, 128], expected [64, 128] (q_lora_rank"),
    "no rank of the query": ({"q_lora_rank": None}, "no tensor 'blk.0.attn_q.weight'"),
    "rope and nope swapped": ({"qk_nope_head_dim": 16, "qk_rope_head_dim": 32}, "qk_rope_head_dim"),
    "value dimension": ({"v_head_dim": 16}, "attn_kv_b.weight' is [256, 64], expected [192, 64]"),
    "shared experts": ({"n_shared_experts": 3}, "ffn_gate_shexp.weight' is [96, 128], expected [288, 128] (n_shared_experts"),
    "dense layers": ({"first_k_dense_replace": 2}, "no tensor 'blk.1.ffn_gate.weight'"),
    "layers": ({"num_hidden_layers": 7, "num_nextn_predict_layers": 0}, "no tensor 'blk.4.attn_norm.weight'"),
    "groups": ({"n_group": 3}, "expert count 8 is no multiple of the group count 3"),
    "experts per token": ({"num_experts_per_tok": 9}, "experts per token is 9"),
    "negative": ({"kv_lora_rank": -512}, "kv_lora_rank is -512"),
    "huge": ({"num_hidden_layers": 2**31}, "'num_hidden_layers' is 2147483648"),
    "text for a number": ({"moe_intermediate_size": "many"}, "'moe_intermediate_size' is \"many\""),
}


@pytest.mark.parametrize("lie", LIES)
def test_configuration_lies(lie, tmp_path):
    change, expected = LIES[lie]
    message = refusal(write(tmp_path / "m", change=change))
    assert expected in message and str(tmp_path / "m") in message, message


def test_fewer_experts_than_weights(tmp_path):
    def edit(entries):
        for name in list(entries):
            if "mlp.gate." in name:
                entries[name] = (entries[name][0], entries[name][1][:6].copy())

    message = refusal(write(tmp_path / "m", change={"n_routed_experts": 6, "n_group": 2}, edit=edit))
    assert "has tensor 'blk.1.ffn_gate_exps.6.weight', but the configuration's n_routed_experts is 6" in message


def test_missing_shard(tmp_path):
    hf_cases.write_checkpoint(tmp_path / "m", "v3", shards=3)
    (tmp_path / "m" / "model-00002-of-00003.safetensors").unlink()
    assert "model-00002-of-00003.safetensors" in refusal(tmp_path / "m")


def test_mixed_types_of_experts(tmp_path):
    def edit(entries):
        name = "model.layers.2.mlp.experts.5.up_proj.weight"
        entries[name] = ("BF16", hf_cases.to_bf16(entries[name][1]))

    message = refusal(write(tmp_path / "m", edit=edit))
    assert "'blk.2.ffn_up_exps.5.weight' is of type bf16, but 'blk.2.ffn_up_exps.0.weight' is f32" in message


def test_integers_for_weights(tmp_path):
    def edit(entries):
        name = "model.layers.0.mlp.up_proj.weight"
        entries[name] = ("I32", entries[name][1].astype("int32"))

    message = refusal(write(tmp_path / "m", edit=edit))
    assert "blk.0.ffn_up.weight" in message and "i32" in message


def test_fp8_without_its_scales(tmp_path):
    def edit(entries):
        del entries["model.layers.1.self_attn.o_proj.weight_scale_inv"]

    message = refusal(write(tmp_path / "m", variant="fp8", edit=edit))
    assert "'blk.1.attn_output.weight' is f8_e4m3 and has no 'blk.1.attn_output.weight_scale_inv'" in message


def test_fp8_scales_of_another_shape(tmp_path):
    message = refusal(
        write(
            tmp_path / "m",
            variant="fp8",
            change={"quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [64, 128]}},
        )
    )
    assert "weight_scale_inv' is" in message and "weight_block_size [64, 128]" in message


def test_fp8_without_a_quantization_config(tmp_path):
    message = refusal(write(tmp_path / "m", variant="fp8", change={"quantization_config": None}))
    assert "no quantization_config" in message
