"""scale_out where Kubernetes runs the nodes: the scale subresource of a fake API server, by a person and by a playbook."""
import http.server
import json
import ssl
import subprocess
import threading
import urllib.parse
import urllib.request

import pytest

from cluster import FakeNode, Gateway, certificate
from serving import PROGRAM, clean_environment

PATH = "/apis/apps/v1/namespaces/ai/deployments/llm/scale"


class ScaleApi:
    """One Deployment's replicas over TLS. A patch of an old version is a conflict; a dry run changes nothing."""

    def __init__(self, pair, token):
        outer, self.token, self.replicas, self.version, self.patches, self.meddle = self, token, 2, 7, [], 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                self.handle_scale(None)

            def do_PATCH(self):
                assert self.headers["Content-Type"] == "application/merge-patch+json"
                self.handle_scale(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def handle_scale(self, patch):
                url = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(url.query))
                if self.headers.get("Authorization") != f"Bearer {outer.token}":
                    return self.answer(403, {"kind": "Status", "message": 'deployments.apps "llm" is forbidden'})
                assert url.path == PATH, self.path
                replicas = outer.replicas
                if patch:
                    assert query["fieldManager"] == "homeport"
                    if outer.meddle:  # somebody else's change comes between reading and writing
                        outer.meddle, outer.replicas, outer.version = outer.meddle - 1, outer.replicas + 1, outer.version + 1
                    if patch["metadata"]["resourceVersion"] != str(outer.version):
                        return self.answer(409, {"kind": "Status", "message": "the object has been modified"})
                    replicas = patch["spec"]["replicas"]
                    outer.patches.append((replicas, query.get("dryRun", "")))
                    if "dryRun" not in query:
                        outer.replicas, outer.version = replicas, outer.version + 1
                self.answer(200, {"kind": "Scale", "metadata": {"name": "llm", "resourceVersion": str(outer.version)}, "spec": {"replicas": replicas}})

            def answer(self, status, body):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Console:
    """A person with the admin's key."""

    def __init__(self, gateway, folder):
        gateway.wait_for(lambda: "ops: " in gateway.log())  # the console opens a moment after the gateway
        self.url, self.headers = gateway.url, {"Content-Type": "application/json"}
        self.headers["X-CSRF-Token"] = json.loads(self.ask("session").read())["csrf"]
        answer = self.ask("login", {"key": (folder / "console.key").read_text()})
        self.headers["Cookie"] = answer.headers["Set-Cookie"].split(";")[0]
        self.headers["X-CSRF-Token"] = json.loads(answer.read())["csrf"]

    def ask(self, what, body=None):
        data = json.dumps(body).encode() if body is not None else None
        return urllib.request.urlopen(urllib.request.Request(f"{self.url}/console/api/{what}", data=data, headers=self.headers), timeout=300)

    def act(self, action, dry_run=False, **more):
        return json.loads(self.ask("actions", {"action": action, "dry_run": dry_run, **more}).read())


@pytest.fixture
def world(tmp_path):
    pair = certificate(tmp_path, "api")
    (tmp_path / "token").write_text("first-token\n")
    api = ScaleApi(pair, "first-token")

    def gateway(*flags, node):
        return Gateway("--node", f"127.0.0.1:{node.port}", "--kube-url", f"https://127.0.0.1:{api.port}", "--kube-token-file", tmp_path / "token",
                       "--kube-ca-file", pair[0], "--kube-scale", "ai/llm", "--kube-replicas-max", 4, "--ops-folder", tmp_path / "ops", *flags)

    yield api, gateway, tmp_path
    api.stop()


def test_a_person_scales_out_and_in(world):
    api, gateway, folder = world
    with FakeNode() as node, gateway(node=node) as running:
        person = Console(running, folder / "ops")
        rehearsal = person.act("scale_out", dry_run=True, argument="1")
        assert rehearsal["ok"] and "3 replicas instead of 2" in rehearsal["text"], rehearsal
        assert api.replicas == 2 and api.patches == [(3, "All")], "the API was asked whether it would"
        assert person.act("scale_out", argument="1") == {"ok": True, "text": "ai/llm: 3 replicas instead of 2"}
        api.meddle = 1
        assert person.act("scale_in", argument="1")["text"] == "ai/llm: 3 replicas instead of 4", "what somebody else added in between is counted"
        api.replicas = 4
        api.version += 1
        full = person.act("scale_out", argument="1")
        assert not full["ok"] and "at most 4 (ops.kube_replicas_max)" in full["text"]
        limit = person.act("scale_out", argument="1")
        assert not limit["ok"] and "which is its limit" in limit["text"], "two in 15 minutes"
        assert person.act("scale_in", argument="9")["ok"] and api.replicas == 1
        assert "one stays" in person.act("scale_in", argument="1")["text"]
        api.token = "second-token"
        assert "is forbidden" in person.act("scale_in", argument="1")["text"]
        (folder / "token").write_text("second-token")
        assert "one stays" in person.act("scale_in", argument="1")["text"], "the token is read anew"
        audit = json.loads(person.ask("list/audit").read())
        assert "scale_out" in json.dumps(audit) and "-token" not in running.log()


def test_a_playbook_scales_out_and_takes_it_back(world):
    api, gateway, folder = world
    (folder / "rules.toml").write_text("[request_timeouts]\nwindow_s = 5\nclear_for_s = 1\n[slo_burn_fast]\nabove = 1e9\nclear = 1e9\n")
    (folder / "notices.toml").write_text("")  # an empty file is an empty list
    (folder / "books.toml").write_text('[[playbook]]\nname = "level2"\nlevel = 2\n[[playbook.step]]\naction = "scale_out"\ntarget = "cluster"\nargument = "1"\n')
    with FakeNode("--prefill-us", 300_000) as node, gateway("--ops-rules", folder / "rules.toml", "--ops-playbooks-file", folder / "books.toml", "--ops-notices", folder / "notices.toml",
                                                           "--ops-interval-ms", 200, node=node) as running:
        def late():
            running.chat(model="fake", deadline_ms=50)
            return api.replicas == 3
        running.wait_for(late)
        running.wait_for(lambda: api.replicas == 2)
        running.wait_for(lambda: "closed" in running.log())


@pytest.mark.parametrize("entry", ["llm", "ai/pods/llm", "ai/../llm", "ai/Llm", "ai/llm?x=1", "ai/deployments/llm/scale"])
def test_wrong_entries_are_refused(entry):
    done = subprocess.run([PROGRAM, "gateway", "--port", "0", "--node", "127.0.0.1:1", "--kube-url", "http://127.0.0.1:1", "--kube-scale", entry],
                          capture_output=True, text=True, check=False, env=clean_environment(), timeout=300)
    assert done.returncode == 2 and f"found '{entry}'" in done.stderr, done.stderr
