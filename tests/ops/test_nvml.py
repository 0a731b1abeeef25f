"""GPU figures on a node's page, read through a libnvidia-ml.so.1 that answers what a file says (tests/tools/fake_nvml.cpp),
also what a real driver said (tests/ops/nvml, written by record_nvml.py)."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from serving import MODEL, PROGRAM, Server, wait_for  # noqa: E402

LIBRARY = PROGRAM.parent / "fake_nvml" / "libnvidia-ml.so.1"
RECORDINGS = sorted((Path(__file__).parent / "nvml").glob("*.txt"))
pytestmark = pytest.mark.skipif(not MODEL.exists() or not LIBRARY.exists(), reason="no default model or fake_nvml is not built")

FIRST = {"temperature": 71, "memory_total": 85899345920, "memory_used": 64424509440, "power_mw": 612500, "power_limit_mw": 700000,
         "clock_sm": 1755, "clock_memory": 2619, "utilization": 93, "ecc": 0, "xid": 0, "throttle": 0x44, "temperature.1": 40}


def write(path: Path, figures):
    fresh = path.with_suffix(".new")  # never half a file
    fresh.write_text("".join(f"{k} {v}\n" for k, v in figures.items()))
    fresh.replace(path)


def figures(server):
    """{(name, gpu, reason): value} of the homeport_gpu_* series."""
    out = {}
    for name, labels, value in re.findall(r"^(homeport_gpus?\w*)(?:\{(.*)\})? (\S+)$", server.ask("GET", "/metrics")[2].decode(), re.M):
        found = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        out[name.removeprefix("homeport_"), found.get("gpu"), found.get("reason")] = float(value)
    return out


def becomes(server, key, value):
    wait_for(lambda: figures(server).get(key) == value, what=lambda: (key, figures(server)))


def test_every_figure_of_a_board(tmp_path):
    file = tmp_path / "boards"
    write(file, FIRST)
    with Server("--nvml", LIBRARY, environment={"FAKE_NVML": str(file)}) as node:
        becomes(node, ("gpus", None, None), 2)
        becomes(node, ("gpu_temperature_celsius", "1", None), 40)
        got = figures(node)
        wanted = {"gpu_temperature_celsius": 71, "gpu_memory_used_bytes": 64424509440, "gpu_memory_total_bytes": 85899345920, "gpu_power_watts": 612.5,
                  "gpu_power_limit_watts": 700, "gpu_clock_mhz": 1755, "gpu_memory_clock_mhz": 2619, "gpu_utilization_ratio": 0.93,
                  "gpu_ecc_errors_total": 0, "gpu_xid_errors_total": 0}
        assert {name: got[name, "0", None] for name in wanted} == wanted
        throttled = {reason for (name, gpu, reason), v in got.items() if name == "gpu_throttled" and gpu == "0" and v == 1}
        assert throttled == {"power_cap", "hw_thermal"}
        # The second board tells its temperature only: nothing is made up.
        assert got["gpu_temperature_celsius", "1", None] == 40 and ("gpu_power_watts", "1", None) not in got

        write(file, FIRST | {"temperature": 91, "ecc": 2, "xid": 3, "throttle": 0})
        becomes(node, ("gpu_xid_errors_total", "0", None), 3)
        becomes(node, ("gpu_temperature_celsius", "0", None), 91)
        becomes(node, ("gpu_ecc_errors_total", "0", None), 2)
        becomes(node, ("gpu_throttled", "0", "hw_thermal"), 0)


@pytest.mark.parametrize("library,why", [(LIBRARY, "the NVIDIA driver does not answer"), ("/nowhere/libnvidia-ml.so.1", "no NVIDIA driver here")])
def test_no_gpu_says_so(library, why):
    with Server("--nvml", library) as node:
        wait_for(lambda: f"no GPU: {why}" in node.log(), what=node.log)
        assert figures(node) == {("gpus", None, None): 0}


def hardware(library, file):
    done = subprocess.run([PROGRAM, "doctor", "--hardware", "--json", "--nvml", library], capture_output=True, text=True, check=True,
                          env=os.environ | {"FAKE_NVML": str(file)})
    return json.loads(done.stdout)


def test_doctor_prints_what_is_read_and_what_is_not_told(tmp_path):
    file = tmp_path / "boards"
    write(file, {k: v for k, v in FIRST.items() if k != "ecc"} | {"boards": 1, "name": "NVIDIA Something 80GB"})
    told = hardware(LIBRARY, file)
    (gpu,) = told["gpus"]
    assert gpu["name"] == "NVIDIA Something 80GB" and gpu["power"] == 612.5 and gpu["ecc_errors"] is None and told["no_gpu"] == ""
    assert told["machine"]["memory_total"] > told["machine"]["memory_used"] > 0
    none = hardware("/nowhere/libnvidia-ml.so.1", file)
    assert none["gpus"] == [] and "no NVIDIA driver here" in none["no_gpu"]


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_a_real_drivers_answers_are_all_read(recording):
    said = dict(line.split(" ", 1) for line in recording.read_text().splitlines())
    gpus = hardware(LIBRARY, recording)["gpus"]
    assert len(gpus) == int(said["boards"]) > 0
    scale = {"power_mw": ("power", 1000), "power_limit_mw": ("power_limit", 1000), "clock_sm": ("clock", 1), "clock_memory": ("memory_clock", 1),
             "ecc": ("ecc_errors", 1), "utilization": ("utilization", 100), **{k: (k, 1) for k in ("temperature", "memory_total", "memory_used")}}
    assert gpus[0]["name"] == said["name"]
    assert {key: gpus[0][name] for key, (name, _) in scale.items()} == {key: float(said[key]) / by for key, (_, by) in scale.items()}
    assert gpus[0]["xid_errors"] == 0
    assert gpus[0]["throttle_reasons"] == {0: "", 4: "power_cap"}[int(said["throttle"])]
    again = subprocess.run([sys.executable, Path(__file__).parent / "record_nvml.py", "--library", LIBRARY], capture_output=True, text=True,
                           check=True, env=os.environ | {"FAKE_NVML": str(recording)}).stdout
    assert dict(line.split(" ", 1) for line in again.splitlines()) == said, "a recording of the recording is the same"
