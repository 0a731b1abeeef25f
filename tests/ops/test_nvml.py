"""GPU figures on a node's page, read through a libnvidia-ml.so.1 that answers what a file says (tests/tools/fake_nvml.cpp)."""
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from serving import MODEL, PROGRAM, Server, wait_for  # noqa: E402

LIBRARY = PROGRAM.parent / "fake_nvml" / "libnvidia-ml.so.1"
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
