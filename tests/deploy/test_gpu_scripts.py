"""The scripts of a GPU machine, here with stand-ins for what needs a GPU: parts, exit codes, the table, the goldens."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HOMEPORT_BUILD", ROOT / "build" / "dev"))
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "golden")]
import gpu_goldens  # noqa: E402
import gpu_table  # noqa: E402

BENCH = """device memory: 4.26 TB/s
r1-distill-llama-8b fp8 on NVIDIA H200: weights 9.1 GB, ready in 1.2 s, KV bf16 of 90112 blocks, context 256, bandwidth limit 568 tok/s
  prefill  2048:    42.31 ms     48405 tok/s  726 TFLOP/s  fusions default
  prefill  2048:    40.00 ms     51200 tok/s  768 TFLOP/s  fusions default:free
  decode    1 users:   2.666 ms (2.660..2.671)      375 tok/s  fusions 0:20
  decode    1 users:   2.584 ms (2.580..2.590)      387 tok/s  fusions default
  decode  256 users:   9.433 ms (9.400..9.500)    27139 tok/s  fusions default
"""


def test_a_bench_log_is_read_and_a_miss_is_marked():
    records = gpu_table.parse_bench(BENCH)
    assert gpu_table.measured(records, "r1-distill-llama-8b", "fp8", "prefill", 2048) == 48405
    assert gpu_table.measured(records, "r1-distill-llama-8b", "fp8", "prefill_ms", 2048) == 42.31
    markdown, rows = gpu_table.table(records, "H200")
    by_row = {r["row"]: r for r in rows}
    assert by_row["8B fp8: decode, 1 user"]["measured"] == 387  # not the variant without fusions
    assert not by_row["8B fp8: decode, 1 user"]["reached"]
    assert by_row["8B fp8: decode, 256 users"]["reached"]
    assert "| 8B fp8: decode, 1 user | ≥ 400 | 387 tok/s | **miss** | 255 |" in markdown
    assert "| 67B fp8: decode, 1 user | ≥ 55 | not measured |  | 38 |" in markdown
    assert "| r1-distill-llama-8b fp8 | decode | 1 | 387 | default | 68 % |" in markdown
    assert "| r1-distill-llama-8b fp8 | prefill | 2048 | 48,405 | 51,200 | 0.945 |" in markdown
    assert markdown.count("0.945") == 1 and "what batch invariance costs" not in gpu_table.table(records[:2])[0]
    assert "4.26 TB/s" in markdown


def test_kv_types_are_beside_each_other_and_no_target_is_taken_from_long_contexts():
    head = "v2-lite fp8 on NVIDIA H200: weights 16.2 GB, ready in 0.4 s, KV {} of 9 blocks, context 4096, bandwidth limit 1740 tok/s\n"
    line = "  decode  256 users:  16.403 ms (16.365..16.417)    {} tok/s\n"
    records = gpu_table.parse_bench(head.format("bf16") + line.format(10000) + head.format("fp8") + line.format(15000))
    assert gpu_table.measured(records, "v2-lite", "fp8", "decode", 256) is None
    markdown, _ = gpu_table.table(records)
    assert "| v2-lite fp8 | 256 | 4096 | 10,000 | 15,000 | 1.50 |" in markdown
    assert "| v2-lite fp8 | decode | 256 |" not in markdown


def test_less_is_better_for_times_and_the_slower_stream_counts():
    host = "junk\nname,iterations,us_per_step\n\"host_step/greedy/64/manual_time\",9,12.5\n\"host_step/sampled/64/manual_time\",9,61\n"
    records = gpu_table.parse_host(host) + gpu_table.parse_startup("x\nfirst token after 4.125 s\n")
    _, rows = gpu_table.table(records)
    by_row = {r["row"]: r for r in rows}
    assert by_row["8B bf16: process start to first token"]["reached"]
    assert by_row["host's part of a step, 64 streams"]["measured"] == 61
    assert not by_row["host's part of a step, 64 streams"]["reached"]


def test_kernels_of_a_profile():
    text = '==PROF== x\n"ID","Kernel Name","Metric Value"\n"0","void hp::cuda::fold(int)","4,600"\n'
    assert gpu_table.kernels(text) == [("fold", "4,600")]


def script(path, text):
    path.write_text("#!/bin/bash\n" + text)
    path.chmod(0o755)


@pytest.fixture
def stand_ins(tmp_path):
    """A folder of GPU programs and a bundle whose logits_tool is the real one, on the CPU, and whose nccl_tool finds no GPU."""
    (tmp_path / "cuda").mkdir()
    (tmp_path / "bundle").mkdir()
    for tool in ("logits_tool", "nccl_tool"):
        (tmp_path / "bundle" / tool).symlink_to(BUILD / tool)
    script(tmp_path / "cuda" / "gpu_test", 'echo "$1: 7 comparisons, ${GPU_TEST_FAILED:-0} failed"; exit ${GPU_TEST_FAILED:-0}\n')
    script(
        tmp_path / "cuda" / "gpu_bench",
        """[ "$1" = ceiling ] && { echo "device memory: 4.26 TB/s"; exit 0; }
