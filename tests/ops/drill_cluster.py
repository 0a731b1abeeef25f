"""The cluster that the drills are run on, clients that stream and notice every pause, and what the watch wrote down."""
import http.client
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cluster import certificate  # noqa: E402
from drill_channels import KINDS, Channels  # noqa: E402
from serving import MODEL, ROOT, Server  # noqa: E402

PATIENCE = 180  # seconds for one thing to happen; a busy machine takes long, and nothing here asserts a time
STORY = {"model": "default", "stream": True, "temperature": 0, "max_tokens": 40, "messages": [{"role": "user", "content": "Tell a story."}]}


def short_playbooks(wait_s):
    """The shipped playbooks of level 2, their waits shortened."""
    books = re.split(r"(?=\[\[playbook\]\])", (ROOT / "src/ops/data/playbooks.toml").read_text().split("[[limit]]")[0])
    text = "".join(book for book in books if '\nlevel = 2' in book)
    return re.sub(r"undo_pause_s = \d+", "undo_pause_s = 1", re.sub(r"wait_s = \d+", f"wait_s = {wait_s}", text))


class Client:
    """Streams one after another. `errors`: what did not end well; `pause`: the longest between two events of a stream;
    `late`: the longest wait for a first token. `fresh`: no two questions begin alike, so that no node is preferred."""

    def __init__(self, server, headers=None, fresh=False, **members):
        self.fresh, self.asked = fresh, 0
        self.server, self.headers, self.body = server, headers or {}, {**STORY, **members}
        self.stop, self.done, self.errors, self.texts, self.pause, self.late = False, 0, [], set(), 0.0, 0.0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stop:
            try:
                fault = self.stream()
            except (OSError, http.client.HTTPException) as error:
                fault = repr(error)
            if fault:
                self.errors.append(fault)
                time.sleep(0.05)  # as a client would that is told to come later
            else:
                self.done += 1

    def stream(self):
        """What was wrong with it, or nothing."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=4 * PATIENCE)
        try:
            asked = time.monotonic()
            body, self.asked = self.body, self.asked + 1
            if self.fresh:
                body = {**body, "messages": [{"role": "user", "content": f"{id(self) + self.asked}: tell a story."}]}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json", **self.headers})
            answer = connection.getresponse()
            if answer.status != 200:
                return f"{answer.status} {answer.read(300).decode()}"
            text, last = "", None
            for line in answer:
                if not line.startswith(b"data: "):
                    continue
                now = time.monotonic()
                self.pause, self.late = max(self.pause, now - last if last else 0), max(self.late, 0 if last else now - asked)
                last = now
                if line == b"data: [DONE]\n":
                    self.texts.add(text)
                    return None
                event = json.loads(line[6:])
                if "error" in event:
                    return json.dumps(event)
                text += "".join(c["delta"].get("content") or "" for c in event["choices"])
            return "it broke off"
        finally:
            connection.close()


def end(clients):
    for client in clients:
        client.stop = True
    for client in clients:
        client.thread.join(PATIENCE)


class Cluster:
    """`serve` over local nodes. `engine`: flags of every node. `variant`: a model for one more node, in a group of its own.
    `rules`: own times, or a function that says them once the variant's node runs. `ops_folder`: elsewhere than in the cluster's folder."""

    def __init__(self, *flags, nodes=3, standby=1, rules="", playbooks="", engine=("--max-running", 8), variant=None, ops_folder=None, access_log=None):
        self.folder = Path(tempfile.mkdtemp(prefix="hp-drill-"))
        self.ops_folder = ops_folder or self.folder
        self.channels = Channels(certificate(self.folder, "mail"))
        self.server = self.variant = None
        if variant:
            self.variant = Server("--journal", "--model-name", MODEL.stem, "--threads", 1, "--access-log=false", "--admin-host",
                                  f"unix:{self.folder}/variant.admin", *engine, model=variant)
            slots = engine[engine.index("--max-running") + 1]
            flags = (*flags, "--node", f"variant=127.0.0.1:{self.variant.port};priority=1;concurrent={slots};admin=unix:{self.folder}/variant.admin",
                     "--ops-variant-group", 1)
        if callable(rules):
            rules = rules(self.variant)
        if "[latency_p99]" not in rules:
            rules += "[latency_p99]\nabove = 1e9\nclear = 1e9\n"
        for name, text in (("notices", self.channels.toml()), ("rules", rules), ("playbooks", playbooks)):
            (self.folder / f"{name}.toml").write_text(text)
        try:
            self.start(nodes, standby, access_log, engine, flags)
        except BaseException:
            self.close()
            raise

    def start(self, nodes, standby, access_log, engine, flags):
        log = ("--access-log-file", access_log) if access_log else ("--access-log=false",)
        self.server = Server("--nodes", nodes, "--standby", standby, "--threads", 1, *log, "--ops-folder", self.ops_folder,
                             "--ops-notices", self.folder / "notices.toml", "--ops-rules", self.folder / "rules.toml",
                             "--ops-playbooks-file", self.folder / "playbooks.toml", *engine, *flags, command="serve",
                             environment={"SSL_CERT_FILE": str(self.channels.certificate[0])}, timeout=PATIENCE)
        usable = nodes + (1 if self.variant else 0)
        self.until(lambda: json.loads(self.server.ask("GET", "/ready")[2])["usable_nodes"] >= usable, "all nodes are usable")
        self.until(lambda: all(self.metric("vllm:num_requests_waiting", f"node{i}") is not None for i in range(nodes)), "all nodes are read")
        self.server.wait_watched()  # of a rate there are two readings then

    def until(self, condition, what, timeout=PATIENCE):
        deadline = time.monotonic() + timeout
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {timeout} s in vain: {what}; the log ends with\n" + "\n".join(
                    line for line in self.server.log().splitlines() if "ops:" in line or "fleet:" in line)[-4000:])
            time.sleep(0.05)
        return found

    def metric(self, name, node=None):
        """The sum of a figure's series on the gateway's page, of one node if need be; None: there is none."""
        rows = [row for row in self.server.ask("GET", "/metrics")[2].decode().split("\n") if re.match(re.escape(name) + "[ {]", row)]
        values = [float(row.rsplit(" ", 1)[1]) for row in rows if node is None or f'node="{node}"' in row]
        return sum(values) if values else None

    def pid(self, name):
        """The newest process of a node, from the log."""
        for line in reversed(self.server.log().splitlines()):
            if f"fleet: {name} started, process " in line:
                return int(line.rsplit(" ", 1)[1])
        raise AssertionError(f"no process of {name}")

    def story(self):
        """Everything in the incident store: (at_s, kind, action, target, text, ok, incident)."""
        try:
            db = sqlite3.connect(f"file:{self.ops_folder}/incidents.db?mode=ro", uri=True, timeout=5)
            try:
                return [(r[0] / 1000, *r[1:]) for r in db.execute("SELECT at_ms,kind,action,target,text,ok,incident_id FROM entry ORDER BY at_ms, rowid")]
            finally:
                db.close()
        except sqlite3.OperationalError:
            return []

    def wait(self, kind, since, action="", incident=None):
        """The first entry of a kind since a moment."""
        fits = lambda e: e[1] == kind and e[0] >= since - 0.002 and (not action or e[2] == action) and incident in (None, e[6])  # noqa: E731
        return self.until(lambda: [e for e in self.story() if fits(e)], f"{kind} {action}")[0]

    def told(self, since):
        """Seconds from a monotonic moment until each channel kind had its first message; waits for all of them."""
        def first():
            at = {}
            for when, kind, _ in list(self.channels.got):
                if when >= since:
                    at.setdefault(kind, when - since)
            return at
        self.until(lambda: len(first()) == len(KINDS), f"every channel is told; these were: {sorted(first())}")
        return first()

    def close(self):
        for process in (self.server, self.variant):
            if process:
                process.stop()
        self.channels.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Slow:
    """A process that runs only a small part of the time: stopped and continued in turn until it is mended."""

    def __init__(self, pid, stopped_s, running_s):
        self.pid, self.over = pid, threading.Event()
        self.times = (signal.SIGSTOP, stopped_s), (signal.SIGCONT, running_s)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while not self.over.is_set():
                for number, seconds in self.times:
                    os.kill(self.pid, number)
                    time.sleep(seconds)
        except ProcessLookupError:
            pass

    def mend(self):
        self.over.set()
        self.thread.join()
