"""serve --nodes 2, and kill -9 of the node under a running stream: the client's bytes do not change."""
import json
import os
import re
import signal
import time

import pytest

from serving import Server, events, read_until


def children(server):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = open(f"/proc/{pid}/stat").read()
            command = open(f"/proc/{pid}/cmdline").read().split("\0")
        except OSError:
            continue
        if int(stat.rsplit(")", 1)[1].split()[1]) == server.process.pid and "node" in command:
            found.append((int(pid), next(a for a in command if a.startswith("unix:"))))
    return found


class Fleet(Server):
    def _wait_ready(self, timeout):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            found = re.search(r"serve: http://[\d.]+:(\d+) over", self.log())
            if found:
                self.port = int(found.group(1))
                if self.ask("GET", "/ready")[0] == 200 and len(children(self)) == 2:
                    return
            assert self.process.poll() is None, self.log()
            time.sleep(0.05)
        raise RuntimeError(self.log())


@pytest.fixture(scope="module")
def fleet():
    with Fleet("--nodes", 2, "--threads", 1, command="serve") as running:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and running.chat()[0] != 200:
            time.sleep(0.1)
        yield running


def busy(path):
    """Whether the node behind this socket has a sequence running."""
    node = Server.__new__(Server)
    node.host, node.port = path, 0
    try:
        return node.health().get("running", 0) > 0
    except OSError:
        return False


def text_of(data):
    chunks = [json.loads(e) for e in events(data) if e != "[DONE]"]
    return ["".join(c["delta"].get("content") or "" for k in chunks for c in k["choices"] if c["index"] == i)
            for i in range(1 + max(c["index"] for k in chunks for c in k["choices"]))]


def body_of(raw):
    body, out = raw.partition(b"\r\n\r\n")[2], b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        out, body = out + rest[:int(size or b"0", 16)], rest[int(size or b"0", 16) + 2:]
    return out


REQUESTS = {
    "greedy": {"temperature": 0},
    "seeded": {"temperature": 1.1, "seed": 11},
    "two choices, penalties, logprobs": {"temperature": 0.9, "seed": 3, "n": 2, "frequency_penalty": 0.5, "logprobs": True},
}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_stream_survives(fleet, name):
    members = {"max_tokens": 150, "ignore_eos": True, **REQUESTS[name]}

    def ask(kill):
        s = fleet.open_stream(**members)
        s.sendall(b"")
        data = read_until(s, b"data: ")
        if kill:
            time.sleep(0.4)
            victims = [pid for pid, address in children(fleet) if busy(address)]
            assert victims, "the stream was over before the kill"
            os.kill(victims[0], signal.SIGKILL)
        data += read_until(s, b"[DONE]\n\n\r\n0\r\n\r\n")
        s.close()
        return body_of(data)

    expected = ask(kill=False)
    got = ask(kill=True)
    assert text_of(got) == text_of(expected)
    assert b'"error"' not in got
    deadline = time.monotonic() + 30
    while len(children(fleet)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(children(fleet)) == 2, "the dead node came back"
    while fleet.ask("GET", "/ready")[0] != 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)  # both nodes probed again before the next fault


def test_whole_answers_survive_too(fleet):
    import threading
    answers = []
    ask = lambda: answers.append(fleet.chat(max_tokens=120, temperature=0, ignore_eos=True))
    ask()
    thread = threading.Thread(target=ask)
    thread.start()
    deadline = time.monotonic() + 10
    victims = []
    while not victims and time.monotonic() < deadline:
        victims = [pid for pid, address in children(fleet) if busy(address)]
    assert victims
    os.kill(victims[0], signal.SIGKILL)
    thread.join()
    assert answers[1][0] == 200
    assert answers[1][1]["choices"][0]["message"]["content"] == answers[0][1]["choices"][0]["message"]["content"]