echo "$1 $2 on a stand-in: weights 1.0 GB, ready in 1.0 s, KV ${6:-bf16} of 9 blocks, context ${7:-256}, bandwidth limit 100 tok/s"
for p in ${5//,/ }; do printf '  prefill %5d: %8.2f ms  %8.0f tok/s  %.0f TFLOP/s\\n' $p 50 60000 700; done
for u in ${3//,/ }; do printf '  decode %4d users: %7.3f ms (1.000..2.000) %8.0f tok/s  fusions default\\n' $u 1.5 $((u * 600)); done
""",
    )
    script(tmp_path / "bundle" / "engine_bench", "echo name,us_per_step; for n in 1 64 256; do echo host_step/greedy/$n/manual_time,$n; done\n")
    return tmp_path


def session(folder, what, **more):
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "GPU_BIN": folder / "cuda", "GPU_BUNDLE": folder / "bundle", "GPU_DEVICE": "cpu", "GPU_DRY": "1"} | more
    return subprocess.run([ROOT / "scripts/gpu_session.sh", what, "900", folder / "logs"], env=env, capture_output=True, text=True, check=False)


def test_gpu_test_runs_every_part(stand_ins):
    assert (BUILD / "logits_tool").exists(), "logits_tool is not built"
    done = session(stand_ins, "test")
    assert done.returncode == 0, done.stdout + done.stderr
    for group in ("sampling", "products", "attention", "ints", "models", "latent", "kv"):
        assert f"{group}: {group}: 7 comparisons, 0 failed" in done.stdout
    assert "goldens on cpu: 12 passed, 0 failed" in done.stdout
    assert "memcheck" in done.stdout and "racecheck" in done.stdout
    assert "== nccl: rc 0" in done.stdout
    assert not (stand_ins / "logs" / "table.json").exists()


def test_a_failure_or_a_missing_program_is_said(stand_ins):
    (stand_ins / "bundle" / "logits_tool").unlink()
    done = session(stand_ins, "test", GPU_TEST_FAILED="3")
    assert done.returncode == 1
    assert "== test_models: rc 3" in done.stdout
    assert "== goldens: skipped" in done.stdout
    assert session(stand_ins, "tset").returncode == 2


def test_gpu_bench_fills_the_table(stand_ins):
    done = session(stand_ins, "bench")
    assert done.returncode == 0, done.stdout + done.stderr
    table = json.loads((stand_ins / "logs" / "table.json").read_text())
    by_row = {r["row"]: r["measured"] for r in table["rows"]}
    assert None not in by_row.values()
    assert by_row["67B fp8: decode, 128 users"] == 128 * 600
    assert by_row["host's part of a step, 256 streams"] == 256
    assert 0 < by_row["8B bf16: process start to first token"] < 60
    markdown = (stand_ins / "logs" / "table.md").read_text()
    assert "| 67B fp8: first token, prompt of 512 | ≤ 90 | 50 ms |  | 377 |" in markdown
    assert "| r1-distill-llama-8b fp8 | 32 | 8000 | 19,200 | 19,200 | 1.00 |" in markdown
    assert "| r1-distill-llama-8b: decode | 256 | 153,600 | 153,600 | 153,600 | 153,600 |" in markdown


def test_goldens_through_the_plug_in_notice_a_device_that_computes_something_else(tmp_path):
    """The whole path of --device cuda: the program loads the checkpoint into a plug-in, whose logits are a toy's."""
    shutil.copy(BUILD / "logits_tool", tmp_path)
    shutil.copy(BUILD / "fake_gpu" / "libhomeport_cuda.so", tmp_path)
    command = [sys.executable, ROOT / "tests/golden/gpu_goldens.py", "--device", "cuda", "--tool", tmp_path / "logits_tool"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "goldens on cuda: 0 passed, 24 failed" in done.stdout
    assert done.stdout.count("FAILED: errors ") == 24, done.stdout


def test_goldens_allow_the_devices_roundings_and_no_more():
    rng = np.random.default_rng(2)
    want = rng.standard_normal((17, 256))
    noise = rng.standard_normal(want.shape) * np.linalg.norm(want, axis=1, keepdims=True) / np.sqrt(256)
    every = np.ones(len(want), bool)
    assert gpu_goldens.compare(want + 0.01 * noise, want, every, 0.015, 0.02)[0] == ""
    assert "largest" in gpu_goldens.compare(want + 0.02 * noise, want, every, 0.015, 0.05)[0]
    one_row = want.copy()
    one_row[3] *= 1.1
    assert "at step 3" in gpu_goldens.compare(one_row, want, every, 0.015, 0.05)[0]
    assert gpu_goldens.compare(one_row, want, np.arange(len(want)) != 3, 0.015, 0.05)[0] == ""  # its router was nearly tied
    assert "not numbers" in gpu_goldens.compare(np.full_like(want, np.nan), want, every, 1, 1)[0]
    assert "expected" in gpu_goldens.compare(want[:3], want, every, 1, 1)[0]
