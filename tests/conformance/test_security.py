"""Hostile bytes on raw sockets, at a node and at a gateway: each is refused, and nothing of it gets through."""
import json
import os
import re
import socket
import time

import pytest

from cluster import FakeNode, Gateway
from serving import Server, read_all, read_until

LIMITS = ["--max-body-bytes", 65536]
IMPATIENT = ["--header-timeout-ms", 500, "--body-timeout-ms", 500]
KEYS = {"a": "sk-of-tenant-a-7f3a", "b": "sk-of-tenant-b-91cc"}
CHAT = '{"model":"default","messages":[{"role":"user","content":"Hi"}],"max_tokens":3%s}'
MARK = "the-smuggled-one"


class Front:
    """One of the two doors: where it listens, and how many requests came through to an engine."""

    def __init__(self, server, passed, sent=None):
        """`passed`: requests that an engine saw; `sent`: what a gateway sent on, whatever the node thought of it."""
        self.server, self.passed, self.sent = server, passed, sent or passed

    def send(self, data, wait=180.0):
        """All that the server says until it closes."""
        with self.server.connect(wait) as s:
            try:
                s.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before all of it was sent
            try:
                return read_all(s)
            except ConnectionResetError:
                return b""


@pytest.fixture(scope="module")
def fake():
    with FakeNode("--pace-us", 3000, "--model", "default") as node:
        yield node


@pytest.fixture(scope="module")
def fronts(fake, tmp_path_factory):
    folder = tmp_path_factory.mktemp("security")
    (folder / "keys").write_text("\n".join(KEYS.values()))
    (folder / "tenants.toml").write_text("".join(f'[[tenant]]\nname = "{n}"\nkeys = ["{k}"]\n' for n, k in KEYS.items()))
    with Server("--api-keys-file", folder / "keys", "--log-level", "trace", *LIMITS) as node, \
            Gateway("--node", f"127.0.0.1:{fake.port}", "--tenants-file", folder / "tenants.toml", "--log-level", "trace",
                    *LIMITS) as gateway:
        yield {"node": Front(node, lambda: node.health()["steps"]), "gateway": Front(gateway, lambda: fake.stats()["requests"],
                                             lambda: gateway.metric("homeport_gateway_dispatched_total"))}


@pytest.fixture(params=["node", "gateway"])
def front(request, fronts):
    return fronts[request.param]


KEY = f"Authorization: Bearer {KEYS['a']}\r\n"
HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + KEY
SECOND = f"GET /v1/{MARK} HTTP/1.1\r\nHost: x\r\n{KEY}Connection: close\r\n\r\n"


def chunk(text):
    return f"{len(text):x}\r\n{text}\r\n"


