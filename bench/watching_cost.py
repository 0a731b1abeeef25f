#!/usr/bin/env python3
"""What watching costs: processor time of a node and of the gateway with the watch on and off, idle and with streams, as the
scheduler counts it (schedstat, nanoseconds). The threads that only watch are listed by themselves: their share needs no
comparison of two runs. Ends with the limit of one percent beside what was found; the defaults take a minute and a half.
    bench/watching_cost.py [--seconds 7] [--streams 2] [--runs 2]        HOMEPORT_PROGRAM=build/release/homeport"""
import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("HOMEPORT_PROGRAM", str(ROOT / "build" / "release" / "homeport"))
sys.path.insert(0, str(ROOT / "tests"))
from serving import Server  # noqa: E402

WATCHING = {"hp-machine": "node: reading the machine", "hp-watch": "gateway: rules, incidents, readings", "hp-console": "gateway: history, console"}

WHO = ("node", "node without its busiest thread (the engine)", "gateway")


def cpu(pid):
    """{thread: (its name, seconds on a processor)}"""
    out = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            out[task.name] = (task / "comm").read_text().strip(), int((task / "schedstat").read_text().split()[0]) / 1e9
        except OSError:
            continue  # it ended
    return out


def children(pid):
    return [int(p.name) for p in Path("/proc").glob("[0-9]*") if parent(p) == pid]


def parent(process):
    try:
        return int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError):
        return -1


def round_of(watch, seconds, streams):
    """{process, or thread's name: share of a processor}, and tokens a second."""
    with tempfile.TemporaryDirectory() as folder, Server("--nodes", 1, "--threads", 1, "--access-log=false", f"--ops={watch}", "--ops-playbooks", "off",
                                                         "--ops-folder", folder, command="serve") as server:
        (node,) = children(server.process.pid)
        server.chat(max_tokens=4)
        stop = threading.Event()

        def client():
            while not stop.is_set():
                server.chat(max_tokens=120, ignore_eos=True, temperature=0)

        clients = [threading.Thread(target=client) for _ in range(streams)]
        for thread in clients:
            thread.start()
        time.sleep(2)
        who = {"node": node, "gateway": server.process.pid}
        before, tokens, begun = {n: cpu(p) for n, p in who.items()}, made(server), time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - begun
        after, made_since = {n: cpu(p) for n, p in who.items()}, made(server) - tokens
        stop.set()
        for thread in clients:
            thread.join()
    threads = {n: {t: (seconds - before[n].get(t, (name, 0))[1]) / took for t, (name, seconds) in after[n].items()} for n in who}
    shares = {n: sum(threads[n].values()) for n in who}
    shares[WHO[1]] = shares["node"] - max(threads["node"].values())
    for n in who:
        for t, (name, _) in after[n].items():
            shares[name] = shares.get(name, 0) + threads[n][t]
    return shares, made_since / took


def made(server):
    page = server.ask("GET", "/metrics")[2].decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith("vllm:generation_tokens_total"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=7)
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--runs", type=int, default=2)
    arguments = parser.parse_args()
    print("percent of one processor, medians; on - off is what the watch adds\n| | off | on | on - off |\n|---|---:|---:|---:|", flush=True)
    own, added = {}, {}
    for load, streams in (("idle", 0), (f"{arguments.streams} streams", arguments.streams)):
        totals, speeds = {}, []
        for _ in range(arguments.runs):
            for watch in ("false", "true"):
                shares, speed = round_of(watch, arguments.seconds, streams)
                for who in WHO:
                    used = 100 * shares[who]
                    totals.setdefault((who, watch), []).append(used / speed if streams else used)
                if watch == "true":
                    speeds.append(speed)
                    for thread, v in shares.items():
                        if thread in WATCHING:
                            own.setdefault((WATCHING[thread], load), []).append(100 * v)
        unit, digits = (" of a processor per token/s", 4) if streams else ("", 3)
        for who in WHO:
            off, on = (statistics.median(totals[who, w]) for w in ("false", "true"))
            if not streams:
                added[who] = on - off
            print(f"| {who}, {load}{unit} | {off:.{digits}f} | {on:.{digits}f} | {on - off:+.{digits}f} ({100 * (on / off - 1):+.1f} %) |", flush=True)
        if streams:
            print(f"| tokens/s with the watch on | | {statistics.median(speeds):.1f} | |", flush=True)
    print("\n| threads that only watch, percent of a processor | median | most |\n|---|---:|---:|")
    for (thread, load), values in sorted(own.items()):
        print(f"| {thread}, {load} | {statistics.median(values):.3f} | {max(values):.3f} |")
    node = max(max(v) for (thread, _), v in own.items() if thread.startswith("node"))
    print(f"\nof a node's processor: {node:.3f} % for its own thread, {added['node']:+.3f} % in all when idle; the limit is 1 %")
    return max(node, added["node"]) > 1


if __name__ == "__main__":
    sys.exit(main())
