"""The short version of `make chaos`, in `make test`: both tiers, under a minute together."""
import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "dev"


def last_line(command, seconds):
    done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.stdout.strip(), done.stderr
    return done, json.loads(done.stdout.strip().splitlines()[-1])


def test_fake_engine_loses_no_token(tmp_path):
    done, report = last_line([BUILD / "chaos", "--streams", 500, "--concurrent", 60, "--every", 1, "--seed", 11,
                              "--gateway", BUILD / "gateway_tool", "--node", BUILD / "fake_node", "--logs", tmp_path / "logs"], 120)
    assert report["faults_injected"] >= 5, done.stdout
    for wrong in ("lost", "doubled", "unequal", "failed", "usage_wrong"):
        assert report[wrong] == 0, done.stdout


def test_real_engine_is_byte_equal_under_kill(tmp_path):
    done, report = last_line(["python3", "tests/chaos/real_engine.py", "--streams", 20, "--nodes", 2, "--every", 1, "--seed", 5], 180)
    assert report["unequal"] == 0, done.stdout
    assert report["tokens"] > 0
