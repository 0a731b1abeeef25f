#!/usr/bin/env python3
"""The CPU table: Homeport's executor beside llama.cpp on the same files, threads and machine, and both beside the machine.

usage: bench/cpu_table.py [--only 1.5b-q4_0,…] [--tests prefill:512,…] [--rounds 5] [--threads 2] [--isa auto] [--csv FILE]

Rows: 1.5b-q4_0 1.5b-q4_k_m 1.5b-q8_0 1.5b-bf16 135m-q8_0 135m-q4_1 v2-lite-q4_0 (bench/make_model.py writes the files into --models,
random weights in real shapes; v2-lite needs 9 GB of disk and 20 GB of memory). Both sides stay loaded and take turns test by
test; a figure is the median of the rounds, a ratio that of the medians. Tests: prefill:N is one prompt in steps of 512 tokens,
decode:N is N sequences together, 32 steps after 128 tokens each. Limits are measured before each row by machine_limits: int8
and bf16 multiply-adds, reads from memory. "of the machine" is our share of the limit that binds: weight bytes of a step times steps per
second over the read bandwidth (decode:1), multiply-adds of the weights over those of the machine (prefill; int8 for quantized
files, bf16 for bf16).
The peer is the one of bench/peer_llama_cpp.py, built once into .venv-peer.
"""
import argparse, csv, datetime, json, pathlib, statistics, subprocess, sys, time

import make_model
import peer_llama_cpp

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROWS = {"1.5b-q4_0": ("qwen-1.5b", "q4_0"), "1.5b-q4_k_m": ("qwen-1.5b", "q4_k_m"), "1.5b-q8_0": ("qwen-1.5b", "q8_0"),
        "1.5b-bf16": ("qwen-1.5b", "bf16"), "135m-q8_0": ("smollm-135m", "q8_0"), "135m-q4_1": ("smollm-135m", "q4_1"),
        "v2-lite-q4_0": ("v2-lite", "q4_0")}
TESTS = "prefill:512,prefill:2048,decode:1,decode:16"
STEPS = 32
COLUMNS = ["date", "commit", "isa", "threads", "row", "test", "homeport", "llama_cpp", "ratio", "of_machine", "llama_of_machine",
           "read_gb_s", "int8_gmac_s", "bf16_gmac_s", "ready_s", "peak_mb", "file_mb"]


def work_per_token(shape, kind):
    """(weight bytes, multiply-adds) of one token's step, the head's included and attention left out."""
    s, read, macs = make_model.SHAPES[shape], 0, 0
    for name, dims, kind_of in make_model.tensors(s, kind):
        if len(dims) == 1 or (name == "token_embd.weight" and not s.get("tied")):
            continue
        share = s["used"] / s["experts"] if "_exps" in name else 1
        read += make_model.bytes_of(dims, kind_of) * share
        size = share
        for d in dims:
            size *= d
        macs += size
    return read, macs


def head_macs(shape):
    return make_model.SHAPES[shape]["hidden"] * make_model.SHAPES[shape]["vocab"]


