#!/usr/bin/env python3
"""What batching and paging are worth, on the default model through the server.

usage: bench/serving.py [MODEL.gguf] [--rounds 3]

1. Throughput of 16 concurrent streams over one at a time (64 + 64 tokens a stream): the ratio of medians.
2. KV memory of a mixed-length load: the most blocks in use at once, beside what a server without paging would reserve for
   the same sequences: the whole context each, or each one's prompt plus its max_tokens.
"""
import argparse, json, pathlib, random, socket, statistics, subprocess, sys, threading, time, urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
BLOCK = 16


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def metric(port, name):
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    for line in text.splitlines():
        if line.startswith(name) and line[len(name)] in " {":
            return float(line.rsplit(" ", 1)[1])
    sys.exit(f"no metric {name}")


def start(program, model):
    port = free_port()
    server = subprocess.Popen([program, "serve", "--model", model, "--port", str(port), "--device", "cpu", "--no-access-log"],
                              stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ready")
            return server, port
        except OSError:
            time.sleep(0.1)
    sys.exit("the server did not get ready")


def throughput(program, port, streams):
    out = subprocess.run([program, "bench", "--url", f"http://127.0.0.1:{port}", "--streams", str(streams), "--prompt-tokens", "64",
                          "--answer-tokens", "64", "--requests", str(max(2, streams)), "--json"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out)["rows"][0]["tokens_per_second"]


def mixed_load(port, context, count=48):
    """Peak blocks in use, and the two reservations for the sequences that were running then."""
    rng = random.Random(7)
    running, lock, peak = {}, threading.Lock(), [0, 0, 0, 0]

    def request(i, prompt, answer):
        body = json.dumps({"model": "default", "prompt": [100 + rng.randrange(900) for _ in range(prompt)], "max_tokens": 512,
                           "stop": None, "stream": True, "ignore_eos": True}).encode()
        r = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", body, {"content-type": "application/json"})
        with urllib.request.urlopen(r) as answer_stream:
            with lock:
                running[i] = prompt + 512
            tokens = 0
            for line in answer_stream:
                tokens += line.startswith(b"data: {")
                if tokens >= answer:  # most answers end long before max_tokens; here the client leaves
                    break
        with lock:
            running.pop(i)

    jobs = [(i, int(min(1400, rng.lognormvariate(4.5, 1.0)) + 8), int(min(500, rng.lognormvariate(3.3, 0.8)) + 4)) for i in range(count)]
    threads = [threading.Thread(target=request, args=job) for job in jobs]
    for t in threads:
        t.start()
        time.sleep(0.02)
    while any(t.is_alive() for t in threads):
        used = metric(port, "homeport_kv_blocks_used")
        with lock:
            if used > peak[0] and running:
                peak = [used, len(running), len(running) * context / BLOCK, sum(-(-v // BLOCK) for v in running.values())]
        time.sleep(0.05)
    return peak


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=str(pathlib.Path.home() / ".homeport/models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--program", default=str(ROOT / "build/release/homeport"))
    a = parser.parse_args()
    server, port = start(a.program, a.model)
    try:
        one, many = [], []
        for _ in range(a.rounds):
            one.append(throughput(a.program, port, 1))
            many.append(throughput(a.program, port, 16))
        print(f"throughput: one at a time {statistics.median(one):.1f} tokens/s, 16 streams {statistics.median(many):.1f}: "
              f"ratio {statistics.median(many) / statistics.median(one):.2f}", flush=True)
        context = 2048
        used, running, whole, asked = mixed_load(port, context)
        print(f"KV at its peak: {used:.0f} blocks for {running:.0f} sequences; contiguous reservation of the whole context "
              f"({context}) {whole:.0f} blocks: {100 * (1 - used / whole):.0f} % less; of prompt + max_tokens {asked:.0f} blocks: "
              f"{100 * (1 - used / asked):.0f} % less")
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
