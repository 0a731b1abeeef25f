"""No key stands in any log: of clients, of nodes or of Redis; at every level, of good and of bad requests, configurations
and connections, in the access log, and in the bundle that leaves the house."""
import io
import shutil
import signal
import subprocess
import tarfile

import pytest

from cluster import FakeNode, Gateway, Redis, Stream, Upstream
from serving import PROGRAM, Server, clean_environment, wait_for

GOOD, BAD, NODE, REDIS = "sk-good-7f3a91c2", "sk-bad-55aa01ef", "sk-node-90c1d2e3", "pass-redis-4d5e6f70"
SECRETS = (GOOD, BAD, NODE, REDIS)
MESSAGES = [{"role": "user", "content": "x"}]


def use_keys(server, model):
    """Every way in which a key may come, and the paths that speak of a request."""
    statuses = []
    for key in (GOOD, BAD):
        for headers in ({"Authorization": f"Bearer {key}"}, {"Authorization": f"bearer {key}"}, {"Authorization": key}, {"X-Api-Key": key},
                        {"Authorization": f"Basic {key}"}, {"Authorization": f"Bearer {key}", "traceparent": key, "Idempotency-Key": key},
                        {"Authorization": f"Bearer {key}", "Homeport-Priority": key}, {"Authorization": f"Bearer {key}", "Last-Event-ID": key}):
            body = {"model": model, "messages": MESSAGES, "max_tokens": 2, "stream": "Last-Event-ID" in headers}
            statuses.append(server.ask("POST", "/v1/chat/completions", body, headers)[0])
        for path in (f"/v1/chat/completions?api_key={key}", f"/v1/{key}", f"/{key}"):
            statuses.append(server.ask("POST", path, b"{", {"Authorization": f"Bearer {GOOD}"})[0])
        for path in (f"/v1/streams/{key}", f"/v1/streams/{'a' * 32}?token={key}", f"/v1/models?key={key}", f"/metrics?key={key}"):
            statuses.append(server.ask("GET", path, None, {"Authorization": f"Bearer {key}"})[0])
        with server.connect() as broken:
            broken.sendall(f"GET /v1/models HTTP/1.1\r\nAuthorization: Bearer {key}\r\n Bearer {key}\r\n\r\n".encode())
            broken.recv(1 << 16)
    return statuses


def leaks(text):
    return [line for line in text.splitlines() if any(secret in line for secret in SECRETS)]


@pytest.mark.parametrize("level", ["debug", "info"])
def test_a_gateways_logs(tmp_path, level):
    tenants, access, nodes, password = (tmp_path / name for name in ("tenants.toml", "access.log", "nodes", "password"))
    tenants.write_text(f'[[tenant]]\nname = "acme"\nkeys = ["{GOOD}"]\n')
    password.write_text(REDIS + "\n")
    with Upstream() as upstream, FakeNode() as fake, Redis() as redis:
        nodes.write_text(f"up=127.0.0.1:{upstream.port};kind=openai;key={NODE}\n")
        with Gateway("--nodes-file", nodes, "--tenants-file", tenants, "--access-log-file", access, "--log-level", level,
                     "--redis", redis.address, "--redis-password-file", password) as gateway:
            statuses = use_keys(gateway, "fake")
            assert {200, 401, 400} <= set(statuses)
            assert any(NODE in str(r.headers) for r in upstream.requests), "the node's key is in use"
            gateway.wait_for(lambda: "is away" in gateway.log())  # its server has no password, and says so
            for broken in (f"up=127.0.0.1:{upstream.port};kee={NODE}\n", f"up=127.0.0.1:{upstream.port};{NODE}\n",
                           f"up=127.0.0.1:{fake.port};priority=1,key={NODE}\n", f"a=h:1;key={NODE}\na=h:1;key={NODE}\n"):
                before = gateway.log().count("is not taken")
                nodes.write_text(broken)
                gateway.signal(signal.SIGHUP)
                gateway.wait_for(lambda: gateway.log().count("is not taken") > before)
            nodes.write_text(f"up=127.0.0.1:{upstream.port};kind=openai;key={NODE}\n")
            for broken in (f'[[tenant]]\nname = "a"\nkeys = ["{GOOD}"\n', f'[[tenant]]\nname = "a"\nkeys = "{GOOD}"\n',
                           f'[[tenant]]\nname = "a"\nkey_sha256 = ["{GOOD}"]\n', f'[[tenant]]\nname = "a"\nkeys = ["x"]\npriority = "{GOOD}"\n',
                           f'{GOOD}\n', f'[[tenant]]\nname = "a"\nkeys = [{GOOD}]\n'):
                before = gateway.log().count("is not taken")
                tenants.write_text(broken)
                gateway.signal(signal.SIGHUP)
                gateway.wait_for(lambda: gateway.log().count("is not taken") > before)
            assert access.read_text().count("\n") > 20
            assert leaks(access.read_text() + gateway.log()) == []


def test_a_nodes_logs(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(GOOD + "\n")
    with Server("--api-keys-file", keys, "--log-level", "debug") as node:
        assert {200, 401, 400} <= set(use_keys(node, "default"))
        assert leaks(node.log()) == []


@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")
def test_the_logs_of_a_cluster_and_its_bundle(tmp_path):
    keys, access = tmp_path / "keys", tmp_path / "access.log"
    keys.write_text(GOOD + "\n")
    with Upstream() as upstream, Server("--api-keys-file", keys, "--node", f"up=127.0.0.1:{upstream.port};kind=openai;key={NODE}",
                                        "--access-log-file", access, "--log-level", "debug", command="serve") as serve:
        wait_for(lambda: "default" in serve.ask("GET", "/v1/models", None, {"Authorization": f"Bearer {GOOD}"})[2].decode())
        assert {200, 401, 400} <= set(use_keys(serve, "default"))
        stream = Stream(serve.port, {"model": "default", "messages": MESSAGES, "max_tokens": 3, "stream": True}, key=GOOD).read()
        token = stream.header("Homeport-Stream-Token")
        assert stream.status == 200 and len(token) == 32
        bundle = tmp_path / "b.tar.zst"
        done = subprocess.run([PROGRAM, "doctor", "--bundle", bundle, "--url", serve.url], capture_output=True, text=True,
                              timeout=120, env=clean_environment(), stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        unpacked = subprocess.run(["zstd", "-dc", bundle], capture_output=True, check=True).stdout
        files = tarfile.open(fileobj=io.BytesIO(unpacked))
        bundled = {m.name: files.extractfile(m).read().decode(errors="replace") for m in files.getmembers() if m.isfile()}
        assert len(bundled) > 3
        everything = access.read_text() + serve.log() + "".join(bundled.values()) + done.stdout + done.stderr
        assert leaks(everything) == [] and token not in everything
