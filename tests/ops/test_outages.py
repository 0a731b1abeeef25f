"""What watching depends on goes away while something happens: the disk of the incidents is full, and the channel that people are told
through refuses connections. Nothing is lost: the incident's whole story, every audited action and every notice arrive later."""
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from serving import MODEL, PROGRAM, Server  # noqa: E402

pytestmark = pytest.mark.skipif(not PROGRAM.exists() or not MODEL.exists(), reason="the program is not built, or no default model")
PATIENCE = 120


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False, capture_output=True).returncode != 0:
        pytest.skip("a small disk needs the right to mount one")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


class Channel:
    """A webhook that refuses connections until open() is called."""

    def __init__(self):
        self.notices, outer = [], self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_POST(self):
                outer.notices += json.loads(self.rfile.read(int(self.headers["Content-Length"])))["notices"]
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.server.server_bind()  # the port is ours, nobody listens
        self.url = f"http://127.0.0.1:{self.server.socket.getsockname()[1]}/hook"

    def open(self):
        self.server.server_activate()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Operator:
    """Logged in at the console."""

    def __init__(self, server, key):
        self.server, self.headers = server, {}
        token = json.loads(self.ask("session").read())["csrf"]
        answer = self.ask("login", {"key": key}, {"X-CSRF-Token": token})
        self.headers = {"Cookie": answer.headers["Set-Cookie"].split(";")[0], "X-CSRF-Token": json.loads(answer.read())["csrf"]}

    def ask(self, path, body=None, headers=()):
        data = json.dumps(body).encode() if body is not None else None
        return urllib.request.urlopen(urllib.request.Request(f"{self.server.url}/console/api/{path}", data=data, headers={
            "Content-Type": "application/json", **self.headers, **dict(headers)}), timeout=300)

    def incidents(self):
        return json.loads(self.ask("list/incidents").read())["incidents"]


def wait(what, why):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.1)
    pytest.fail(why)


def figure(server, name):
    found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", server.ask("GET", "/metrics")[2].decode(), re.M)
    return float(found[1]) if found else None


def process_of(server, node):
    return int(re.findall(rf"fleet: {node} started, process (\d+)", server.log())[-1])


def test_a_full_disk_and_a_silent_channel_lose_nothing(small_disk, tmp_path):
    channel, notices, keys = Channel(), tmp_path / "notices.toml", tmp_path / "keys"
    notices.write_text(f'group_wait_s = 0.5\n[[channel]]\nname = "hook"\nkind = "webhook"\nurl = "{channel.url}"\nroles = ["lead"]\n')
    keys.write_text("ada admin correct-horse-battery\n")
    with Server("--nodes", 2, "--threads", 1, "--ops-folder", small_disk, "--ops-notices", notices, "--console-keys-file", keys,
                "--ops-interval-ms", 500, command="serve") as server:
        wait(lambda: server.log().count("is ready") >= 2, "the nodes are ready")
        ada = Operator(server, "correct-horse-battery")
        wait(lambda: figure(server, "homeport_ops_store_ok") == 1, "the store works")
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(bytes(4096))
        rehearsed = 0
        while figure(server, "homeport_ops_store_ok") == 1:
            ada.ask("actions", {"action": "hold_node", "target": "node0", "dry_run": True}).read()
            rehearsed += 1
            assert rehearsed < 2000, "the disk never was full"

        os.kill(process_of(server, "node1"), signal.SIGKILL)
        story = wait(lambda: [i for i in ada.incidents() if i["rule"] == "node_down" and i["state"] == "closed"], "an incident, from memory")[0]
        assert figure(server, "homeport_ops_store_ok") == 0 and channel.notices == []
        assert server.chat()[0] == 200
        before = len(server.log())

        ballast.unlink()
        wait(lambda: figure(server, "homeport_ops_store_ok") == 1, "the store takes up again what it kept")

        def kept():
            with sqlite3.connect(f"file:{small_disk}/incidents.db?mode=ro", uri=True, timeout=5) as db:
                kinds = [k for (k,) in db.execute("SELECT kind FROM entry WHERE incident_id=? ORDER BY rowid", (story["id"],))]
                (state,) = db.execute("SELECT state FROM incident WHERE id=?", (story["id"],)).fetchone() or ("",)
                (audits,) = db.execute("SELECT count(*) FROM audit WHERE dry_run=1").fetchone()
            return state == "closed" and audits == rehearsed and kinds
        kinds = wait(kept, "everything is on the disk")
        assert kinds[:len(story["timeline"])] == [e["kind"] for e in story["timeline"]]

        channel.open()
        wait(lambda: {"opened", "closed"} <= {n["kind"] for n in channel.notices if n["incident"] == story["id"]}, "the channel hears of all of it")
        told = [n["kind"] for n in channel.notices if n["incident"] == story["id"]]
        assert told.count("opened") == 1 and told.count("closed") == 1 and told.index("opened") < told.index("closed")
        assert figure(server, "homeport_notices_dropped_total") == 0
        assert "Traceback" not in server.log()[before:]
    channel.server.server_close()
