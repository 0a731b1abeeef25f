#!/usr/bin/env python3
"""What Redis costs a request: gateways without one, with one, with one that is frozen for a third of each round and with
ones whose answers are late, side by side in one run. Streams of 16 tokens come at a fixed rate: plain ones, ones with an
Idempotency-Key and ones that the response cache may answer. The last two ask Redis before they begin.

usage: gateway_redis.py [--build build/release] [--rate 100] [--seconds 2] [--rounds 3] [--json]
"""
import argparse
import json
import shutil
import signal
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path

from gateway_overhead import Bench, cpu_seconds, free_port

LATE_MS = (20, 30)
KINDS = {"": {}, ", with key": {"idempotency": 1}, ", cacheable": {"cacheable": 1}}


def late_proxy(redis_port, delay):
    """A port that leads to Redis; what Redis says arrives `delay` seconds later."""
    listener = socket.create_server(("127.0.0.1", 0))

    def forward(source, to, pause):
        try:
            while data := source.recv(1 << 16):
                time.sleep(pause)
                to.sendall(data)
        except OSError:
            pass
        for end in (source, to):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def serve():
        while True:
            client, _ = listener.accept()
            try:
                server = socket.create_connection(("127.0.0.1", redis_port))
            except OSError:
                client.close()
                continue
            threading.Thread(target=forward, args=(client, server, 0), daemon=True).start()
            threading.Thread(target=forward, args=(server, client, delay), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def redis(bench):
    port = free_port()
    process = bench.spawn("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
    while True:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return port, process.pid
        time.sleep(0.05)


def one_round(bench, port, pid, frozen, flags):
    args = bench.args
    before = cpu_seconds(pid)
    load = bench.load("rate_load", port=port, rate=args.rate, seconds=args.seconds, max_tokens=16, **flags)
    if frozen:
        time.sleep(args.seconds / 3)
        frozen.send_signal(signal.SIGSTOP)
        time.sleep(args.seconds / 3)
        frozen.send_signal(signal.SIGCONT)
    row = json.loads(load.communicate()[0])
    return row | {"cpu_us": (cpu_seconds(pid) - before) * 1e6 / row["requests"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rate", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not shutil.which("redis-server"):
        raise SystemExit("missing: redis-server; Debian has it: apt-get install redis-server")
    with tempfile.TemporaryDirectory(prefix="homeport-bench-") as folder:
        bench = Bench(args, Path(folder))
        try:
            result = measure(bench)
        finally:
            bench.close()
    if args.json:
        print(json.dumps(result))
        return
    for name, row in result.items():
        print(f"{name:44}", "  ".join(f"{k} {v}" for k, v in row.items()))


def measure(bench):
    nodes = bench.nodes(2, "--pace-us", 1000)
    time.sleep(0.5)
    healthy, _ = redis(bench)
    freezing, _ = redis(bench)
    freezer = bench.processes[-1]
    cases = {"without Redis": None, "Redis": healthy, "Redis frozen for a third of the time": freezing}
    cases |= {f"Redis {ms} ms late": late_proxy(healthy, ms / 1000) for ms in LATE_MS}
    gateways = {name: bench.gateway(nodes, redis=port, more=["--response-cache", "true"]) for name, port in cases.items()}
    time.sleep(1)
    rows = {}
    for _ in range(bench.args.rounds):
        for kind, flags in KINDS.items():
            for name, (port, [pid]) in gateways.items():
                frozen = freezer if cases[name] == freezing else None
                rows.setdefault((kind, name), []).append(one_round(bench, port, pid, frozen, flags))
    result = {}
    for (kind, name), rounds in sorted(rows.items(), key=lambda entry: list(KINDS).index(entry[0][0])):
        result[name + kind] = {
            "failed": sum(r["failed"] for r in rounds), "of": sum(r["requests"] for r in rounds)} | {
            key: round(statistics.median(r[key] for r in rounds), 2)
            for key in ("first_p50_ms", "first_p99_ms", "p50_ms", "p99_ms", "max_ms", "cpu_us")}
    return result


if __name__ == "__main__":
    main()
