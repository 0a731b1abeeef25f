#!/usr/bin/env python3
"""What the gateway costs, beside nginx and HAProxy as plain proxies to the same fake nodes, and what affinity brings.

One run, each figure interleaved so that a busy machine is busy for all three. Needs Debian's wrk, haproxy and nginx for
the requests; streams, prompts and affinity need nothing. Every proxy has one thread or worker.

usage: gateway_overhead.py [--build build/release] [--only requests|streams|open|prompts|affinity] [--json]
"""
import argparse
import http.client
import json
import os
import random
import resource
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("gateway_tool", "fake_node", "stream_load", "rate_load")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_seconds(pid):
    return sum(int(t.read_text().split()[0]) for t in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def rss_mib(pid):
    return next(int(l.split()[1]) for l in Path(f"/proc/{pid}/status").read_text().splitlines() if l.startswith("VmRSS")) / 1024


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder, self.processes, self.node_pids = args, folder, [], []
        self.build = ROOT / args.build
        if missing := [t for t in TOOLS if not (self.build / t).exists()]:
            raise SystemExit(f"{args.build} has no {' '.join(missing)}; build them: cmake --preset release && "
                             f"cmake --build build/release --target {' '.join(TOOLS)}")

    def spawn(self, *command, core=None):
        log = open(self.folder / "log.txt", "ab")
        process = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log,
                                   preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}))
        self.processes.append(process)
        return process

    def nodes(self, count, *flags):
        # The heartbeat is that of a real node.
        ports = [free_port() for _ in range(count)]
        self.node_pids = [self.spawn(self.build / "fake_node", "--port", p, "--heartbeat-ms", 250, *flags).pid for p in ports]
        return ports

    def gateway(self, nodes, policy="round-robin", processes=1, core=None, redis=None, more=()):
        """Port and pids. Several processes share the port."""
        port = free_port()
        names = ",".join(f"n{i}=127.0.0.1:{p}" for i, p in enumerate(nodes))
        flags = ["--port", port, "--node", names, "--policy", policy, "--access-log", "false", "--max-connections", "20000"]
        flags += ["--share-port", "true"] if processes > 1 else []
        flags += [*more, *(["--redis", f"127.0.0.1:{redis}"] if redis else [])]
        pids = []
        for _ in range(processes):
            pids.append(self.spawn(self.build / "gateway_tool", *flags, core=core).pid)
            self.wait_ready(port, len(nodes))
        time.sleep(0 if processes == 1 else 1)  # which of them said that it is ready we do not know
        return port, pids

    @staticmethod
    def wait_ready(port, nodes):
        for _ in range(200):
            try:
                c = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
                c.request("GET", "/ready")
                if json.loads(c.getresponse().read()).get("usable_nodes") == nodes:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError("the gateway is not ready")

    def haproxy(self, nodes):
        port, servers = free_port(), "".join(f"  server s{i} 127.0.0.1:{p}\n" for i, p in enumerate(nodes))
        config = self.folder / "haproxy.cfg"
        config.write_text(f"global\n  nbthread 1\n  maxconn 8000\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n"
                          f"  timeout server 60s\nfrontend f\n  bind 127.0.0.1:{port}\n  default_backend b\nbackend b\n"
                          f"  balance roundrobin\n{servers}")
        process = self.spawn("haproxy", "-db", "-f", config)
        return port, [process.pid]

    def nginx(self, nodes):
        port, servers = free_port(), "".join(f"server 127.0.0.1:{p}; " for p in nodes)
        config = self.folder / "nginx.conf"
        config.write_text(f"worker_processes 1; master_process off; daemon off; pid {self.folder}/nginx.pid; error_log {self.folder}/nginx.err;\n"
                          f"events {{ worker_connections 9000; }}\nhttp {{ access_log off; client_max_body_size 32m; client_body_buffer_size 1m;\n"
                          f"client_body_temp_path {self.folder}/b; proxy_temp_path {self.folder}/p;\nupstream u {{ {servers} keepalive 256; }}\n"
                          f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://u; proxy_http_version 1.1;\n"
                          f"proxy_set_header Connection \"\"; proxy_buffering off; }} }} }}\n")
        process = self.spawn("nginx", "-c", config)
        return port, [process.pid]

    def wrk(self, port, connections, seconds, body_bytes, cold=False):
        """`cold`: every prompt begins differently, so that no prefix is known from before."""
        script = self.folder / "post.lua"
        script.write_text('wrk.method="POST" wrk.headers["Content-Type"]="application/json"\n'
                          f"local rest = string.rep('x',{max(0, body_bytes - 24)})..'\"}}' local n = 0\n"
                          "local function body(i) return string.format('{\"model\":\"fake\",\"prompt\":\"%024d', i)..rest end\n"
                          "wrk.body = body(0)\n"
                          + ("request = function() n = n + 1 return wrk.format(nil, nil, nil, body(n)) end\n" if cold else "") +
                          "done = function(s, l, r) io.write(string.format('%d %d %d\\n', s.requests, l:percentile(50), s.errors.status)) end\n")
        out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script, f"http://127.0.0.1:{port}/v1/embeddings"],
                             capture_output=True, text=True, check=True).stdout.strip().splitlines()[-1]
        requests, p50_us, errors = map(int, out.split())
        assert errors == 0 and requests > 0, out
        return requests, p50_us

    def load(self, tool, **flags):
        words = [w for name, value in flags.items() for w in (f"--{name.replace('_', '-')}", str(value))]
        return subprocess.Popen([str(self.build / tool), *words], stdout=subprocess.PIPE, text=True)

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()


