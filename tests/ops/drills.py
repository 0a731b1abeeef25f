#!/usr/bin/env python3
"""Fault drills on a real local cluster with the default model, clients that stream, and a mock of every kind of notice channel.
Level 1: three nodes in two groups; a node killed, a group killed, a node hung, the disk full. Level 2: two nodes and one more with
a quantized variant in a second group; a node slow, KV full, time-outs, refusals. The rules' windows and the playbooks' waits of
level 2 are shortened (SHORT_RULES, short_playbooks); steps, order and everything else are as shipped.
`tests/ops/drills.py [--runs N] [--only NAME,...]` prints the tables, median / worst; the tests run a short part of it."""
import argparse
import atexit
import contextlib
import functools
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "golden")]
from drill_cluster import Client, Cluster, Slow, end, short_playbooks  # noqa: E402
from serving import MODEL  # noqa: E402

SHORT_RULES = """
[kv_usage]
for_s = 3
clear_for_s = 15
[request_timeouts]
window_s = 10
clear_for_s = 3
[refusals]
window_s = 10
clear_for_s = 3
[disk]
for_s = 3
clear_for_s = 3
[incident_store]
for_s = 3
clear_for_s = 3
[slo_burn_fast]  # its windows are of 5 minutes and an hour: off
above = 1e9
clear = 1e9
"""
STEP_WAIT_S = 4  # of level 2: time for a step to help
REFUSED = [{"role": "user", "content": "Say: I'm sorry, I can't do that."}]


class Skip(Exception):
    """A drill that this machine does not allow."""


# ---- level 1: service down

def bundle_seconds(text):
    found = re.search(r"KiB in ([\d.]+) s", text)
    return float(found.group(1)) if found else float("nan")


def spread(cluster):
    """Clients with different questions, so that every serving node has streams."""
    streams = [Client(cluster.server, messages=[{"role": "user", "content": f"Tell a story about a {what}."}]) for what in ("ship", "town", "storm", "friend")]
    cluster.until(lambda: all(s.done for s in streams), "clients stream")
    return streams


def busiest(cluster):
    """The serving node in the middle of the most streams."""
    running = lambda: {n: cluster.metric("vllm:num_requests_running", n) or 0 for n in ("node0", "node1")}  # noqa: E731
    cluster.until(lambda: any(running().values()), "streams run")
    return max(running().items(), key=lambda item: item[1])[0]


def service_down(cluster, fault):
    streams = spread(cluster)
    wall, begun = time.time(), time.monotonic()
    fault()
    detected = cluster.wait("detected", wall)
    moved = cluster.wait("action", wall, "move_traffic")
    bundle = cluster.wait("action", wall, "bundle")
    lead = cluster.until(lambda: [at for at, n in cluster.channels.notices() if at > begun and n["kind"] == "update"], "the lead is told")
    closed = cluster.wait("closed", wall)
    told = cluster.told(begun)
    end(streams)
    actions = [f"{e[2]}{'' if e[5] else ' (refused)'}" for e in cluster.story() if e[0] >= wall - 0.002 and e[1] in ("action", "undo")]
    return {"detected": detected[0] - wall, "moved": moved[0] - wall, "pause": max(s.pause for s in streams), "bundle": bundle_seconds(bundle[4]),
            "notice": max(told.values()), "lead": lead[0] - begun, "recovered": closed[0] - wall, "streams": sum(s.done for s in streams),
            "errors": sum((s.errors for s in streams), []), "texts": max(len(s.texts) for s in streams),
            "refused": len(cluster.channels.bad), "actions": list(dict.fromkeys(actions))}


def node_killed():
    with contextlib.closing(Cluster()) as cluster:
        return service_down(cluster, lambda: os.kill(cluster.pid(busiest(cluster)), signal.SIGKILL))


def group_killed():
    with contextlib.closing(Cluster()) as cluster:
        def fault():
            for name in ("node0", "node1"):
                os.kill(cluster.pid(name), signal.SIGKILL)
        return service_down(cluster, fault)


def node_hung():
    with contextlib.closing(Cluster()) as cluster:
        return service_down(cluster, lambda: os.kill(cluster.pid(busiest(cluster)), signal.SIGSTOP))


# ---- a disk that is full

