#!/usr/bin/env python3
"""Measures points for the planner: `homeport bench` on every file, printed as series of measurements.toml.

usage: bench/planner_points.py ACCELERATOR MODEL=FILE... [-- bench flags]
MODEL is a name of `homeport plan catalog`; files of random weights in a model's shape do (speed does not depend on values).
Without flags: prompts of 128 and 512 tokens, batches of 1, 4 and 16 after 128 tokens of context.
"""
import datetime
import json
import os
import subprocess
import sys

PROGRAM = os.environ.get("HOMEPORT_PROGRAM", "build/dev/homeport")
DEFAULT = ["--prefill", "128,512", "--batch", "1,4,16", "--depth", "128", "--steps", "4", "--repeat", "2", "--kv-mib", "1500"]


def series(accelerator, model, path, flags):
    bench = json.loads(subprocess.run([PROGRAM, "bench", "--model", path, "--json", *flags], check=True, capture_output=True).stdout)
    rows = {"prefill": [], "decode": []}
    for row in bench["rows"]:
        size = row.get("tokens", row.get("sequences"))
        rows[row["test"]].append([size, row["context"], round(row["tokens_per_second"], 1)])
    source = f"bench/planner_points.py on {bench['device']}, {datetime.date.today():%d %B %Y}"
    print(f'\n[[series]]\nengine = "homeport"\ndevice = "{accelerator}"\nmodel = "{model}"\nformat = "{bench["format"]}"\nsource = "{source}"')
    for kind in ("prefill", "decode"):
        print(f"{kind} = {rows[kind]}", flush=True)


def main():
    words = sys.argv[1:]
    flags = words[words.index("--") + 1:] if "--" in words else DEFAULT
    named = words[:words.index("--")] if "--" in words else words
    if len(named) < 2 or not all("=" in w for w in named[1:]):
        sys.exit(__doc__)
    for pair in named[1:]:
        series(named[0], *pair.split("=", 1), flags)


main()
