"""Fake nodes and gateways as processes, for tests of what stands in front of an engine."""
import http.client
import http.server
import json
import re
import signal
import socket
import subprocess
import threading
import time
import types

from serving import PROGRAM, ROOT, Server, clean_environment, free_port, wait_for

FAKE_NODE = PROGRAM.parent / "fake_node" if PROGRAM.parent.joinpath("fake_node").exists() else ROOT / "build/dev/fake_node"


ENDLESS = [{"role": "user", "content": "an endless story"}]  # a fake node goes on to max_tokens


class FakeNode:
    """Tokens that are a hash of the request (src/sim/fake_node.h), faults on demand."""

    def __init__(self, *flags):
        self.pace_us = dict(zip(flags, flags[1:])).get("--pace-us", 20_000)
        self.process = subprocess.Popen([FAKE_NODE, "--port", "0", *map(str, flags)], stdout=subprocess.PIPE, text=True,
                                        env=clean_environment())
        self.port = int(self.process.stdout.readline().rsplit(" ", 1)[1])

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request(method, path, json.dumps(body) if body is not None else None)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def stats(self):
        return self.ask("GET", "/stats")

    def fault(self, kind, ms=600_000, factor=10):
        self.ask("POST", "/fault", {"kind": kind, "ms": ms, "factor": factor})

    def slow_down(self):
        """To two or three tokens a second and stream, until speed_up(): nothing comes to its end meanwhile, and nothing stands still."""
        self.fault("slow", factor=400_000 / self.pace_us)

    def speed_up(self):
        self.fault("none")

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Gateway(Server):
    """`homeport gateway`; ready when `nodes` of its nodes are usable."""

    def __init__(self, *flags, nodes=1, **kwargs):
        self.nodes = nodes
        super().__init__("--probe-interval-ms", 50, *flags, command="gateway", model=None, **kwargs)

    def _wait_ready(self, timeout):
        self.wait_for(lambda: re.search(r"gateway: listening on \S+?:(\d+),", self.log()), timeout)
        self.port = int(re.search(r"gateway: listening on (?:https://)?[\d.]+:(\d+),", self.log()).group(1))
        self.wait_for(lambda: self.usable() >= self.nodes, timeout)

    def usable(self):
        return json.loads(self.ask("GET", "/ready")[2])["usable_nodes"]

    def wait_for(self, condition, timeout=120.0):
        deadline = time.monotonic() + timeout
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.log()}"
            assert time.monotonic() < deadline, f"waited {timeout} s in vain: {self.log()}"
            time.sleep(0.02)


def certificate(folder, name="server", days=2):
    """A self-signed pair for 127.0.0.1: (certificate file, key file)."""
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", str(days),
                    "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    return cert, key


class Upstream:
    """Somebody else's OpenAI-compatible server, in this process: it keeps what it was sent. `answer(request)` may write to
    the request's `wfile` itself."""

    def __init__(self, answer=None, models=("fake",)):
        outer, self.requests = self, []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                self.reply(json.dumps({"object": "list", "data": [{"id": m, "object": "model"} for m in models]}).encode())

            def do_POST(self):
                self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.requests.append(types.SimpleNamespace(headers=self.headers, body=self.body, path=self.path))
                if answer:
                    return answer(self)
                self.reply(json.dumps({"id": "x", "object": "chat.completion", "choices": [],
                                       "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}}).encode())

            def reply(self, body, status=200, kind="application/json", headers=()):
                self.send_response(status)
                for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), *headers):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Redis:
    """A redis-server of the test's own, on a free port, without files."""

    def __init__(self):
        self.port = free_port()
        self.start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        self.process = subprocess.Popen(["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        def answers():
            try:
                return self.command("PING")
            except OSError:
                return None

        wait_for(answers, what=lambda: "redis-server does not start")

    def command(self, *words):
        """The raw reply, as far as one read gives it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=120) as s:
            s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words))
            return s.recv(1 << 20)

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Link:
    """A way to a port of this machine that can be cut: what is open breaks off, and nobody gets through."""

    def __init__(self, port):
        self.target, self.whole, self.open, self.lock = port, True, set(), threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def cut(self):
        with self.lock:
            self.whole = False
            for s in self.open:
                s.shutdown(socket.SHUT_RDWR)

    def mend(self):
        self.whole = True

    def _accept(self):
        while True:
            try:
                near = self.listener.accept()[0]
            except OSError:
                return
            with self.lock:
                if not self.whole:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self.target))
                self.open |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, one, other):
        try:
            while part := one.recv(1 << 16):
                other.sendall(part)
        except OSError:
            pass
        with self.lock:
            for s in {one, other} & self.open:
                self.open.discard(s)
                s.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut()
        self.listener.close()


class Stream:
    """One streamed request, read event by event: (id, data) pairs."""

    def __init__(self, port, body, path="/v1/chat/completions", last_id=None, key=None, headers=None, timeout=180):
        headers = {"Content-Type": "application/json", **(headers or {})}
        if last_id:
            headers["Last-Event-ID"] = last_id
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self.connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), headers)
        self.answer = self.connection.getresponse()
        self.status = self.answer.status
        self.stream = self.answer.getheader("Homeport-Stream")
        self.events, self.last_id = [], last_id

    def header(self, name):
        return self.answer.getheader(name)

    def read(self, count=None):
        """Up to `count` more events; all of them without it. A cut connection ends the reading."""
        got, name = 0, None
        try:
            while count is None or got < count:
                line = self.answer.readline()
                if not line:
                    break
                if line.startswith(b"id: "):
                    name = line[4:].decode().strip()
                elif line.startswith(b"data: "):
                    self.events.append((name, line[6:].decode().strip()))
                    self.last_id, name, got = name or self.last_id, None, got + 1
        except (OSError, http.client.HTTPException):
            pass
        return self

    def pending(self):
        """What has arrived and was not read as events: raw, without waiting. Nothing can be read as events afterwards."""
        s = self.connection.sock
        s.setblocking(False)
        raw = self.answer.fp.read1()
        try:
            while part := s.recv(1 << 20):
                raw += part
        except BlockingIOError:
            pass
        s.settimeout(180)
        return raw

    def close(self):
        self.connection.close()


def text_of(events, choice=0):
    chunks = [json.loads(data) for _, data in events if data != "[DONE]"]
    assert not any("error" in c for c in chunks), events
    return "".join(c["delta"].get("content") or "" for k in chunks for c in k["choices"] if c["index"] == choice)