def small_requests(bench, result):
    missing = [name for name in ("wrk", "haproxy", "nginx") if not shutil.which(name)]
    if missing:
        raise SystemExit(f"missing: {' '.join(missing)}; Debian has them: apt-get install {' '.join(missing)}")
    nodes = bench.nodes(2)
    time.sleep(0.5)
    proxies = {"homeport": bench.gateway(nodes), "haproxy": bench.haproxy(nodes), "nginx": bench.nginx(nodes)}
    time.sleep(1)
    direct = statistics.median(bench.wrk(nodes[0], 1, 2, 150)[1] for _ in range(bench.args.rounds))
    for size, cold in [(s, c) for s in (200, 16 << 10, 450 << 10, 1 << 20) for c in (False, True)]:
        cost, p50 = {n: [] for n in proxies}, {n: [] for n in proxies}
        for _ in range(bench.args.rounds):
            for name, (port, [pid]) in proxies.items():
                before = cpu_seconds(pid)
                requests, _ = bench.wrk(port, 32, bench.args.seconds, size, cold)
                cost[name].append((cpu_seconds(pid) - before) * 1e6 / requests)
                if size == 200 and not cold:
                    p50[name].append(bench.wrk(port, 1, 2, size)[1])
        for name, (port, [pid]) in proxies.items():
            row = {"cpu_s_per_1000": round(statistics.median(cost[name]) / 1000, 5), "rss_mib": round(rss_mib(pid), 1)}
            if name != "haproxy":
                row["of_haproxy"] = round(statistics.median(cost[name]) / statistics.median(cost["haproxy"]), 2)
            if size == 200 and not cold:
                row["added_p50_us"] = round(statistics.median(p50[name]) - direct, 1)
            result[f"{name}, {size} byte prompts, {'cold' if cold else 'hot'}"] = row
    bench.close()


def streams(bench, result, count, pace_us, gateways):
    """Streams that do not end, all of them heard for the whole time."""
    nodes = bench.nodes(2, "--pace-us", pace_us)
    time.sleep(0.5)
    port, pids = bench.gateway(nodes, processes=gateways)
    seconds = bench.args.hold
    load = bench.load("stream_load", port=port, streams=count, seconds=seconds)
    while load.stdout.readline().strip() not in ("measuring", ""):
        pass
    before, begin = [cpu_seconds(p) for p in pids + bench.node_pids], time.monotonic()
    time.sleep(seconds - 1)
    cores = [round((cpu_seconds(p) - b) / (time.monotonic() - begin), 2) for p, b in zip(pids + bench.node_pids, before)]
    memory = sum(map(rss_mib, pids))
    report = json.loads(load.communicate()[0].strip().splitlines()[-1])
    result[f"{count} streams, {1e6 / pace_us:g} tokens/s each, {gateways} gateway process{'es' if gateways > 1 else ''}"] = report | {
        "gateway_cores": cores[:gateways], "node_cores": cores[gateways:], "gateway_rss_mib": round(memory, 1)}
    bench.close()


