#!/usr/bin/env python3
"""A Poisson load through `homeport serve`, and one of its nodes killed in the middle of it.

usage: bench/serving_under_kill.py [MODEL.gguf | random:8b | random:tiny] [--device cuda] [--requests 2000] [--rate 100] [--nodes 2] [--no-kill]

random: a checkpoint of Llama-3-8B's shape in /dev/shm, for as long as this runs (16 GB; needs numpy).
Prints first-token and inter-token times, throughput, requests that failed (none may), and the KV blocks that sequences still
hold when all is quiet (none may). The same load runs once without and once with the kill.
"""
import argparse, contextlib, json, pathlib, re, signal, socket, subprocess, sys, tempfile, threading, time, urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(port, path):
    return urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).read().decode()


def wait_ready(port, process):
    for _ in range(600):
        try:
            return get(port, "/ready")
        except OSError:
            if process.poll() is not None:
                sys.exit("the server ended; its lines above say why")
            time.sleep(0.1)
    sys.exit("the server did not get ready")


def children(pid):
    return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def load(program, port, a, seed):
    out = subprocess.run([program, "bench", "--url", f"http://127.0.0.1:{port}", "--requests", str(a.requests), "--rate", str(a.rate),
                          "--streams", str(a.most), "--prompt-tokens", str(a.prompt), "--answer-tokens", str(a.answer), "--seed", str(seed), "--json"],
                         stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out)["rows"][0]


@contextlib.contextmanager
def model(name):
    if not name.startswith("random:"):
        yield name
        return
    sys.path.insert(0, str(ROOT / "scripts"))
    import random_checkpoint

    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="homeport_bench_") as folder:
        random_checkpoint.write(pathlib.Path(folder), small=name == "random:tiny")
        yield folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=str(pathlib.Path.home() / ".homeport/models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=100, help="requests a second, at random times")
    parser.add_argument("--most", type=int, default=512, help="streams at once")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--answer", type=int, default=64)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--kv-mib", type=int, default=4096)
    parser.add_argument("--gpu-weights", default="bf16")
    parser.add_argument("--no-kill", action="store_true")
    parser.add_argument("--program", default=str(ROOT / "build/release/homeport"))
    a = parser.parse_args()
    with model(a.model) as path:
        a.model = path
        run(a)


def run(a):
    port = free_port()
    server = subprocess.Popen([a.program, "serve", "--model", a.model, "--port", str(port), "--device", a.device, "--nodes", str(a.nodes),
                               "--kv-mib", str(a.kv_mib), "--gpu-weights", a.gpu_weights, "--max-running", "256", "--access-log=false"], stdout=subprocess.DEVNULL)
    try:
        wait_ready(port, server)
        for kill in [False] if a.no_kill else [False, True]:
            if kill:
                at = a.requests / a.rate / 2
                threading.Timer(at, lambda: subprocess.run(["kill", "-9", str(children(server.pid)[0])])).start()
            row = load(a.program, port, a, seed=1 + kill)  # other prompts: none is cached
            first, between = row["first_token_ms"], row["between_tokens_ms"]
            print(f"{'with a kill' if kill else 'without faults':<15} {row['finished']} finished, {row['failed']} failed, "
                  f"{row['tokens_per_second']:.0f} tokens/s; first token p50 {first['p50']:.1f} p99 {first['p99']:.1f} ms; "
                  f"between tokens p50 {between['p50']:.2f} p99 {between['p99']:.2f} ms", flush=True)
        time.sleep(2)
        held = re.findall(r"^homeport_kv_blocks_(used|cached)\{?.*?\}? ([\d.e+]+)$", get(port, "/metrics"), re.M)
        print("KV blocks at rest:", ", ".join(f"{kind} {float(value):.0f}" for kind, value in held) or "not shown by this address")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


if __name__ == "__main__":
    main()
