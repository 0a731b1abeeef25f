#!/usr/bin/env python3
"""Fault drills on a real local cluster: three nodes in two groups with the default model, a client that streams, and a mock
of the notice channels that checks signatures. Per drill: time to detection, actions, notice, client-visible errors, recovery.
`tests/ops/drills.py [--runs N] [--only NAME,...]` prints the table; the tests run a short part of it."""
import argparse
import base64
import hashlib
import hmac
import http.client
import http.server
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from serving import Server  # noqa: E402

SECRET = "SECdrill"


class Channels:
    """DingTalk, Feishu, a signed webhook, Slack, WeCom, PagerDuty and Alertmanager on one port; a wrong signature is refused."""

    def __init__(self):
        self.got, self.bad = [], []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                kind = urllib.parse.urlparse(self.path).path.strip("/")
                ok = outer.genuine(kind, self.path, self.headers, body)
                (outer.got if ok else outer.bad).append((time.monotonic(), kind, body))
                answer = {"dingtalk": {"errcode": 0}, "wecom": {"errcode": 0}, "feishu": {"code": 0}}.get(kind, {})
                data = json.dumps(answer if ok else {"errcode": 310000, "code": 19021}).encode()
                self.send_response(200 if ok else 403)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def genuine(self, kind, path, headers, body):
        def mac(key, text):
            return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()).decode()

        if kind == "dingtalk":
            query = urllib.parse.parse_qs(urllib.parse.urlparse(path).query)
            stamp = query["timestamp"][0]
            return query["sign"][0] == mac(SECRET, f"{stamp}\n{SECRET}") and abs(int(stamp) / 1000 - time.time()) < 60
        document = json.loads(body)
        if kind == "feishu":
            return document["sign"] == mac(f"{document['timestamp']}\n{SECRET}", "")
        if kind == "webhook":
            stamp = headers["Homeport-Timestamp"]
            wanted = hmac.new(SECRET.encode(), f"{stamp}.{body}".encode(), hashlib.sha256).hexdigest()
            return headers["Homeport-Signature"] == "sha256=" + wanted
        if kind == "pagerduty":
            return document["routing_key"] == SECRET and document["dedup_key"].startswith("homeport-")
        if kind == "alertmanager":
            return document["version"] == "4" and bool(document["alerts"])
        return "homeport" in body.lower()

    KINDS = ("dingtalk", "feishu", "webhook", "slack", "wecom", "pagerduty", "alertmanager")

    def toml(self):
        base = f"http://127.0.0.1:{self.server.server_port}"
        return "group_wait_s = 0.5\n" + "".join(
            f'[[channel]]\nname = "{k}"\nkind = "{k}"\nurl = "{base}/{k}"\nsecret = "{SECRET}"\nlevel = 3\nroles = ["lead"]\n'
            for k in self.KINDS)


class Client:
    """Streams one after another; counts those that did not end with [DONE]."""

    def __init__(self, server, extra=None):
        self.server, self.extra, self.stop, self.errors, self.done = server, extra or {}, False, 0, 0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        body = {"model": "default", "stream": True, "max_tokens": 40, "messages": [{"role": "user", "content": "Tell a story."}], **self.extra}
        while not self.stop:
            try:
                status, _, answer = self.server.ask("POST", "/v1/chat/completions", body)
                text = answer if isinstance(answer, str) else answer.decode()
                if status == 200 and "[DONE]" in text:
                    self.done += 1
                else:
                    self.errors += 1
            except (OSError, http.client.HTTPException):
                self.errors += 1

    def end(self):
        self.stop = True
        self.thread.join(60)


