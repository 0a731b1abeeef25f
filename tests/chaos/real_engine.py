#!/usr/bin/env python3
"""make chaos, tier (b): the real engine and the default model under kill -9, through a gateway.

Runs every request once without faults, then again while node processes are killed and frozen, and compares: the text
of every choice, every logprob, finish reasons and usage must be equal, byte for byte. One JSON line at the end.

usage: real_engine.py [--streams 300] [--concurrent 6] [--nodes 3] [--every 2] [--seed 1] [--program build/dev/homeport]
"""
import argparse
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from serving import free_port  # noqa: E402

QUESTIONS = ["Tell me about the sea.", "Why is the sky blue?", "Write a short story about a fox.", "List five fruits.",
             "What is a prime number?", "Explain rain to a child.", "Name some rivers in Europe.", "How does bread rise?"]


def make_request(rng, number):
    """One of the kinds that a resume has to carry: sampling, penalties, stops, logprobs, many choices, a schema."""
    body = {"model": "default", "stream": True, "max_tokens": rng.randint(8, 48), "stream_options": {"include_usage": True}}
    question = f"{rng.choice(QUESTIONS)} ({number})"
    chat = rng.random() < 0.75
    if chat:
        body["messages"] = [{"role": "user", "content": question}]
    else:
        body["prompt"] = question
    if rng.random() < 0.5:
        body |= {"temperature": 0}
    else:
        body |= {"temperature": 0.8, "top_p": 0.95, "seed": rng.randint(0, 1 << 30)}
    kind = rng.choice(["plain", "penalties", "stop", "logprobs", "n", "schema"])
    if kind == "penalties":
        body |= {"frequency_penalty": 0.5, "presence_penalty": 0.3}
    elif kind == "stop":
        body |= {"stop": [" the", "\n\n"]}
    elif kind == "logprobs":
        body |= {"logprobs": True, "top_logprobs": 2} if chat else {"logprobs": 2}
    elif kind == "n":
        body |= {"n": 2}
    elif kind == "schema" and chat:
        body |= {"response_format": {"type": "json_object"}}
    return ("/v1/chat/completions" if chat else "/v1/completions"), body, kind


class Seen:
    """What the client of one stream was given."""

    def __init__(self):
        self.choices, self.usage, self.done, self.error, self.gap = {}, None, False, None, 0.0

    def take(self, data):
        if data == "[DONE]":
            self.done = True
            return
        chunk = json.loads(data)
        if "error" in chunk:
            self.error = chunk["error"]
        if chunk.get("usage"):
            self.usage = (chunk["usage"]["prompt_tokens"], chunk["usage"]["completion_tokens"])
        for choice in chunk.get("choices", []):
            part = choice.get("delta", choice)
            mine = self.choices.setdefault(choice["index"], {"text": "", "logprobs": [], "finish": None, "chunks": 0})
            mine["chunks"] += 1
            mine["text"] += part.get("content") or part.get("text") or ""
            if choice.get("logprobs"):
                mine["logprobs"].append(choice["logprobs"])
            mine["finish"] = choice.get("finish_reason") or mine["finish"]

    def same(self, other):
        return self.done and other.done and self.choices == other.choices and self.usage == other.usage


def run_stream(port, target, body):
    seen, last = Seen(), time.monotonic()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        connection.request("POST", target, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            seen.error = f"{answer.status}: {answer.read()[:300]!r}"
            return seen
        first = True
        for line in answer:
            if line.startswith(b"data: "):
                now = time.monotonic()
                seen.gap, last, first = (seen.gap if first else max(seen.gap, now - last)), now, False
                seen.take(line[6:].decode().strip())
        connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        seen.error = repr(error)
    return seen


class Cluster:
    def __init__(self, program, model, nodes, folder, device="cpu"):
        self.program, self.model, self.folder, self.device = program, model, folder, device
        self.ports, self.nodes = [free_port() for _ in range(nodes)], [None] * nodes
        self.logs = open(folder / "log.txt", "ab")
        for i in range(nodes):
            self.start_node(i)
        self.port = free_port()
        names = ",".join(f"node{i}=127.0.0.1:{p}" for i, p in enumerate(self.ports))
        self.gateway = self.spawn("gateway", "--port", str(self.port), "--node", names)
        self.wait_ready(nodes)

    def spawn(self, *words):
        return subprocess.Popen([self.program, *words], stdout=self.logs, stderr=self.logs, cwd=ROOT)

    def start_node(self, i):
        self.nodes[i] = self.spawn("node", "--model", str(self.model), "--port", str(self.ports[i]), "--journal", "--device", self.device,
                                   "--threads", "1", "--kv-mib", "64", "--access-log=false")

    def wait_ready(self, wanted, seconds=300):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
                connection.request("GET", "/ready")
                if json.loads(connection.getresponse().read()).get("usable_nodes", 0) >= wanted:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"the cluster is not ready; see {self.folder}/log.txt")

    def close(self):
        for process in [*self.nodes, self.gateway]:
            process.kill()
            process.wait()
        self.logs.close()