HI = CHAT % ""
# Whoever reads one of these differently from its neighbour takes SECOND, or a part of the body, for a request.
SMUGGLING = {
    "CL.TE": HEAD + f"Content-Length: {len(SECOND) + 5}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE.CL": HEAD + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + chunk(HI) + "0\r\n\r\n",
    "two lengths that differ": HEAD + f"Content-Length: 2\r\nContent-Length: {len(HI)}\r\n\r\n{HI}",
    "two lengths that agree": HEAD + f"Content-Length: {len(HI)}\r\nContent-Length: {len(HI)}\r\n\r\n{HI}",
    "a list of lengths": HEAD + f"Content-Length: {len(HI)}, {len(HI)}\r\n\r\n{HI}",
    "a signed length": HEAD + f"Content-Length: +{len(HI)}\r\n\r\n{HI}",
    "a negative length": HEAD + "Content-Length: -1\r\n\r\n",
    "a hexadecimal length": HEAD + f"Content-Length: {len(HI):#x}\r\n\r\n{HI}",
    "a length with a gap": HEAD + "Content-Length: 1 0\r\n\r\n",
    "an empty length": HEAD + "Content-Length: \r\n\r\n",
    "a length beyond 64 bits": HEAD + "Content-Length: 18446744073709551618\r\n\r\n{}",
    "two encodings": HEAD + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunk(HI) + "0\r\n\r\n",
    "a list of encodings": HEAD + "Transfer-Encoding: chunked, identity\r\n\r\n" + chunk(HI) + "0\r\n\r\n",
    "an unknown encoding": HEAD + "Transfer-Encoding: xchunked\r\n\r\n" + chunk(HI) + "0\r\n\r\n",
    "an encoding behind a tab": HEAD + "Transfer-Encoding: \x0bchunked\r\n\r\n" + chunk(HI) + "0\r\n\r\n",
    "a space before the colon": HEAD + "Transfer-Encoding : chunked\r\n\r\n" + chunk(HI) + "0\r\n\r\n",
    "a folded header": HEAD + f"X-A: b\r\n Content-Length: 1\r\nContent-Length: {len(HI)}\r\n\r\n{HI}",
    "a folded encoding": HEAD + "Transfer-Encoding:\r\n chunked\r\n\r\n" + chunk(HI) + "0\r\n\r\n",
    "a space before the first header": f"POST /v1/chat/completions HTTP/1.1\r\n Host: x\r\nContent-Length: {len(HI)}\r\n\r\n{HI}",
    "bare line feeds": HEAD.replace("\r\n", "\n") + f"Content-Length: {len(HI)}\n\n{HI}",
    "one bare line feed": HEAD + f"X-A: b\nContent-Length: 0\r\nContent-Length: {len(HI)}\r\n\r\n{HI}",
    "a bare carriage return": HEAD + f"X-A: b\rContent-Length: 0\r\nContent-Length: {len(HI)}\r\n\r\n{HI}",
    "a zero byte in a header": HEAD + f"X-A: b\0c\r\nContent-Length: {len(HI)}\r\n\r\n{HI}",
    "a header without a colon": HEAD + f"X-A\r\nContent-Length: {len(HI)}\r\n\r\n{HI}",
    "a header without a name": HEAD + f": x\r\nContent-Length: {len(HI)}\r\n\r\n{HI}",
    "no Host": HEAD.replace("Host: x\r\n", "") + f"Content-Length: {len(HI)}\r\n\r\n{HI}",
    "two Hosts": HEAD + f"Host: y\r\nContent-Length: {len(HI)}\r\n\r\n{HI}",
    "HTTP/0.9": "GET /health\r\n\r\n",
    "HTTP/2.0": "GET /health HTTP/2.0\r\nHost: x\r\n\r\n",
    "a request line with four words": "GET /health x HTTP/1.1\r\nHost: x\r\n\r\n",
    "a chunk size with 0x": HEAD + f"Transfer-Encoding: chunked\r\n\r\n0x{len(HI):x}\r\n{HI}\r\n0\r\n\r\n",
    "a signed chunk size": HEAD + f"Transfer-Encoding: chunked\r\n\r\n+{len(HI):x}\r\n{HI}\r\n0\r\n\r\n",
    "a chunk size beyond 64 bits": HEAD + f"Transfer-Encoding: chunked\r\n\r\n1{len(HI):016x}\r\n{HI}\r\n0\r\n\r\n",
    "an empty chunk size": HEAD + f"Transfer-Encoding: chunked\r\n\r\n\r\n{HI}\r\n0\r\n\r\n",
    "a chunk longer than it says": HEAD + f"Transfer-Encoding: chunked\r\n\r\n2\r\n{HI}\r\n0\r\n\r\n",
    "a chunk size with a bare line feed": HEAD + f"Transfer-Encoding: chunked\r\n\r\n{len(HI):x}\n{HI}\r\n0\r\n\r\n",
    "a header among the trailers": HEAD + "Transfer-Encoding: chunked\r\n\r\n" + chunk(HI) + "0\r\nContent-Length: 3\r\n\r\n",
    "a key among the trailers": HEAD.replace(KEY, "") + "Transfer-Encoding: chunked\r\n\r\n" + chunk(HI) + "0\r\n" + KEY + "\r\n",
}


@pytest.mark.parametrize("name", SMUGGLING)
def test_smuggling_is_refused(front, name):
    before = front.passed()
    answer = front.send((SMUGGLING[name] + SECOND).encode("latin-1"))
    assert answer.startswith(b"HTTP/1.1 4") or answer.startswith(b"HTTP/1.1 50"), answer[:200]
    assert len(re.findall(rb"HTTP/1\.1 \d{3} ", answer)) == 1, "one refusal, then the connection is closed"
    assert MARK.encode() not in answer
    assert front.passed() == before, "nothing got through"


def dribble(front, head, drop, every):
    """Sends `head`, then a byte now and then; what is said until the connection is closed."""
    with front.server.connect() as s:
        begin = time.monotonic()
        s.sendall(head)
        s.settimeout(every)
        answer = b""
        while time.monotonic() - begin < 180:
            try:
                part = s.recv(65536)
                answer += part
                if not part:
                    return answer
            except socket.timeout:
                try:
                    s.send(drop)
                except OSError:
                    pass
            except ConnectionResetError:
                return answer
    raise AssertionError("still open after 180 s")


