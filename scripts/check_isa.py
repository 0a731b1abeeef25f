#!/usr/bin/env python3
"""Checks that a processor without AVX can start the program: no AVX outside the kernel files that open it, and none in
functions that those files share with others (weak symbols, of which the linker keeps any copy).

usage: check_isa.py BUILD_FOLDER
"""
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

OPENS_AVX = re.compile(r"src/kernels/cpu/(avx2|avx512|amx)[a-z0-9_]*\.cpp\.o$")
WIDE = re.compile(r"%[yz]mm\d|\t(v[a-z0-9]+|tile[a-z]+|tdp[a-z0-9]+)\s")
HEADER = re.compile(r"^[0-9a-f]+ <(.+)>:$")


def weak_symbols(path):
    out = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1] for line in out.splitlines() if re.search(r" [WVu] ", line)}


def faults(path):
    shared = weak_symbols(path) if OPENS_AVX.search(str(path)) else None
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], capture_output=True, text=True, check=True).stdout
    found, function = [], ""
    for line in text.splitlines():
        header = HEADER.match(line)
        if header:
            function = header.group(1)
        elif (shared is None or function in shared) and WIDE.search(line):
            found.append(f"{path}: {function}: {line.split(':', 1)[1].strip()}")
            function = ""
            if shared is None:
                break
    return found


def main():
    objects = sorted(Path(sys.argv[1]).glob("CMakeFiles/hp_*.dir/**/*.cpp.o"))
    opened = [o for o in objects if OPENS_AVX.search(str(o))]
    if not opened:
        sys.exit(f"{sys.argv[1]}: no kernel objects there; build first")
    with ThreadPoolExecutor(4) as pool:
        lines = [line for part in pool.map(faults, objects) for line in part]
    print("\n".join(lines + [f"isa: {len(objects)} objects, {len(opened)} with AVX opened, {len(lines)} faults"]))
    sys.exit(1 if lines else 0)


main()
