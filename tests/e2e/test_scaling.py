"""The scaling law drives a local fleet: a queue starts a second node, quiet ends it, and no stream notices."""
import json
import re
import sys
import threading
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from serving import Server, wait_for  # noqa: E402


def ask(url, i, answers):
    body = {"model": "default", "prompt": f"Count from {i}:", "max_tokens": 200, "temperature": 0, "ignore_eos": True}
    request = urllib.request.Request(f"{url}/v1/completions", json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=1200) as answer:
        answers[i] = json.loads(answer.read())


def seen(server, words):
    return wait_for(lambda: words in server.log(), 600, server.log)


def test_a_queue_starts_a_node_and_quiet_ends_it():
    with Server("--nodes", 1, "--nodes-max", 2, "--max-running", 1, "--scale-quiet-s", 6, "--queue-timeout-ms", 1_200_000,
                "--kv-mib", 64, "--context", 512, "--threads", 1, command="serve") as server:
        assert seen(server, "info ready: http://"), server.log()  # the node's own "ready" comes first
        server.port = int(re.search(r"ready: http://127\.0\.0\.1:(\d+)", server.log()).group(1))
        assert "node1 started" not in server.log()
        stop, answers, threads = threading.Event(), {}, []

        def keep_asking(i):
            while not stop.is_set():
                ask(server.url, i, answers)

        for i in range(6):
            threads.append(threading.Thread(target=keep_asking, args=(i,)))
            threads[-1].start()
        try:
            assert seen(server, "fleet: 2 nodes instead of 1"), server.log()
            assert seen(server, "node1 started"), server.log()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert sorted(answers) == list(range(6))
        assert all(a["usage"]["completion_tokens"] == 200 for a in answers.values())
        assert seen(server, "fleet: 1 nodes instead of 2"), server.log()
        assert seen(server, "is not needed and ends"), server.log()
        ask(server.url, 9, answers)
        assert answers[9]["usage"]["completion_tokens"] == 200