@contextlib.contextmanager
def small_disk(size="4m"):
    folder = Path(tempfile.mkdtemp(prefix="hp-drill-disk-"))
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True)
        if mounted.returncode:
            raise Skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fill(folder):
    with open(folder / "filler", "wb", buffering=0) as file:
        for piece in (1 << 16, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * piece)


def disk_full():
    """Incidents, history, console and access log on a tmpfs of 4 MiB that is filled; then a node is killed as well."""
    with small_disk() as disk, contextlib.closing(
            Cluster("--watch-disk", disk, ops_folder=disk, access_log=disk / "access.log", rules=SHORT_RULES)) as cluster:
        streams = spread(cluster)
        wall, begun = time.time(), time.monotonic()
        fill(disk)
        heard = lambda rule, kind: [n for at, n in cluster.channels.notices() if at > begun and n["rule"] == rule and n["kind"] == kind]  # noqa: E731
        alert = cluster.until(lambda: heard("disk", "message"), "the disk's rule fires")[0]
        told = cluster.told(begun)
        killed_wall = time.time()
        os.kill(cluster.pid(busiest(cluster)), signal.SIGKILL)
        cluster.until(lambda: heard("node_down", "closed"), "a death on a full disk is over")
        cluster.until(lambda: heard("incident_store", "message"), "people are told that incidents are not written")
        (disk / "filler").unlink()
        mended = time.time()
        closed = cluster.wait("closed", killed_wall)
        cluster.until(lambda: cluster.metric("homeport_ops_store_ok") == 1, "the store writes again")
        over = [cluster.until(lambda: heard(rule, "message_end"), f"the alert {rule} ends")[0] for rule in ("disk", "incident_store")]
        end(streams)
        moved, detected = cluster.wait("action", killed_wall, "move_traffic"), cluster.wait("detected", killed_wall)
        actions = [f"{e[2]}{'' if e[5] else ' (refused)'}" for e in cluster.story() if e[0] >= killed_wall and e[1] in ("action", "undo")]
        assert (disk / "access.log").read_text().splitlines()[-1].startswith("{"), "requests are logged again"
        return {"alert": {"alert fired": alert["started_ms"] / 1000 - wall, "every channel told": max(told.values()),
                          "alert over and store writing after room": max(n["at_ms"] for n in over) / 1000 - mended},
                "detected": detected[0] - killed_wall, "moved": moved[0] - killed_wall, "recovered": closed[0] - killed_wall,
                "pause": max(s.pause for s in streams), "streams": sum(s.done for s in streams), "errors": sum((s.errors for s in streams), []), "refused": len(cluster.channels.bad),
                "actions": list(dict.fromkeys(actions))}


# ---- level 2: slow