SLOW = {"headers": (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-A: ", b"a"),
        "the request line": (b"GET /", b"a"),
        "a body": (HEAD.encode() + b"Content-Length: 60000\r\n\r\n", b"a"),
        "chunks": (HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        "nothing at all": (b"", b"")}


@pytest.fixture(scope="module")
def impatient(fake, tmp_path_factory):
    """Both doors with short limits, for this alone: a busy machine may be as slow as an attacker."""
    keys = tmp_path_factory.mktemp("impatient") / "keys"
    keys.write_text("\n".join(KEYS.values()))
    with Server("--api-keys-file", keys, *IMPATIENT) as node, \
            Gateway("--node", f"127.0.0.1:{fake.port}", "--api-keys-file", keys, *IMPATIENT, nodes=0) as gateway:
        yield {"node": Front(node, None), "gateway": Front(gateway, None)}


@pytest.mark.parametrize("door", ["node", "gateway"])
@pytest.mark.parametrize("name", SLOW)
def test_slow_senders_are_cut(impatient, door, name):
    answer = dribble(impatient[door], *SLOW[name], every=0.1)
    assert answer.startswith(b"HTTP/1.1 408 ") or (name == "nothing at all" and answer == b""), answer[:100]


BOMBS = {
    "one long header": ((HEAD + "X-A: " + "a" * 200_000 + "\r\n\r\n").encode(), b"431"),
    "ten thousand headers": ((HEAD + "".join(f"X-{i}: b\r\n" for i in range(10_000)) + "\r\n").encode(), b"431"),
    "a long request line": (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"431"),
    "headers without an end": (HEAD.encode() + b"X-A: b\r\n" * 50_000, b"431"),
    "a long body": ((HEAD + "Content-Length: 70000\r\n\r\n").encode() + b"x" * 70000, b"413"),
    "an endless body": ((HEAD + "Content-Length: 99999999999999\r\n\r\n").encode(), b"413"),
    "endless chunks": ((HEAD + "Transfer-Encoding: chunked\r\n\r\n" + chunk("x" * 1000) * 100).encode(), b"413"),
    "one chunk too large": ((HEAD + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n").encode(), b"413"),
    "an endless chunk extension": ((HEAD + "Transfer-Encoding: chunked\r\n\r\n1;" + "a" * 200_000).encode(), b"400"),
    "endless trailers": ((HEAD + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + "X-A: b\r\n" * 50_000).encode(), b"400"),
    "deep JSON": ((HEAD + f"Connection: close\r\nContent-Length: {len(CHAT % '') + 60000}\r\n\r\n"
                   + CHAT % (',"x":' + "[" * 29997 + "]" * 29998)).encode(), b"400"),
    "compressed": ((HEAD + "Connection: close\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00").encode("latin-1"), b"400"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_bounded(front, name):
    data, status = BOMBS[name]
    before = front.server.rss_mib()
    for _ in range(3):
        answer = front.send(data)
        assert answer == b"" or answer.split(b" ", 2)[1] == status, answer[:200]
    assert answer != b"" or len(data) > 100_000, "only a client that goes on sending may lose the answer"
    assert front.server.rss_mib() - before < 32
    assert front.server.ask("GET", "/health")[0] == 200


PATHS = ["/v1/../admin/stats", "/v1/%2e%2e/admin/stats", "/v1/..%2fadmin/stats", "/v1//../metrics", "//v1/models", "/v1/./models",
         "/v1/models/", "/v1/models%00", "/v1/models\\", "/V1/models", "/v1/streams/../models", "/v1/streams/%2e%2e/models",
         "/v1/streams/" + "a" * 31, "/v1/streams/" + "../" * 20 + "etc/passwd", "/admin/stats", "/admin/drain", "/fault", "/stats",
         "http://other.example/v1/models", "*", "/v1/chat/completions/../../metrics"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", PATHS)
def test_path_tricks_lead_nowhere(front, path, method):
    tricky = not re.fullmatch(r"/v1(/\w+)+/?", path)  # plain names under /v1/ are the node's to refuse
    count = front.sent if tricky else front.passed
    before = count()
    body = CHAT % "" if method == "POST" else ""
    answer = front.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{KEY}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    assert answer.split(b" ", 2)[1] in (b"400", b"404", b"405"), answer[:200]
    assert count() == before


@pytest.mark.parametrize("method", ["CONNECT x:1", "TRACE /health", "OPTIONS *", "PUT /v1/chat/completions", "DELETE /v1/models"])
def test_other_methods_do_nothing(front, method):
    before = front.passed()
    answer = front.send(f"{method} HTTP/1.1\r\nHost: x\r\n{KEY}X-Secret: {MARK}\r\nConnection: close\r\n\r\n".encode())
    assert answer.split(b" ", 2)[1] in (b"400", b"404", b"405"), answer[:200]
    assert MARK.encode() not in answer and front.passed() == before


def post(front, key, body, extra=""):
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n{extra}"
    return front.send(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())


def get(front, path, key=None, extra=""):
    who = f"Authorization: Bearer {key}\r\n" if key else ""
    return front.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n{who}{extra}Connection: close\r\n\r\n".encode())


def test_a_tenant_cannot_read_anothers_stream(fronts):
    front = fronts["gateway"]
    mine = post(front, KEYS["a"], CHAT % ',"stream":true,"seed":5')
    stream = next(l for l in mine.decode().split("\r\n") if l.lower().startswith("homeport-stream: ")).split(": ")[1]
    event = f"Last-Event-ID: {stream}:0\r\n"
    assert get(front, f"/v1/streams/{stream}", KEYS["a"]).startswith(b"HTTP/1.1 200 ")
    for key, status in ((KEYS["b"], b"404"), ("sk-nobody", b"401"), (None, b"401")):
        for extra in ("", event):
            answer = get(front, f"/v1/streams/{stream}", key, extra)
            assert answer.split(b" ", 2)[1] == status and b"data: " not in answer, answer[:200]
    # With a body of their own they get what their own body says, not what the stream holds.
    other = CHAT.replace("Hi", "Something else entirely") % ',"stream":true,"seed":5'
    theirs = post(front, KEYS["b"], other, event)
    own = post(front, KEYS["b"], other)
    text = lambda raw: [json.loads(l[6:])["choices"][0]["delta"].get("content") for l in raw.decode().split("\n")
                        if l.startswith("data: {") and "choices" in l]
    assert [t for t in text(theirs) if t] == [t for t in text(own) if t] != [t for t in text(mine) if t]


def test_wrong_keys_are_refused(front):
    before = front.passed()
    key = KEYS["a"]
    for header in ("", "Bearer", "Bearer ", f"Bearer {key[:-1]}", f"Bearer {key}x", f"bearer  {key}", f"Basic {key}", key,
                   f"Bearer {key},Bearer {key}"):
        line = f"Authorization: {header}\r\n" if header else ""
        answer = front.send(f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{line}Connection: close\r\nContent-Length: {len(HI)}\r\n\r\n{HI}".encode())
        assert answer.startswith(b"HTTP/1.1 401 "), (header, answer[:100])
        assert not header or key.encode() not in answer
    assert front.passed() == before


def test_no_key_and_no_prompt_in_a_log(front):
    prompt = "my-medical-secret-4711"
    body = CHAT.replace("Hi", prompt) % ""
    assert post(front, KEYS["a"], body).startswith(b"HTTP/1.1 200 ")
    assert post(front, "sk-wrong-key-5522", body).startswith(b"HTTP/1.1 401 ")
    post(front, KEYS["a"], body[:-5])
    get(front, f"/v1/models?key={KEYS['a']}", KEYS["b"])
    get(front, f"/v1/streams/{KEYS['a']}", KEYS["a"], f"Last-Event-ID: {KEYS['a']}\r\n")
    post(front, KEYS["a"], body.replace("default", KEYS["b"]))
    target = f"POST /v1/chat/completions?key={KEYS['a']} HTTP/1.1\r\nHost: x\r\n{KEY}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    assert front.send(target.encode()).startswith(b"HTTP/1.1 200 ")
    log = front.server.log()
    assert "chat/completions" in log, "the log is on"
    for secret in (KEYS["a"], "sk-wrong-key-5522", prompt):
        assert secret not in log
    assert KEYS["a"].encode() not in front.server.ask("GET", "/metrics")[2]


def test_more_connections_than_allowed(fake):
    with Gateway("--node", f"127.0.0.1:{fake.port}", "--max-connections", 8) as gateway:
        held = []

        def hold():  # a place counts as taken when it has been answered on
            s = gateway.connect()
            s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            (held if read_until(s, b"\r\n\r\n").startswith(b"HTTP/1.1 200 ") else spare).append(s)
            return len(held) == 8

        spare = []
        gateway.wait_for(hold)
        extra = gateway.connect()
        assert read_all(extra).startswith(b"HTTP/1.1 503 ")
        for s in [*held, *spare, extra]:
            s.close()
        gateway.wait_for(lambda: os.path.exists(f"/proc/{gateway.process.pid}") and gateway.connect().close() is None)
        gateway.wait_for(lambda: gateway.ask("GET", "/health")[0] == 200)
