#!/usr/bin/env python3
"""Process start to first token of an 8B bf16 checkpoint whose file is in the page cache; the median of three runs.

usage: gpu_startup.py [--device cuda|cpu] [--tool build/gpu/logits_tool] [--layers 32] [--small] [--folder /dev/shm]
Writes a folder of Llama-3-8B's shape with random weights (16 GB; --layers cuts it, --small makes it tiny), runs the program's
own loading on it, and takes it away again. Needs numpy. A file in /dev/shm is in memory as one in the page cache is.
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import random_checkpoint


def first_token(command):
    begin = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"1 2 3 4 5 6 7 8\n")
        process.stdin.close()
        line = process.stdout.readline()
        seconds = time.monotonic() - begin
    if process.returncode != 0 or not line.strip().isdigit():
        raise RuntimeError(f"{command[0]}: exit code {process.returncode}, first line {line!r}")
    return seconds


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    options.add_argument("--tool", default="build/gpu/logits_tool")
    options.add_argument("--layers", type=int, default=32)
    options.add_argument("--small", action="store_true")
    options.add_argument("--folder", default="/dev/shm")
    options = options.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="homeport_startup_") as name:
        folder = pathlib.Path(name)
        random_checkpoint.write(folder, options.layers, options.small)
        kernels = ["cuda", "1"] if options.device == "cuda" else ["auto", "2"]
        runs = [first_token([options.tool, str(folder), *kernels, "greedy", "1"]) for _ in range(4)]
    print("runs: " + " ".join(f"{s:.2f}" for s in runs) + " s, the first not counted")
    print(f"first token after {statistics.median(runs[1:]):.3f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