@functools.cache
def variant_model():
    """The default model with its weights in q4_0 instead of q4_1, made once per process."""
    from requantize import requantize
    folder = tempfile.mkdtemp(prefix="hp-drill-variant-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    requantize(MODEL, "q4_0", f"{folder}/variant.gguf", os.devnull)
    return Path(folder) / "variant.gguf"


def degraded(cluster, limit, fault, mend, streams, expected=()):
    """All three steps of level 2 while the fault lasts, then each is taken back. `limit`: the action that comes first;
    `expected`: how the errors begin that are the fault itself."""
    figure = limit.replace("set_step_tokens", "homeport_max_step_tokens").replace("set_max_running", "homeport_max_running")
    limits = lambda: {n: cluster.metric(figure, n) for n in ("node0", "node1")}  # noqa: E731
    before, idle = limits(), cluster.metric("vllm:generation_tokens_total", "variant")
    wall, begun = time.time(), time.monotonic()
    fault()
    acted = cluster.wait("action", wall, limit)
    incident = acted[6]
    fired = cluster.wait("detected", wall, incident=incident)
    cluster.until(lambda: limits() == {n: v // 2 for n, v in before.items()}, f"{figure} is halved on the nodes' own pages")
    cluster.wait("action", wall, "use_variant", incident)
    cluster.until(lambda: cluster.metric("vllm:generation_tokens_total", "variant") > idle, "new requests run on the variant")
    cluster.wait("action", wall, "scale_out", incident)
    cluster.until(lambda: cluster.metric(figure, "node2") is not None, "the node that was added serves")
    told = cluster.told(begun)
    mended = time.time()
    mend()
    closed = cluster.wait("closed", wall, incident=incident)
    cluster.until(lambda: limits() == before, f"{figure} is as before")
    cluster.until(lambda: cluster.metric("homeport_fleet_running") == 2, "the node that was added ends")
    end(streams)
    story = [e for e in cluster.story() if e[6] == incident and e[5]]
    back = {"use_variant": "drop_variant", "scale_out": "scale_in"}
    done = [(e[2], e[3]) for e in story if e[1] == "action"]
    undone = [(e[2], e[3]) for e in story if e[1] == "undo"]
    assert undone == [(back.get(a, a), t) for a, t in reversed(done)], f"not taken back in reverse order: {done}, then {undone}"
    errors = sum((s.errors for s in streams), [])
    return {"fired": fired[0] - wall, "acted": acted[0] - fired[0], "notice": max(told.values()), "undone": closed[0] - mended,
            "streams": sum(s.done for s in streams), "errors": [e for e in errors if not e.startswith(expected)],
            "expected_errors": sum(e.startswith(expected) for e in errors), "refused": len(cluster.channels.bad),
            "actions": list(dict.fromkeys(e[2] for e in story if e[1] in ("action", "undo")))}


def two_groups(*engine, rules=SHORT_RULES, slots=64):
    """Two nodes and, in the second group, one with the variant. Only the playbook scales."""
    return contextlib.closing(Cluster("--nodes-max", 3, "--scaling-law=false", nodes=2, standby=0, rules=rules,
                                      playbooks=short_playbooks(STEP_WAIT_S), engine=("--max-running", slots, *engine), variant=variant_model()))


def clients(cluster, count, **members):
    streams = [Client(cluster.server, **members) for _ in range(count)]
    cluster.until(lambda: all(s.done for s in streams), "clients stream")
    return streams


def slow_rules(node):
    """The threshold for this machine as it is now: twice the latest first token of four clients at one node."""
    streams = [Client(node, max_tokens=8) for _ in range(4)]
    while not all(s.done > 1 for s in streams):
        time.sleep(0.1)
    end(streams)
    above = min(8, 2 * max(s.late for s in streams))  # the histogram ends at 10 s
    return SHORT_RULES + f"[latency_p99]\nabove = {above:.3f}\nclear = {0.9 * above:.3f}\nwindow_s = 20\nclear_for_s = 3\n"


def node_slow():
    """One of two nodes gets a fifth of the time: first tokens come late."""
    with two_groups(rules=slow_rules) as cluster:
        streams, slow = clients(cluster, 4, max_tokens=8, fresh=True), []
        return degraded(cluster, "set_step_tokens", lambda: slow.append(Slow(cluster.pid("node0"), 0.2, 0.05)), lambda: slow[0].mend(), streams)


def kv_full():
    """Nodes with a small KV pool, and many more streams than fit into it, each of them a thirtieth of it: one that ends leaves it full."""
    with two_groups("--kv-mib", 128, "--context", 512) as cluster:
        streams, burst = clients(cluster, 2), []
        def fault():
            burst.extend(Client(cluster.server, messages=[{"role": "user", "content": f"{i} " + "sea harbour wind lamp " * 25}], max_tokens=60,
                                ignore_eos=True) for i in range(120))
        result = degraded(cluster, "set_max_running", fault, lambda: end(burst), streams)
        return {**result, "streams": result["streams"] + sum(s.done for s in burst), "errors": result["errors"] + sum((s.errors for s in burst), [])}


def time_outs():
    """Clients with deadlines, held until a load comes that makes them wait: twelve answers deep, where a deadline is of three."""
    with two_groups(slots=2) as cluster:
        one = Client(cluster.server, max_tokens=60, ignore_eos=True)
        begun = time.monotonic()
        cluster.until(lambda: one.done > 2, "answers are timed")
        each = (time.monotonic() - begun) / one.done
        end([one])
        hasty, burst = clients(cluster, 2, headers={"Homeport-Deadline-Ms": f"{3000 * each:.0f}"}, max_tokens=4), []
        def fault():
            burst.extend(Client(cluster.server, max_tokens=60, ignore_eos=True) for _ in range(48))
        result = degraded(cluster, "set_step_tokens", fault, lambda: end(burst), hasty, expected=("503", "504"))
        return {**result, "streams": result["streams"] + sum(s.done for s in burst), "errors": result["errors"] + sum((s.errors for s in burst), [])}


def refusals():
    """A client whose question the model answers with a phrase of the list. The rule tells people; no playbook mends a model."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as phrases:
        phrases.write("# what this model says to its question\nI'm sorry\n")
        phrases.flush()
        with contextlib.closing(Cluster("--refusals-file", phrases.name, nodes=2, standby=1, rules=SHORT_RULES)) as cluster:
            streams = clients(cluster, 2)
            wall, begun = time.time(), time.monotonic()
            asking = [Client(cluster.server, messages=REFUSED)]
            alert = cluster.until(lambda: [n for _, n in cluster.channels.notices() if n["rule"] == "refusals"], "the rule fires")[0]
            told, mended = cluster.told(begun), time.time()
            end(asking)
            over = cluster.until(lambda: [n for _, n in cluster.channels.notices() if n["rule"] == "refusals" and n["kind"] == "message_end"],
                                 "the alert ends")[0]
            end(streams)
            return {"fired": alert["started_ms"] / 1000 - wall, "notice": max(told.values()), "undone": over["at_ms"] / 1000 - mended,
                    "streams": sum(s.done for s in streams + asking), "errors": sum((s.errors for s in streams + asking), []),
                    "expected_errors": 0, "refused": len(cluster.channels.bad), "actions": []}


# ---- the tables

LEVEL_1 = {"node killed": node_killed, "group killed": group_killed, "node hung": node_hung, "disk full": disk_full}
LEVEL_2 = {"node slow": node_slow, "KV full": kv_full, "time-outs": time_outs, "refusals": refusals}
COLUMNS_1 = (("detected", "detected"), ("moved", "moved"), ("pause", "longest pause of a stream"), ("bundle", "bundle"),
             ("notice", "all channels told"), ("lead", "lead told"), ("recovered", "recovered"))
COLUMNS_2 = (("fired", "fired"), ("acted", "first action after that"), ("notice", "all channels told"), ("undone", "all undone after the fault"))


def cell(rows, key):
    values = [row[key] for row in rows if row.get(key) is not None]
    return f"{statistics.median(values):.1f} / {max(values):.1f}" if values else "–"


def table(drills, columns, runs, wanted):
    """Prints one table as its rows come; how many runs went wrong."""
    names = [n for n in drills if not wanted or n in wanted]
    if not names:
        return 0
    print("\n| drill | " + " | ".join(title + " s" for _, title in columns) + " | streams | errors | actions |")
    print("|---|" + "---:|" * (len(columns) + 2) + "---|", flush=True)
    wrong = 0
    for name in names:
        rows = []
        try:
            for _ in range(runs):
                rows.append(drills[name]())
        except Skip as why:
            print(f"| {name} | skipped: {why} |", flush=True)
            continue
        except AssertionError as why:  # the others are run all the same
            print(f"| {name} | failed |", flush=True)
            print(f"  {name}: {why}", file=sys.stderr)
            wrong += 1
            continue
        errors = sum((row["errors"] for row in rows), [])
        expected = sum(row.get("expected_errors", 0) for row in rows)
        print(f"| {name} | " + " | ".join(cell(rows, key) for key, _ in columns) + f" | {sum(row['streams'] for row in rows)} | {len(errors)}"
              + (f" and {expected} past their deadline" if expected else "") + f" | {', '.join(rows[-1]['actions']) or 'none'} |", flush=True)
        for what in rows[0].get("alert", {}):
            print(f"  {name}: {what} {cell([row['alert'] for row in rows], what)}", flush=True)
        wrong += len(errors) + sum(row["refused"] + (row.get("texts", 1) != 1) for row in rows)
        for error in errors[:3]:
            print(f"  {name}: {error}", file=sys.stderr)
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help="names, separated by commas")
    args = parser.parse_args()
    wanted = [name for name in args.only.split(",") if name]
    unknown = set(wanted) - set(LEVEL_1) - set(LEVEL_2)
    if unknown:
        parser.error(f"there is no drill {', '.join(sorted(unknown))}; there are {', '.join([*LEVEL_1, *LEVEL_2])}")
    print(f"{args.runs} runs each; median / worst")
    return min(1, table(LEVEL_1, COLUMNS_1, args.runs, wanted) + table(LEVEL_2, COLUMNS_2, args.runs, wanted))


if __name__ == "__main__":
    sys.exit(main())