def prompts(bench, result):
    """Long prompts at a fixed rate through a gateway that has one core; the same without it."""
    nodes = bench.nodes(2, "--pace-us", 1000)
    time.sleep(0.5)
    port, [pid] = bench.gateway(nodes, "prefix", core=0)
    for name, to in (("without a gateway", nodes[0]), ("through the gateway", port)):
        before, begin = cpu_seconds(pid), time.monotonic()
        load = bench.load("rate_load", port=to, rate=50, seconds=20, prompt_bytes=450 << 10)
        row = json.loads(load.communicate()[0])
        if to == port:
            row |= {"gateway_cores": round((cpu_seconds(pid) - before) / (time.monotonic() - begin), 3),
                    "gateway_rss_mib": round(rss_mib(pid), 1)}
        result[f"450 KiB prompts, 50 a second, {name}"] = row
    bench.close()


def affinity(bench, result, policy):
    """4 nodes that can cache 20 of 64 shared prefixes each; 0.2 ms of prefill for a token that is not cached."""
    nodes = bench.nodes(4, "--pace-us", 2000, "--prefill-us", 200, "--cached-blocks", 340)
    time.sleep(0.5)
    port, _ = bench.gateway(nodes, policy)
    rng, first, lock = random.Random(1), [], threading.Lock()
    prefixes = [f"prefix {i} " + "".join(rng.choices("abcdefgh ", k=4096)) for i in range(64)]

    def one(number):
        body = json.dumps({"model": "fake", "stream": True, "max_tokens": 16,
                           "messages": [{"role": "system", "content": prefixes[number % 64 if number < 64 else random.Random(number).randrange(64)]},
                                        {"role": "user", "content": f"question {number}"}]})
        begin = time.monotonic()
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        c.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = c.getresponse()
        answer.readline()
        with lock:
            first.append(time.monotonic() - begin)
        answer.read()
        c.close()

    time.sleep(10)  # fresh nodes get a small share at first: not what is measured here
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(1500)))
    stats = []
    for node in nodes:
        c = http.client.HTTPConnection("127.0.0.1", node, timeout=5)
        c.request("GET", "/stats")
        stats.append(json.loads(c.getresponse().read()))
    requests = [s["requests"] for s in stats]
    result[f"64 prefixes on 4 nodes, {policy}"] = {
        "hit_rate": round(sum(s["cached_blocks"] for s in stats) / sum(s["prompt_blocks"] for s in stats), 3),
        "first_token_mean_ms": round(statistics.mean(first) * 1000, 1),
        "most_loaded_over_mean": round(max(requests) * 4 / sum(requests), 3)}
    bench.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--open", type=int, default=10_000)
    parser.add_argument("--hold", type=int, default=30, help="seconds that the streams are held")
    parser.add_argument("--only", choices=["requests", "streams", "open", "prompts", "affinity"])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    result = {}
    with tempfile.TemporaryDirectory(prefix="homeport-bench-") as folder:
        bench = Bench(args, Path(folder))
        try:
            if args.only in (None, "requests"):
                small_requests(bench, result)
            if args.only in (None, "streams"):
                streams(bench, result, args.streams, 50_000, gateways=1)
            if args.only in (None, "open"):  # two descriptors a stream: one process may not have so many
                streams(bench, result, args.open, 1_000_000, gateways=1 if hard > 2 * args.open + 200 else 2)
            if args.only in (None, "prompts"):
                prompts(bench, result)
            if args.only in (None, "affinity"):
                for policy in ("round-robin", "prefix"):
                    affinity(bench, result, policy)
        finally:
            bench.close()
    if args.json:
        print(json.dumps(result))
        return
    for name, row in result.items():
        print(f"{name:42}", "  ".join(f"{k} {v}" for k, v in row.items()))


if __name__ == "__main__":
    main()
