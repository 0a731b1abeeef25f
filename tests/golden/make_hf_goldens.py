"""Writes tests/golden/hf/*.npz: logits of Hugging Face transformers in float32 for every case of hf_cases.py.

Needs torch and transformers (a CPU is enough); run only when the cases change:
  python tests/golden/make_hf_goldens.py
Weights of other types are dequantized first: the reference runs on what they mean.
"""

import json
import pathlib
import tempfile

import hf_cases
import numpy as np
import torch
import transformers

OUT = pathlib.Path(__file__).parent / "hf"


def logits(case, meaning):
    """[1 + STEPS, vocab]: after the prompt, then after each further token, decoded one by one with a cache."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "config.json").write_text(json.dumps(hf_cases.config(case, "f32")))
        hf_cases.write_safetensors(folder / "model.safetensors", {n: ("F32", x) for n, x in meaning.items()})
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
    assert not report["missing_keys"] and not report["mismatched_keys"], report
    ids = torch.tensor(hf_cases.tokens(case))[None]
    rows = []
    with torch.no_grad():
        out = model(ids[:, : hf_cases.PROMPT], use_cache=True)
        rows.append(out.logits[0, -1])
        for i in range(hf_cases.PROMPT, hf_cases.PROMPT + hf_cases.STEPS):
            out = model(ids[:, i : i + 1], past_key_values=out.past_key_values, use_cache=True)
            rows.append(out.logits[0, -1])
    return torch.stack(rows).numpy().astype(np.float32)


def main():
    torch.set_num_threads(2)
    OUT.mkdir(exist_ok=True)
    for case, variants in hf_cases.VARIANTS.items():
        for variant in variants:
            rows = logits(case, hf_cases.store(case, variant)[1])
            np.savez_compressed(OUT / f"{case}.{variant}.npz", logits=rows)
            print(case, variant, rows.std(), rows.argmax(axis=1))
    made = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
    (OUT / "made_with.json").write_text(json.dumps(made) + "\n")


if __name__ == "__main__":
    main()
