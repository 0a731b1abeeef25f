#!/usr/bin/env python3
"""The table of a GPU run, from the logs of gpu_session.sh: LOGS/table.md and LOGS/table.json.

usage: gpu_table.py LOGS            what was measured beside targets and ceilings; exit code 1 when a target has no figure
       gpu_table.py --kernels LOG   the kernels of an ncu log and their nanoseconds
Each figure is gpu_bench's median of repeated runs. A miss is marked, never left out.
"""

import csv
import json
import pathlib
import re
import sys

# (row, shape, type, what, of how many, target, unit, llama.cpp on the same chip)
TARGETS = [
    ("67B fp8: first token, prompt of 512", "deepseek-67b", "fp8", "prefill_ms", 512, 90, "ms", 377),
    ("67B fp8: decode, 1 user", "deepseek-67b", "fp8", "decode", 1, 55, "tok/s", 38),
    ("67B fp8: decode, 64 users", "deepseek-67b", "fp8", "decode", 64, 2600, "tok/s", 842),
    ("67B fp8: decode, 128 users", "deepseek-67b", "fp8", "decode", 128, 3800, "tok/s", 1105),
    ("67B fp8: prefill of 2,048", "deepseek-67b", "fp8", "prefill", 2048, 5500, "tok/s", 1419),
    ("8B bf16: decode, 1 user", "r1-distill-llama-8b", "bf16", "decode", 1, 235, "tok/s", 208),
    ("8B bf16: decode, 256 users", "r1-distill-llama-8b", "bf16", "decode", 256, 18000, "tok/s", 11771),
    ("8B fp8: decode, 1 user", "r1-distill-llama-8b", "fp8", "decode", 1, 400, "tok/s", 255),
    ("8B fp8: decode, 256 users", "r1-distill-llama-8b", "fp8", "decode", 256, 22000, "tok/s", 6411),
    ("8B fp8: prefill of 2,048", "r1-distill-llama-8b", "fp8", "prefill", 2048, 45000, "tok/s", 11750),
    ("V2-Lite fp8: decode, 1 user", "v2-lite", "fp8", "decode", 1, 500, "tok/s", 291),
    ("V2-Lite fp8: decode, 256 users", "v2-lite", "fp8", "decode", 256, 20000, "tok/s", 9063),
    ("V2-Lite fp8: prefill of 2,048", "v2-lite", "fp8", "prefill", 2048, 40000, "tok/s", 16717),
    ("8B bf16: process start to first token", "start-up", "bf16", "seconds", 1, 6, "s", None),
    ("host's part of a step, 1 stream", "host", "", "us", 1, 50, "µs", None),
    ("host's part of a step, 64 streams", "host", "", "us", 64, 50, "µs", None),
    ("host's part of a step, 256 streams", "host", "", "us", 256, 50, "µs", None),
]
LESS_IS_BETTER = {"ms", "s", "µs"}
PRODUCT, FREE = "default", "default:free"  # what the product runs, and without batch invariance; others compare fusions

TYPES = ["bf16", "fp8", "int8", "int4"]
HEAD = re.compile(r"^(\S+) (\S+) on (.+): weights .* KV (bf16|fp8) of \d+ blocks, context (\d+), bandwidth limit (\d+) tok/s")
USUAL = {"kv": "bf16", "context": 256}  # of the KV cache, where targets are measured
DECODE = re.compile(r"^  decode +(\d+) users: +([\d.]+) ms \(([\d.]+)\.\.([\d.]+)\) +(\d+) tok/s(?:  fusions (\S+))?")
PREFILL = re.compile(r"^  prefill +(\d+): +([\d.]+) ms +(\d+) tok/s +(\d+) TFLOP/s(?:  fusions (\S+))?")


