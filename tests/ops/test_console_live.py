"""The console, `top` and the bundle over a real `serve` with two nodes: a chat whose node is killed, and its journey; the
picture in a terminal; a bundle with a stopped node in it, without a secret."""
import json
import os
import re
import signal
import stat
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

import sys
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from serving import MODEL, PROGRAM, Server, clean_environment, wait_for  # noqa: E402

pytestmark = [pytest.mark.skipif(not PROGRAM.exists(), reason="build/dev/homeport is not built"),
              pytest.mark.skipif(not MODEL.exists(), reason="no default model (scripts/model.sh)")]
API_KEY = "an-api-key-that-must-not-leak"


class Live:
    def __init__(self, folder):
        self.folder = folder
        keys = folder / "api-keys.txt"
        keys.write_text(API_KEY + "\n")
        self.server = Server("--nodes", 2, "--ops-folder", folder / "ops", "--api-keys-file", keys, "--console-keys-file", "",
                             "--ops-playbooks", "off", command="serve")
        self.url = self.server.url
        self.key = (folder / "ops" / "console.key").read_text()
        token = json.loads(self.get("/console/api/session"))["csrf"]
        answer = self.open("/console/api/login", {"key": self.key}, {"X-CSRF-Token": token})
        self.cookie = answer.headers["Set-Cookie"].split(";")[0]
        self.csrf = json.loads(answer.read())["csrf"]

    def open(self, path, body=None, headers=()):
        data = json.dumps(body).encode() if body is not None else None
        return urllib.request.urlopen(urllib.request.Request(self.url + path, data=data, headers={"Content-Type": "application/json", **dict(headers)}), timeout=300)

    def get(self, path):
        return self.open(path, headers={"Cookie": getattr(self, "cookie", "")}).read()

    def program(self, *words):
        return subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=600, env=clean_environment(), check=False)


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    live = Live(tmp_path_factory.mktemp("console"))
    with live.server:
        yield live


def wait_for_nodes(live, count):
    def there():
        view = json.loads(live.get("/console/api/list/view"))
        return view if view["cluster"]["usable_nodes"] == count and len(view["nodes"]) == 2 else None

    return wait_for(there, 300, live.server.log)


def test_the_made_key_is_ours_alone_and_in_no_log(live):
    path = live.folder / "ops" / "console.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and len(live.key) == 48
    assert live.key not in live.server.log() and str(path) in live.server.log()
    for line in live.server.log().splitlines():
        assert API_KEY not in line


def chat_with_a_kill(live):
    """(usage, journey, the node that was killed) of a chat of 300 tokens."""
    body = {"model": "default", "stream": True, "max_tokens": 300, "temperature": 0, "ignore_eos": True, "stream_options": {"include_usage": True},
            "messages": [{"role": "user", "content": "Count from one to three hundred."}]}
    model = json.loads(live.get("/console/api/list/view"))["models"]
    if model:
        body["model"] = model[0]["name"]
    answer = live.open("/console/api/chat", body, {"Cookie": live.cookie, "X-CSRF-Token": live.csrf})
    stream, killed, usage = answer.headers["Homeport-Stream"], None, None
    for line in answer:
        if not line.startswith(b"data: {"):
            continue
        chunk = json.loads(line[6:])
        assert "error" not in chunk, chunk
        usage = chunk.get("usage") or usage
        if not killed:
            killed = json.loads(live.get(f"/console/api/journey/{stream}"))["legs"][0]["node"]
            os.kill(live.server.nodes()[killed], signal.SIGKILL)
    return usage, json.loads(live.get(f"/console/api/journey/{stream}")), killed


def test_a_chat_survives_its_node_and_tells_the_journey(live):
    for _ in range(5):  # a chat that was over before its node was killed is no test
        wait_for_nodes(live, 2)
        usage, journey, killed = chat_with_a_kill(live)
        assert usage["completion_tokens"] == 300 == journey["tokens"]
        if len(journey["legs"]) > 1:
            break
    first, second = journey["legs"]
    assert first["node"] == killed != second["node"]
    assert first["from_token"] == 0 and second["from_token"] == first["tokens"] and second["from_token"] + second["tokens"] == 300
    wait_for_nodes(live, 2)


def test_top_shows_the_cluster(live):
    wait_for_nodes(live, 2)
    key = live.folder / "ops" / "console.key"
    once = live.program("top", "--url", live.url, "--key-file", key, "--once")
    assert once.returncode == 0, once.stderr
    lines = once.stdout.splitlines()
    assert re.match(r"homeport  (ok|ATTENTION)  nodes 2/2  group 0 serves", lines[0]), lines[0]
    assert all(len(line) <= 80 for line in lines) and "\x1b" not in once.stdout
    assert sum(line.startswith(("node0 ", "node1 ")) for line in lines) == 2, once.stdout
    found = live.program("top", "--url", live.url, "--ops-folder", live.folder / "ops", "--json")
    assert {n["name"] for n in json.loads(found.stdout)["nodes"]} == {"node0", "node1"}
    wrong = live.folder / "wrong.txt"
    wrong.write_text("not-the-right-key-at-all")
    refused = live.program("top", "--url", live.url, "--key-file", wrong, "--once")
    assert refused.returncode == 1 and "not known" in refused.stderr


def test_a_bundle_of_a_cluster_with_a_stopped_node(live, tmp_path):
    wait_for_nodes(live, 2)
    stopped = live.server.nodes()["node1"]
    os.kill(stopped, signal.SIGSTOP)
    try:
        began = time.monotonic()
        done = live.program("doctor", "--bundle", tmp_path / "b.tar.zst", "--url", live.url)
        took = time.monotonic() - began
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert done.returncode == 0, done.stderr
    size = (tmp_path / "b.tar.zst").stat().st_size
    print(f"bundle: {size} bytes in {took:.1f} s")
    assert size < 20 << 20
    subprocess.run(["tar", "--zstd", "-xf", tmp_path / "b.tar.zst", "-C", tmp_path], check=True)
    gateway = (tmp_path / "processes" / str(live.server.process.pid) / "stacks.txt").read_text()
    assert "== its own account" in gateway and gateway.count("\nthread ") >= 3 and "hp::" in gateway
    outside = (tmp_path / "processes" / str(stopped) / "stacks.txt").read_text()
    assert "no account of its own" in outside and "T (stopped)" in outside
    assert "ready" in (tmp_path / "processes" / str(stopped) / "log.txt").read_text(), "its last log lines, though it is stopped"
    assert "homeport_gateway_requests_total" in (tmp_path / "server" / "metrics.txt").read_text()
    assert "ops.folder = " in (tmp_path / "config.txt").read_text()
    for path in tmp_path.rglob("*.txt"):
        text = path.read_text(errors="replace")
        assert API_KEY not in text and live.key not in text, path
