"""The planner with the real program: its memory figures are what the engine allocates for a real model, and what `bench`
measures can calibrate it."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from serving import MODEL, PROGRAM, clean_environment  # noqa: E402


def homeport(*words, code=0):
    done = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, check=False, env=clean_environment())
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.mark.parametrize("flags", [[], ["--max-step-tokens", 96, "--max-running", 5, "--kv-mib", 77, "--threads", 3, "--context", 1000],
                                   ["--isa", "ref", "--kv-dtype", "bf16", "--kv-mib", 3]], ids=["defaults", "set", "ref"])
def test_predicted_memory_is_what_the_engine_allocates(flags):
    predicted = json.loads(homeport("plan", "memory", "--model", MODEL, "--json", *flags))
    measured = json.loads(homeport("bench", "--model", MODEL, "--json", "--prefill", 4, "--batch", 1, "--depth", 4, "--steps", 1,
                                   "--repeat", 1, *flags))
    assert predicted["memory"] == measured["memory"]
    assert predicted["memory"]["kv"] == predicted["kv_tokens"] * predicted["kv_bytes_per_token"]
    assert predicted["memory"]["weights"] > MODEL.stat().st_size * 0.9


def test_a_measurement_of_bench_calibrates(tmp_path):
    bench = tmp_path / "bench.json"
    bench.write_text(homeport("bench", "--model", MODEL, "--json", "--prefill", 16, "--batch", "1,2", "--depth", 4, "--steps", 1,
                              "--repeat", 1))
    answer = json.loads(homeport("plan", "accuracy", "--measurements", f"{bench}@cpu-2x-epyc-9654", "--json"))
    mine = [p for p in answer["points"] if p["device"] == "cpu-2x-epyc-9654"]
    assert [(p["model"], p["format"], p["kind"], p["size"]) for p in mine] == [
        ("smollm2-135m", "q4_1", kind, size) for kind, size in (("prefill", 16), ("decode", 1), ("decode", 2))]
    assert "say on which accelerator" in homeport("plan", "accuracy", "--measurements", bench, code=2)
    assert "did you mean" in homeport("plan", "accuracy", "--measurements", f"{bench}@cpu-2x-epyc-9655", code=2)