class Side:
    """A worker that is asked one test a line."""

    def __init__(self, command):
        start = time.monotonic()
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if not self.process.stdout.readline().startswith("ready"):
            sys.exit(f"{command[0]} did not start")
        self.ready = time.monotonic() - start

    def ask(self, test):
        self.process.stdin.write(test + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"{self.process.args[0]} ended in the test {test}")
        return float(answer)

    def peak_mb(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def limits(build, threads):
    return json.loads(subprocess.run([build / "machine_limits", str(threads)], check=True, stdout=subprocess.PIPE).stdout)


def share(test, rate, shape, kind, machine):
    read, macs = work_per_token(shape, kind)
    if test == "decode:1":
        return rate * read / 1e9 / machine["read_gb_s"]
    if test.startswith("prefill"):
        size = int(test.split(":")[1])
        each = macs - head_macs(shape) * (1 - 1 / size)  # only the last token has logits
        return rate * each / 1e9 / machine["bf16" if kind == "bf16" else "int8"]
    return None


def run_row(name, a, build, write):
    shape, kind = ROWS[name]
    path = a.models / f"{shape}-{kind}.gguf"
    if not path.exists():
        a.models.mkdir(parents=True, exist_ok=True)
        make_model.write(path, shape, kind)
    path.read_bytes() if path.stat().st_size < 4e9 else None  # both sides load from the page cache
    tests = a.tests.split(",")
    longest = max([int(t.split(":")[1]) for t in tests if t.startswith("prefill")], default=512)
    streams = max([int(t.split(":")[1]) for t in tests if t.startswith("decode")], default=1)
    machine = limits(build, a.threads)
    mine = Side([build / "arch_bench", path, "worker=1", f"isa={a.isa}", f"threads={a.threads}", f"decode={STEPS}",
                 f"prefill={longest}", f"streams={streams}"])
    theirs = Side([peer_llama_cpp.peer_python(), peer_llama_cpp.__file__, "--worker", path, a.threads])
    print(f"{name}: {path.stat().st_size / 1e6:.0f} MB, ready in {mine.ready:.1f} s (llama.cpp {theirs.ready:.1f}); machine: "
          f"reads {machine['read_gb_s']:.1f} GB/s, int8 {machine['int8']:.0f}, bf16 {machine['bf16']:.0f} GMAC/s", flush=True)
    for test in tests:
        figures = [[], []]
        for i in range(a.rounds):
            for side in (0, 1) if i % 2 == 0 else (1, 0):
                figures[side].append((mine, theirs)[side].ask(test))
        m, t = (statistics.median(f) for f in figures)
        part, other = share(test, m, shape, kind, machine), share(test, t, shape, kind, machine)
        of = f"{part:6.0%} of the machine (llama.cpp {other:.0%})" if part is not None else ""
        print(f"  {test:<14}{m:>9.1f}{t:>9.1f}{m / t:>7.2f}   {min(figures[0]):.1f}–{max(figures[0]):.1f}, "
              f"{min(figures[1]):.1f}–{max(figures[1]):.1f} {of}", flush=True)
        write({"row": name, "test": test, "homeport": round(m, 1), "llama_cpp": round(t, 1), "ratio": round(m / t, 3),
               "of_machine": part and round(part, 3), "llama_of_machine": other and round(other, 3),
               "read_gb_s": machine["read_gb_s"], "int8_gmac_s": machine["int8"], "bf16_gmac_s": machine["bf16"],
               "ready_s": round(mine.ready, 2), "peak_mb": round(mine.peak_mb()), "file_mb": round(path.stat().st_size / 1e6)})
    mine.close()
    theirs.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(r for r in ROWS if not r.startswith("v2")), help="rows, separated by commas")
    parser.add_argument("--tests", default=TESTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--isa", default="auto")
    parser.add_argument("--models", type=pathlib.Path, default=pathlib.Path.home() / ".cache/homeport-bench")
    parser.add_argument("--csv", type=pathlib.Path, help="append the results to this file")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    a = parser.parse_args()
    unknown = [r for r in a.only.split(",") if r not in ROWS]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(git, stdout=subprocess.PIPE, text=True).stdout.strip()
    fixed = {"date": datetime.date.today(), "commit": commit, "isa": a.isa, "threads": a.threads}

    def write(row):
        if not a.csv:
            return
        new = not a.csv.exists()
        a.csv.parent.mkdir(parents=True, exist_ok=True)
        with open(a.csv, "a", newline="") as f:
            out = csv.DictWriter(f, COLUMNS, lineterminator="\n")
            if new:
                out.writeheader()
            out.writerow(fixed | row)

    print(f"commit {commit}, isa {a.isa}, {a.threads} threads, {a.rounds} rounds; test, homeport and llama.cpp in tokens/s, ratio, least and most")
    for name in a.only.split(","):
        run_row(name, a, a.build, write)


if __name__ == "__main__":
    main()
