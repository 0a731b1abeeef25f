#!/usr/bin/env python3
"""Writes the answers of a real NVIDIA driver's NVML, asked directly, as the file that tests/tools/fake_nvml.cpp replays.
    tests/ops/record_nvml.py [--library libnvidia-ml.so.1] > tests/ops/nvml/BOARD.txt        UUIDs are left out."""
import argparse
import ctypes
import sys


class Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


class Rates(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


def ask(function, device, *arguments, answer):
    """What the function writes to its last argument, or None where the board does not support it."""
    return answer if function(device, *arguments, ctypes.byref(answer)) == 0 else None


def record(library):
    nvml = ctypes.CDLL(library)
    if code := nvml.nvmlInit_v2():
        sys.exit(f"nvmlInit_v2 answers {code}")
    count = ctypes.c_uint()
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    lines = [f"boards {count.value}"]
    for index in range(count.value):
        device, text = ctypes.c_void_p(), ctypes.create_string_buffer(96)
        nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device))
        nvml.nvmlDeviceGetName(device, text, len(text))
        uint, ulong = ctypes.c_uint, ctypes.c_ulonglong
        memory = ask(nvml.nvmlDeviceGetMemoryInfo, device, answer=Memory())
        rates = ask(nvml.nvmlDeviceGetUtilizationRates, device, answer=Rates())
        plain = {"temperature": ask(nvml.nvmlDeviceGetTemperature, device, 0, answer=uint()),
                 "power_mw": ask(nvml.nvmlDeviceGetPowerUsage, device, answer=uint()),
                 "power_limit_mw": ask(nvml.nvmlDeviceGetEnforcedPowerLimit, device, answer=uint()),
                 "clock_sm": ask(nvml.nvmlDeviceGetClockInfo, device, 1, answer=uint()),
                 "clock_memory": ask(nvml.nvmlDeviceGetClockInfo, device, 2, answer=uint()),
                 "ecc": ask(nvml.nvmlDeviceGetTotalEccErrors, device, 1, 0, answer=ulong()),
                 "throttle": ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, device, answer=ulong())}
        figures = {"name": text.value.decode(), **{key: value.value for key, value in plain.items() if value is not None}}
        if memory:
            figures |= {"memory_total": memory.total, "memory_used": memory.used}
        if rates:
            figures["utilization"] = rates.gpu
        lines += [f"{key}{f'.{index}' if index else ''} {value}" for key, value in figures.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", default="libnvidia-ml.so.1")
    sys.stdout.write(record(parser.parse_args().library))
