#!/usr/bin/env python3
"""Homeport's server beside llama.cpp's own: the same file, threads and requests, in turn in one run.

usage: bench/serving_peer.py [MODEL.gguf] [--streams 1,4,16,64] [--rounds 1] [--peers llama_server] [--csv FILE]

Every stream asks for a completion of about 128 words of its own and 128 tokens of answer, greedy, over a connection of its own; all begin
at once. Figures: tokens/s of all streams, first token and the pause between tokens (p50, p99) in milliseconds, resident
memory. For each number of streams the servers take turns, `rounds` times; a figure is the median of the rounds. Peers: llama_server is
llama.cpp's server with a slot for each stream (bench/peer_llama_cpp.py builds it from the package's source); llama_cpp_python is the Python
package's, which answers one request at a time.
"""
import argparse, csv, datetime, http.client, json, pathlib, random, statistics, subprocess, sys, threading, time

import peer_llama_cpp
from serving import free_port

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORDS = "the of and to in is that for it was on are as with they be at one have this from by hot but some what there we can out".split()
SERVER = ["uvicorn", "fastapi", "sse-starlette", "starlette-context", "pydantic-settings", "PyYAML"]
ANSWER = 128
SLOT_TOKENS = 384  # of a stream's context: its prompt of about 160 and its answer
COLUMNS = ["date", "commit", "model", "threads", "server", "streams", "tokens_per_second", "first_p50_ms", "first_p99_ms", "pause_p50_ms",
           "pause_p99_ms", "rss_mb", "failed"]


def percentile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))] if values else float("nan")


def stream(port, seed, out):
    rng = random.Random(seed)
    body = {"model": "default", "prompt": " ".join(rng.choice(WORDS) for _ in range(128)), "max_tokens": ANSWER, "stream": True, "temperature": 0,
            "ignore_eos": True}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    start, times = time.perf_counter(), []
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        if response.status == 200:
            for line in response:
                if line.startswith(b"data: {"):
                    chunk = json.loads(line[6:])
                    if any(c.get("text") for c in chunk["choices"]):
                        times.append(time.perf_counter() - start)
    except OSError:
        times = []
    out.append(times)


def measure(port, pid, streams, turn):
    out, start = [], time.perf_counter()
    threads = [threading.Thread(target=stream, args=(port, (turn * 100 + streams) * 1000 + i, out)) for i in range(streams)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    spent, good = time.perf_counter() - start, [t for t in out if t]
    pauses = [1e3 * (b - a) for t in good for a, b in zip(t, t[1:], strict=False)]
    first = [1e3 * t[0] for t in good]
    rss = [int(x.split()[1]) for x in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS")][0] / 1024
    return {"tokens_per_second": sum(map(len, good)) / spent, "first_p50_ms": percentile(first, 0.5), "first_p99_ms": percentile(first, 0.99),
            "pause_p50_ms": percentile(pauses, 0.5), "pause_p99_ms": percentile(pauses, 0.99), "rss_mb": rss, "failed": streams - len(good)}


def start(command, port, path):
    server = subprocess.Popen([str(c) for c in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return server
        except OSError:
            pass
        if server.poll() is not None:
            break
        time.sleep(0.1)
    sys.exit(f"{command[0]} did not start")


def launch(name, a, most):
    """Starts one of the servers and gives its port and process; it has room for `most` streams at once."""
    port = free_port()
    if name == "homeport":
        return port, start([a.program, "node", "--model", a.model, "--port", port, "--device", "cpu", "--threads", a.threads,
                            "--no-access-log"], port, "/ready")
    if name == "llama_server":
        return port, start([peer_llama_cpp.peer_server(), "-m", a.model, "--port", port, "-t", a.threads, "-tb", a.threads, "-np", most,
                            "-c", most * SLOT_TOKENS], port, "/health")
    python = peer_llama_cpp.peer_python()
    if subprocess.run([python, "-c", "import llama_cpp.server.app"], stderr=subprocess.DEVNULL).returncode != 0:
        subprocess.run([python, "-m", "pip", "install", "--quiet", *SERVER], check=True)
    return port, start([python, "-m", "llama_cpp.server", "--model", a.model, "--port", port, "--n_threads", a.threads, "--n_threads_batch",
                        a.threads, "--n_ctx", 2048, "--n_batch", 512, "--interrupt_requests", "false"], port, "/v1/models")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=str(pathlib.Path.home() / ".homeport/models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    parser.add_argument("--streams", default="1,4,16,64")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peers", default="llama_server")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--csv", type=pathlib.Path)
    parser.add_argument("--program", default=str(ROOT / "build/release/homeport"))
    a = parser.parse_args()
    peers = a.peers.split(",")
    unknown = [p for p in peers if p not in ("llama_server", "llama_cpp_python")]
    if unknown:
        parser.error(f"no peer {', '.join(unknown)}")
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(git, stdout=subprocess.PIPE, text=True).stdout.strip()
    fixed = {"date": datetime.date.today(), "commit": commit, "model": pathlib.Path(a.model).name, "threads": a.threads}
    sizes = [int(s) for s in a.streams.split(",")]
    servers = {name: launch(name, a, max(sizes)) for name in ["homeport", *peers]}
    print(f"{pathlib.Path(a.model).name}, {a.threads} threads, commit {commit}, {a.rounds} rounds, medians\n"
          f"{'server':<18}{'streams':>8}{'tokens/s':>10}{'first p50':>11}{'p99':>9}{'pause p50':>11}{'p99':>9}{'MB':>7}{'failed':>8}")
    for port, process in servers.values():
        measure(port, process.pid, 1, 0)  # warms up
    for streams in sizes:
        found = {name: [] for name in servers}
        for turn in range(1, a.rounds + 1):
            for name, (port, process) in servers.items():
                found[name].append(measure(port, process.pid, streams, turn))
        for name, rounds in found.items():
            row = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
            print(f"{name:<18}{streams:>8}{row['tokens_per_second']:>10.1f}{row['first_p50_ms']:>11.0f}{row['first_p99_ms']:>9.0f}"
                  f"{row['pause_p50_ms']:>11.1f}{row['pause_p99_ms']:>9.1f}{row['rss_mb']:>7.0f}{row['failed']:>8.0f}", flush=True)
            if a.csv:
                new = not a.csv.exists()
                with open(a.csv, "a", newline="") as f:
                    out = csv.DictWriter(f, COLUMNS, lineterminator="\n")
                    if new:
                        out.writeheader()
                    out.writerow(fixed | {"server": name, "streams": streams} | {k: round(v, 1) for k, v in row.items()})
    for _, process in servers.values():
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
