"""Nodes from a Kubernetes service, against a fake API server that speaks list and watch over TLS."""
import http.server
import json
import ssl
import threading
import urllib.parse

import pytest

from cluster import ENDLESS, FakeNode, Gateway, certificate
from serving import read_until

PATH = "/apis/discovery.k8s.io/v1/namespaces/ai/endpointslices"


class Api:
    """EndpointSlices of one service, with versions, bookmarks and a memory that can be lost."""

    def __init__(self, pair, token):
        outer = self
        self.slices, self.history, self.version, self.oldest = {}, [], 100, 0
        self.changed, self.lists, self.watches, self.refused = threading.Condition(), 0, [], 0
        self.token, self.up, self.cut = token, True, 0

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                url = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(url.query))
                if not outer.up:
                    return self.answer(503, {})
                if self.headers.get("Authorization") != f"Bearer {outer.token}":
                    outer.refused += 1
                    return self.answer(401, {"kind": "Status", "code": 401})
                assert url.path == PATH and query["labelSelector"] == "kubernetes.io/service-name=llm", self.path
                outer.watch(self, query) if query.get("watch") else outer.list(self)

            def answer(self, status, body):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(data)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def list(self, handler):
        with self.changed:
            self.lists += 1
            body = {"kind": "EndpointSliceList", "metadata": {"resourceVersion": str(self.version)}, "items": list(self.slices.values())}
        handler.answer(200, body)

    def watch(self, handler, query):
        assert query["allowWatchBookmarks"] == "true" and int(query["timeoutSeconds"]) > 0
        seen = int(query["resourceVersion"])
        self.watches.append(seen)
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()

        def say(event):
            line = json.dumps(event).encode() + b"\n"
            for part in (line[:7], line[7:]):  # an event comes in pieces, too
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))

        with self.changed:
            cut = self.cut
            while self.up and self.cut == cut:
                if seen < self.oldest:
                    say({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}})
                    break
                for version, event in self.history:
                    if version > seen:
                        say(event)
                        seen = version
                self.changed.wait(0.2)
            for version, event in self.history:  # what happened before the end is told before it
                if version > seen and seen >= self.oldest:
                    say(event)
            handler.wfile.write(b"0\r\n\r\n")
            handler.close_connection = True

    def change(self, kind, name, node=None, **conditions):
        with self.changed:
            self.version += 1
            if kind == "BOOKMARK":
                event = {"type": kind, "object": {"metadata": {"resourceVersion": str(self.version)}}}
            else:
                endpoints = [{"addresses": ["127.0.0.1"], "conditions": conditions, "targetRef": {"kind": "Pod", "name": f"pod-{name}"}}] if node else []
                slice_ = {"metadata": {"name": name, "resourceVersion": str(self.version)}, "addressType": "IPv4", "endpoints": endpoints,
                          "ports": [{"name": "http", "port": node.port if node else 1, "protocol": "TCP"}]}
                event = {"type": kind, "object": slice_}
                self.slices.pop(name, None) if kind == "DELETED" else self.slices.update({name: slice_})
            self.history.append((self.version, event))
            self.changed.notify_all()

    def end_watches(self):
        with self.changed:
            self.cut += 1
            self.changed.notify_all()

    def forget(self):
        """The API has compacted everything before now."""
        with self.changed:
            self.version += 1
            self.oldest = self.version
            self.history.clear()
            self.changed.notify_all()

    def stop(self):
        self.up = False
        self.end_watches()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def world(tmp_path):
    pair = certificate(tmp_path, "api")
    (tmp_path / "token").write_text("first-token\n")
    api = Api(pair, "first-token")
    with FakeNode("--pace-us", 10_000) as a, FakeNode("--pace-us", 10_000) as b:
        api.change("ADDED", "llm-1", a)
        with Gateway("--node", "k8s:ai/llm:http;capacity=2", "--kube-url", f"https://127.0.0.1:{api.port}", "--kube-token-file", tmp_path / "token",
                     "--kube-ca-file", pair[0]) as gateway:
            yield api, gateway, a, b, tmp_path / "token"
    api.stop()


def test_pods_come_and_go_under_a_stream(world):
    api, gateway, a, b, _ = world
    a.slow_down()
    stream = gateway.open_stream(model="fake", messages=ENDLESS, max_tokens=90, seed=1)
    data = read_until(stream, b"data: ")
    api.change("ADDED", "llm-2", b)
    gateway.wait_for(lambda: gateway.usable() == 2)
    api.change("MODIFIED", "llm-1", a, ready=False, serving=True, terminating=True)
    gateway.wait_for(lambda: a.stats()["open"] == 0)
    data += read_until(stream, b"[DONE]")
    assert b'"error"' not in data and gateway.metric("homeport_gateway_resumes_total") == 1
    assert gateway.usable() == 1
    assert 'node="llm/pod-llm-2"' in gateway.ask("GET", "/metrics")[2].decode(), "named by pod"
    api.change("DELETED", "llm-1")
    api.change("MODIFIED", "llm-2", b, ready=None)
    assert gateway.chat(model="fake", max_tokens=2)[0] == 200
    assert api.lists == 1, "one list, the rest was watched"


def test_the_watch_goes_on_from_its_version_and_lists_again_after_410(world):
    api, gateway, _, b, _ = world
    api.change("BOOKMARK", "")
    gateway.wait_for(lambda: len(api.watches) == 1)
    api.end_watches()
    gateway.wait_for(lambda: len(api.watches) == 2)
    assert api.watches[1] == api.version and api.lists == 1
    api.forget()
    gateway.wait_for(lambda: api.lists == 2 and len(api.watches) >= 3)
    api.change("ADDED", "llm-2", b)
    gateway.wait_for(lambda: gateway.usable() == 2)


def test_without_the_api_the_nodes_stay_and_the_token_is_read_anew(world):
    api, gateway, _, b, token = world
    api.up = False
    api.end_watches()
    gateway.wait_for(lambda: "cannot be asked for ai/llm" in gateway.log())
    assert gateway.chat(model="fake", max_tokens=2)[0] == 200 and gateway.usable() == 1
    api.token, api.up = "second-token", True
    gateway.wait_for(lambda: api.refused > 0)
    assert gateway.usable() == 1
    token.write_text("second-token")
    api.change("ADDED", "llm-2", b)
    gateway.wait_for(lambda: gateway.usable() == 2)
    assert "-token" not in gateway.log()


@pytest.mark.parametrize("entry", ["k8s:ai:80", "k8s:ai/llm", "k8s:ai/../x:80", "k8s:A I/llm:80", "k8s:ai/llm:http;what=1"])
def test_wrong_entries_are_refused(entry):
    with pytest.raises(AssertionError, match="ended with 2"):
        Gateway("--node", entry)
