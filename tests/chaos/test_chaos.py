"""The short version of `make chaos`, in `make test`: both tiers, under a minute together."""
import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "dev"


def last_line(command, seconds):
    done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.stdout.strip(), done.stderr
    return done, json.loads(done.stdout.strip().splitlines()[-1])


REDIS = shutil.which("redis-server")
CHAOS = [BUILD / "chaos", "--gateway", BUILD / "gateway_tool", "--node", BUILD / "fake_node"] + (["--redis", REDIS] if REDIS else [])
WRONG = ("lost", "doubled", "unequal", "failed", "usage_wrong", "cache_dirty", "past_deadline")


@pytest.fixture(scope="module", autouse=True)
def scenarios(tmp_path_factory):
    """They mostly wait: both run beside the other tests."""
    flags = {"standby": ["--streams", 640, "--concurrent", 32, "--every", 60, "--seconds", 1.5, "--pace-ms", 50],
             "rolling": ["--streams", 30, "--concurrent", 30, "--every", 2.5, "--seconds", 16, "--pace-ms", 50]}
    running = {name: subprocess.Popen([str(c) for c in [*CHAOS, "--scenario", name, "--logs", tmp_path_factory.mktemp(name) / "logs", *more]],
                                      stdout=subprocess.PIPE, text=True, cwd=ROOT) for name, more in flags.items()}
    yield running
    for process in running.values():
        process.kill()
        process.wait()
        process.stdout.close()


def test_fake_engine_loses_no_token(tmp_path):
    done, report = last_line([*CHAOS, "--streams", 500, "--concurrent", 60, "--every", 1, "--each", 1, "--seed", 11, "--logs", tmp_path / "logs"], 900)
    assert report["fewest_of_a_kind"] >= 1, f"every kind of fault in one run: {done.stdout}"
    for wrong in WRONG:
        assert report[wrong] == 0, done.stdout
    assert report["usage_told"] == report["usage_due"] > 0
    assert report["cache_hits"] > 0


def result(scenarios, name):
    text = scenarios[name].communicate(timeout=900)[0]
    report = json.loads(text.strip().splitlines()[-1])
    for wrong in (*WRONG, "errors_5xx"):
        assert report[wrong] == 0, text
    return report


def test_real_engine_is_byte_equal_under_kill(tmp_path):
    done, report = last_line(["python3", "tests/chaos/real_engine.py", "--streams", 20, "--nodes", 2, "--every", 1, "--seed", 5], 900)
    assert report["unequal"] == 0, done.stdout
    assert report["tokens"] > 0


def test_a_dead_primary_group_hands_over_and_gets_its_load_back(scenarios):
    report = result(scenarios, "standby")
    assert report["faults"]["kill primary group"] >= 1
    assert report["handovers"] >= 4, "two gateways there and back, with or without a request at that moment"


def test_rolling_restart_and_scale_down_are_not_noticed(scenarios):
    report = result(scenarios, "rolling")
    assert report["faults"]["restart node"] >= 4 and report["faults"]["scale down"] >= 1
    assert report["refusals"] == report["reconnects"] == 0
