"""A real `homeport` process for tests, and the few requests that need no client library."""
import http.client
import json
import os
import random
import re
import resource
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("HOMEPORT_PROGRAM", ROOT / "build" / "dev" / "homeport"))
MODEL = Path(os.environ.get("HOMEPORT_MODELS", Path.home() / ".homeport" / "models")) / "SmolLM2-135M-Instruct.Q4_1.gguf"


def raise_file_limit(wanted=16384):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard) if hard != resource.RLIM_INFINITY else wanted, hard))


def clean_environment(**extra):
    """Without the HOMEPORT_* variables and the home configuration of whoever runs the tests."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HOMEPORT_")}
    return {**kept, "HOME": tempfile.gettempdir(), "HOMEPORT_OPS_FOLDER": "none", **extra}


def free_port():
    """For a program that must be told its port, also when it starts again: outside the range of outgoing connections."""
    while True:
        port = random.randrange(10_000, 30_000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


def wait_for(condition, timeout=120.0, what=lambda: ""):
    """Until `condition()` holds, and what it gave; `what()` tells more when it never does. Long enough for a loaded machine."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {timeout} s in vain: {what()}"
        time.sleep(0.02)
    return found


class Server:
    """`homeport COMMAND --port 0 ...`, waited for until it is ready; a context manager."""

    def __init__(self, *flags, command="node", model=MODEL, host="127.0.0.1", timeout=120.0, trust=None,
                 environment=None, program=PROGRAM):
        """`trust`: the server speaks TLS, and this PEM file vouches for it."""
        raise_file_limit()
        self.trust = trust
        self.ready_line = "(?<!node )ready: " if command == "serve" else "ready: "
        self.host, self.port = host, 0
        self.log_file = tempfile.NamedTemporaryFile(prefix="homeport-", suffix=".log", delete=False)
        where = ["--host", host] if host.startswith("unix:") else ["--port", "0"]
        self.model = ["--model", model] if model else []
        self.process = subprocess.Popen([program, command, *self.model, *where, *map(str, flags)],
                                        stdout=self.log_file, stderr=subprocess.STDOUT, env=clean_environment(**(environment or {})))
        self._wait_ready(timeout)

    def _wait_ready(self, timeout):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"ended with {self.process.returncode}: {self.log()}")
            found = re.search(self.ready_line + r"(?:https?://[\d.]+:(\d+)|unix:)", self.log())
            if found:
                self.port = int(found.group(1) or 0)
                return
            time.sleep(0.02)
        raise RuntimeError(f"not ready after {timeout} s: {self.log()}")

    def log(self):
        return Path(self.log_file.name).read_text(errors="replace")

    @property
    def url(self):
        return f"http{'s' if self.trust else ''}://127.0.0.1:{self.port}"

    def connect(self, timeout=180.0):
        if self.host.startswith("unix:"):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(timeout)
            s.connect(self.host[5:])
            return s
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        return self.secure(plain) if self.trust else plain

    def secure(self, plain):
        return ssl.create_default_context(cafile=self.trust).wrap_socket(plain, server_hostname="127.0.0.1")

    def ask(self, method, path, body=None, headers=None, timeout=300.0):
        """(status, headers, body); a dict as body goes out as JSON, bytes as they are."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        connection.sock = self.connect(timeout)
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        out = answer.status, dict((k.lower(), v) for k, v in answer.getheaders()), answer.read()
        connection.close()
        return out

    def chat(self, headers=None, **members):
        body = {"model": "default", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8, **members}
        status, _, answer = self.ask("POST", "/v1/chat/completions", body, headers)
        return status, json.loads(answer)

    def open_stream(self, timeout=180.0, **members):
        """A socket on which a streamed chat has been asked for; nothing has been read."""
        body = {"model": "default", "messages": [{"role": "user", "content": "Tell a long story."}], "stream": True,
                "max_tokens": 200, **members}
        data = json.dumps(body).encode()
        s = self.connect(timeout)
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(data) + data)
        return s

    def health(self):
        return json.loads(self.ask("GET", "/health")[2])

    def wait_idle(self, timeout=120.0):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            h = self.health()
            if h["running"] == 0 and h["waiting"] == 0:
                return h
            time.sleep(0.05)
        raise AssertionError(f"not idle after {timeout} s: {h}")

    def metric(self, name):
        """The sum over all labels."""
        text = self.ask("GET", "/metrics")[2].decode()
        return sum(float(row.rsplit(" ", 1)[1]) for row in text.split("\n")
                   if row.startswith(name + " ") or row.startswith(name + "{"))

    def nodes(self):
        """The node processes that a `serve` runs now: {name: pid}."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                parent = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            if parent == self.process.pid and "node" in words:
                found |= {m.group(1): int(process.name) for w in words if (m := re.fullmatch(r"unix:.*/(\w+)\.sock", w))}
        return found

    def wait_nodes(self, count):
        """Until a `serve` has so many processes and its gateway gives requests to each of them."""
        usable = lambda: json.loads(self.ask("GET", "/ready")[2])["usable_nodes"]
        wait_for(lambda: len(self.nodes()) == count and usable() == count, what=self.log)

    def wait_watched(self, rounds=3):
        """Until the watch of a `serve` has read every node's figures so many times more."""
        done = lambda: self.metric("homeport_ops_round_seconds_count")
        before = done()
        wait_for(lambda: done() >= before + rounds, what=self.log)

    def serving_nodes(self):
        """The process ids of the nodes that the gateway of a `serve` has requests at."""
        page, nodes = self.ask("GET", "/metrics")[2].decode(), self.nodes()
        return [nodes[name] for name in re.findall(r'^homeport_gateway_node_load_tokens\{node="(\w+)"\} [1-9]', page, re.M) if name in nodes]

    def killed_under_stream(self, **members):
        """All bytes of a stream whose node was killed with signal 9 in the middle, as the gateway's own count tells. When a stream
        was over first, the next one is tried."""
        resumes, count = "homeport_gateway_resumes_total", len(self.nodes())
        for _ in range(5):
            before = self.metric(resumes)
            s = self.open_stream(**members)
            data = read_until(s, b"data: ")
            for pid in self.serving_nodes():
                os.kill(pid, signal.SIGKILL)
            assert self.ask("GET", "/health")[0] == 200, "the address is there while the engine is not"
            data += read_until(s, b"[DONE]\n\n")
            s.close()
            if self.metric(resumes) > before:
                return data
            self.wait_nodes(count)
        raise AssertionError("each of 5 streams was over before its node was killed: they are too short for this machine")

    def rss_mib(self):
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) / 1024

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log_file.close()
        os.unlink(self.log_file.name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def events(data):
    """The data fields of a whole SSE body, in order."""
    return [line[6:] for line in data.decode().split("\n") if line.startswith("data: ")]


def read_all(s):
    out = b""
    while True:
        part = s.recv(65536)
        if not part:
            return out
        out += part


def read_until(s, mark):
    out = b""
    while mark not in out:
        part = s.recv(65536)
        if not part:
            raise AssertionError(f"closed before {mark!r}; the end was {out[-300:]!r}")
        out += part
    return out