def break_things(cluster, rng, every, stop, counts):
    """kill -9 or SIGSTOP of one node at a time; it is back after a second or four."""
    while not stop.wait(every):
        i = rng.randrange(len(cluster.nodes))
        node = cluster.nodes[i]
        if rng.random() < 0.7:
            counts["kill node"] += 1
            node.kill()
            node.wait()
            stop.wait(1)
            cluster.start_node(i)
        else:
            counts["freeze node"] += 1
            node.send_signal(signal.SIGSTOP)
            stop.wait(4)
            node.send_signal(signal.SIGCONT)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--concurrent", type=int, default=6)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--every", type=float, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="of the nodes: cpu or cuda")
    parser.add_argument("--program", default=str(ROOT / "build" / "dev" / "homeport"))
    parser.add_argument("--model", default=os.path.expanduser("~/.homeport/models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    args = parser.parse_args()
    rng = random.Random(args.seed)
    requests = [make_request(rng, i) for i in range(args.streams)]
    counts = {"kill node": 0, "freeze node": 0}
    with tempfile.TemporaryDirectory(prefix="homeport-chaos-") as folder:
        cluster = Cluster(args.program, args.model, args.nodes, Path(folder), args.device)
        try:
            def run_all():
                with ThreadPoolExecutor(args.concurrent) as pool:
                    return list(pool.map(lambda r: run_stream(cluster.port, r[0], r[1]), requests))
            begin = time.monotonic()
            expected = run_all()
            quiet_s = time.monotonic() - begin
            stop = threading.Event()
            breaker = threading.Thread(target=break_things, args=(cluster, rng, args.every, stop, counts))
            breaker.start()
            begin = time.monotonic()
            seen = run_all()
            faulty_s = time.monotonic() - begin
            stop.set()
            breaker.join()
        finally:
            cluster.close()
    refused = [i for i in range(args.streams) if str(expected[i].error or "").startswith("400")]
    wrong = [i for i in range(args.streams) if i not in refused and not seen[i].same(expected[i])]
    for i in wrong[:5]:
        print(f"  wrong: {requests[i][2]} {requests[i][1]}\n    expected {expected[i].choices} {expected[i].usage} {expected[i].error}"
              f"\n    seen     {seen[i].choices} {seen[i].usage} {seen[i].error}")
    gaps = sorted(s.gap for s in seen)
    kinds = {}
    for request in requests:
        kinds[request[2]] = kinds.get(request[2], 0) + 1
    tokens = sum(s.usage[1] for s in seen if s.usage)
    print(json.dumps({"tier": "b: real engine", "pass": not wrong, "seed": args.seed, "streams": args.streams,
                      "unequal": len(wrong), "refused_kinds": sorted({requests[i][2] for i in refused}), "refused": len(refused), "tokens": tokens, "kinds": kinds, "faults": counts,
                      "longest_gap_p50_s": round(gaps[len(gaps) // 2], 3),
                      "longest_gap_p99_s": round(gaps[int(len(gaps) * 0.99) - 1 if len(gaps) > 1 else 0], 3),
                      "longest_gap_max_s": round(gaps[-1], 3), "quiet_s": round(quiet_s, 1), "faulty_s": round(faulty_s, 1)}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