def parse_bench(text):
    """Records of one gpu_bench log: {shape, type, what, of, value, …}."""
    records, shape = [], None
    for line in text.splitlines():
        if m := HEAD.match(line):
            shape = {"shape": m[1], "type": m[2], "kv": m[4], "context": int(m[5])}
            records.append(shape | {"what": "bandwidth_limit", "of": 1, "value": float(m[6])})
        elif m := re.match(r"^device memory: ([\d.]+) TB/s", line):
            records.append({"shape": "ceiling", "type": "", "what": "TB/s", "of": 1, "value": float(m[1])})
        elif shape and (m := DECODE.match(line)):
            spread = {"least_ms": float(m[3]), "most_ms": float(m[4]), "variant": m[6] or PRODUCT}
            records.append(shape | {"what": "decode", "of": int(m[1]), "value": float(m[5])} | spread)
        elif shape and (m := PREFILL.match(line)):
            of = {"of": int(m[1]), "variant": m[5] or PRODUCT}
            records.append(shape | of | {"what": "prefill_ms", "value": float(m[2])})
            records.append(shape | of | {"what": "prefill", "value": float(m[3]), "tflops": float(m[4])})
    return records


def parse_startup(text):
    m = re.search(r"^first token after ([\d.]+) s", text, re.M)
    return [{"shape": "start-up", "type": "bf16", "what": "seconds", "of": 1, "value": float(m[1])}] if m else []


def parse_host(text):
    """engine_bench's CSV; the slower of greedy and sampled streams counts."""
    worst = {}
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("name,")), len(lines))
    for row in csv.DictReader(lines[start:]):
        if m := re.match(r"host_step/\w+/(\d+)", row["name"]):
            worst[int(m[1])] = max(worst.get(int(m[1]), 0.0), float(row["us_per_step"]))
    return [{"shape": "host", "type": "", "what": "us", "of": n, "value": v} for n, v in worst.items()]


def collect(logs):
    records = []
    for path in sorted(pathlib.Path(logs).glob("bench_*.log")):
        records += parse_bench(path.read_text(errors="replace"))
    for name, parse in (("startup", parse_startup), ("host_step", parse_host)):
        path = pathlib.Path(logs) / f"{name}.log"
        records += parse(path.read_text(errors="replace")) if path.exists() else []
    return records


def is_usual(record):
    return all(record.get(key, value) == value for key, value in USUAL.items())


def kv_rows(records):
    """Decodes by shape, users and context: tokens/s over KV of bf16 and of fp8, where both were measured."""
    found = {}
    for r in records:
        if r["what"] == "decode" and r["context"] != USUAL["context"]:
            found.setdefault((r["shape"], r["type"], r["of"], r["context"]), {})[r["kv"]] = r["value"]
    return [(*key, both["bf16"], both["fp8"]) for key, both in found.items() if len(both) == 2]


def measured(records, shape, kind, what, of, variant=PRODUCT):
    """One variant, the product's own unless told; None when it was not measured. The first figure counts."""
    wanted = (shape, kind, what, of, variant)
    found = [r for r in records if is_usual(r) and (r["shape"], r["type"], r["what"], r["of"], r.get("variant", PRODUCT)) == wanted]
    return found[0]["value"] if found else None


def rule_cost(records):
    """Lines of what batch invariance costs, where both ways were measured in the same run."""
    lines = ["", "| what batch invariance costs | | of | with it | without | ratio |", "|---|---|--:|--:|--:|--:|"]
    for r in records:
        if r.get("variant") != FREE or r["what"] not in ("decode", "prefill"):
            continue
        own = measured(records, r["shape"], r["type"], r["what"], r["of"])
        if own:
            lines.append(
                f"| {r['shape']} {r['type']} | {r['what']} | {r['of']} | {number(own)} | {number(r['value'])} | {own / r['value']:.3f} |"
            )
    return lines if len(lines) > 3 else []


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def beside(records):
    """What was measured with several forms of the weights, a column for each."""
    lines = ["| tokens/s | of | " + " | ".join(TYPES) + " |", "|---|--:|" + "--:|" * len(TYPES)]
    for shape, what, of in dict.fromkeys((r["shape"], r["what"], r["of"]) for r in records if r["what"] in ("decode", "prefill")):
        values = [measured(records, shape, kind, what, of) for kind in TYPES]
        if sum(v is not None for v in values) > 1:
            lines.append(f"| {shape}: {what} | {of} | " + " | ".join("–" if v is None else number(v) for v in values) + " |")
    return lines