class Cluster:
    def __init__(self, *flags, rules=""):
        self.folder = Path(tempfile.mkdtemp(prefix="hp-drill-"))
        self.channels = Channels()
        (self.folder / "notices.toml").write_text(self.channels.toml())
        (self.folder / "rules.toml").write_text(rules or "[latency_p99]\nabove = 1e9\n")
        self.server = Server("--nodes", 3, "--standby", 1, "--threads", 1, "--access-log=false", "--ops-interval-ms", 500,
                             "--ops-folder", self.folder, "--ops-notices", self.folder / "notices.toml",
                             "--ops-rules", self.folder / "rules.toml", *flags, command="serve")
        deadline = time.monotonic() + 60
        while self.server.log().count("is ready") < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1.5)  # the first readings

    def pid(self, name):
        """The newest process of a node, from the log."""
        for line in reversed(self.server.log().splitlines()):
            if f"fleet: {name} started, process " in line:
                return int(line.rsplit(" ", 1)[1])
        raise AssertionError(f"no process of {name}")

    def story(self):
        """Everything in the incident store: (at_s, kind, action, target, text, ok)."""
        db = sqlite3.connect(f"file:{self.folder}/incidents.db?mode=ro", uri=True, timeout=5)
        try:
            return [(r[0] / 1000, *r[1:]) for r in db.execute("SELECT at_ms,kind,action,target,text,ok FROM entry ORDER BY at_ms, rowid")]
        finally:
            db.close()

    def wait(self, what, timeout=90):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                found = [e for e in self.story() if what(e)]
            except sqlite3.OperationalError:
                found = []
            if found:
                return found[0]
            time.sleep(0.1)
        raise AssertionError("it did not happen; the log says:\n" + "\n".join(
            line for line in self.server.log().splitlines() if "ops:" in line)[-4000:])

    def close(self):
        self.server.__exit__(None, None, None)
        self.channels.server.shutdown()


def drill(cluster, fault, mend=lambda: None, first_action="move_traffic", clients=2):
    streams = [Client(cluster.server) for _ in range(clients)]
    time.sleep(1.5)
    before, wall, begun = len(cluster.channels.got), time.time(), time.monotonic()
    fault()
    detected = cluster.wait(lambda e: e[1] == "detected" and e[0] >= wall - 0.001)
    acted = cluster.wait(lambda e: e[1] == "action" and e[2] == first_action and e[0] >= wall - 0.001 and e[5])
    mend()
    closed = cluster.wait(lambda e: e[1] == "closed" and e[0] >= wall - 0.001)
    deadline = time.monotonic() + 30
    while {k for _, k, _ in cluster.channels.got[before:]} < set(Channels.KINDS) and time.monotonic() < deadline:
        time.sleep(0.1)
    told = {}
    for at, kind, _ in cluster.channels.got[before:]:
        told.setdefault(kind, at - begun)
    for stream in streams:
        stream.end()
    actions = [f"{e[2]}{'' if e[5] else ' (refused)'}" for e in cluster.story() if e[0] >= wall - 0.001 and e[1] in ("action", "undo")]
    return {"detected": detected[0] - wall, "acted": acted[0] - wall, "notice": max(told.values(), default=float("inf")),
            "channels": len(told), "bad_signatures": len(cluster.channels.bad), "recovered": closed[0] - wall,
            "errors": sum(s.errors for s in streams), "streams": sum(s.done for s in streams), "actions": list(dict.fromkeys(actions))}


def node_killed(cluster):
    return drill(cluster, lambda: os.kill(cluster.pid("node0"), signal.SIGKILL))


def group_killed(cluster):
    def fault():
        for name in ("node0", "node1"):
            os.kill(cluster.pid(name), signal.SIGKILL)
    return drill(cluster, fault)


def node_hung(cluster):
    return drill(cluster, lambda: os.kill(cluster.pid("node1"), signal.SIGSTOP))


DRILLS = {"node killed": node_killed, "group killed": group_killed, "node hung": node_hung}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    wanted = [n for n in DRILLS if not args.only or n in args.only.split(",")]
    print("| drill | detected s | acted s | notice s (all channels) | recovered s | streams | errors | actions |\n|---|---|---|---|---|---|---|---|")
    failed = 0
    for name in wanted:
        rows = []
        for _ in range(args.runs):
            cluster = Cluster()
            try:
                rows.append(DRILLS[name](cluster))
            finally:
                cluster.close()
        cell = lambda key: f"{statistics.median(r[key] for r in rows):.1f} / {max(r[key] for r in rows):.1f}"
        print(f"| {name} | {cell('detected')} | {cell('acted')} | {cell('notice')} | {cell('recovered')} | "
              f"{sum(r['streams'] for r in rows)} | {sum(r['errors'] for r in rows)} | {', '.join(rows[-1]['actions'])} |", flush=True)
        failed += sum(r["bad_signatures"] > 0 or r["channels"] < len(Channels.KINDS) for r in rows)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