def table(records, card=""):
    """(Markdown, rows): every target with what was measured, then what else there is."""
    rows = []
    for row, shape, kind, what, of, target, unit, peer in TARGETS:
        value = measured(records, shape, kind, what, of)
        reached = value is not None and (value <= target if unit in LESS_IS_BETTER else value >= target)
        rows.append({"row": row, "unit": unit, "target": target, "measured": value, "reached": reached, "llama.cpp": peer})
    lines = [card, ""] if card else []
    ceiling = measured(records, "ceiling", "", "TB/s", 1)
    lines += [f"Ceiling in the same run: {ceiling} TB/s of device memory." if ceiling else "The ceiling was not measured.", ""]
    lines += ["| | target | measured | | llama.cpp |", "|---|--:|--:|---|--:|"]
    for r in rows:
        sign = "≤" if r["unit"] in LESS_IS_BETTER else "≥"
        value = "not measured" if r["measured"] is None else f"{number(r['measured'])} {r['unit']}"
        verdict = "" if r["reached"] or r["measured"] is None else "**miss**"
        peer = "–" if r["llama.cpp"] is None else number(r["llama.cpp"])
        lines.append(f"| {r['row']} | {sign} {number(r['target'])} | {value} | {verdict} | {peer} |")
    lines += ["", *beside(records)]
    lines += ["", "| shape | | of | value | variant | share of the bandwidth limit |", "|---|---|--:|--:|---|--:|"]
    limits = {(r["shape"], r["type"]): r["value"] for r in records if r["what"] == "bandwidth_limit"}
    for r in records:
        if r["what"] not in ("decode", "prefill") or not is_usual(r):
            continue
        share = f"{100 * r['value'] / limits[r['shape'], r['type']]:.0f} %" if r["what"] == "decode" and r["of"] == 1 else ""
        lines.append(f"| {r['shape']} {r['type']} | {r['what']} | {r['of']} | {number(r['value'])} | {r.get('variant', '')} | {share} |")
    lines += rule_cost(records)
    if long := kv_rows(records):
        lines += ["", "| decode | users | context | KV bf16, tok/s | KV fp8 | |", "|---|--:|--:|--:|--:|--:|"]
        for shape, kind, users, context, bf16, fp8 in long:
            lines.append(f"| {shape} {kind} | {users} | {context} | {number(bf16)} | {number(fp8)} | {fp8 / bf16:.2f} |")
    return "\n".join(lines) + "\n", rows


def kernels(text):
    rows = list(csv.reader(line for line in text.splitlines() if line.startswith('"')))
    if len(rows) < 2:
        return []
    name, value = rows[0].index("Kernel Name"), rows[0].index("Metric Value")
    return [(re.sub(r".*::|\(.*", "", r[name])[:60], r[value]) for r in rows[1:]]


def main(argv):
    if len(argv) == 3 and argv[1] == "--kernels":
        for name, value in kernels(pathlib.Path(argv[2]).read_text(errors="replace")):
            print(name, value)
        return 0
    if len(argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    logs = pathlib.Path(argv[1])
    card = logs / "card.log"
    records = collect(logs)
    markdown, rows = table(records, card.read_text().strip() if card.exists() else "")
    (logs / "table.md").write_text(markdown)
    (logs / "table.json").write_text(json.dumps({"rows": rows, "records": records}, indent=1))
    print(markdown)
    absent = [r["row"] for r in rows if r["measured"] is None]
    if absent:
        print("not measured: " + "; ".join(absent), file=sys.stderr)
    return 1 if absent else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
