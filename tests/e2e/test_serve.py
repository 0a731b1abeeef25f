"""`homeport serve` as it comes: a gateway and one node process of its own. And with --nodes 0: one process."""
import json
import os
import re
import signal
import subprocess

import pytest

from cluster import ENDLESS, FakeNode, Gateway
from serving import MODEL, PROGRAM, Server, clean_environment, events, read_until, wait_for


def node_of(server):
    """The process of its node, or None."""
    return server.nodes().get("node0")


@pytest.fixture(scope="module")
def serve():
    with Server(command="serve") as running:
        yield running


def test_the_engine_is_killed_and_the_address_and_the_stream_live_on(serve):
    members = {"max_tokens": 200, "temperature": 0.8, "seed": 4, "ignore_eos": True}

    def text(data):
        assert b'"error"' not in data
        return "".join(c["delta"].get("content") or "" for e in events(data) if e.startswith("{") for c in json.loads(e)["choices"])

    with serve.open_stream(**members) as stream:
        expected = text(read_until(stream, b"[DONE]\n\n"))
    assert text(serve.killed_under_stream(**members)) == expected and len(expected) > 100


def test_ready_and_small():
    with Server(command="serve") as server:
        assert server.ask("GET", "/ready")[0] == 200
        assert server.rss_mib() < 60, "the gateway's part"


def test_the_page_of_metrics_has_the_engines_figures(serve):
    wait_for(lambda: serve.ask("GET", "/ready")[0] == 200)
    page = lambda: serve.ask("GET", "/metrics")[2].decode()
    for name in ("vllm:num_requests_running{node=\"node0\",", "homeport_gateway_requests_total ", "homeport_fleet_running 1"):
        wait_for(lambda: name in page())  # a node that was just started again is asked a moment later
    text = page()
    for family in re.findall("# TYPE (\\S+)", text):
        assert text.count(f"# TYPE {family} ") == 1, family


def test_a_crash_loop_backs_off_and_says_why():
    with Server("--queue-timeout-ms", 600_000, command="serve") as server:
        for _ in range(3):
            wait_for(lambda: node_of(server))
            os.kill(node_of(server), signal.SIGKILL)
            wait_for(lambda: not node_of(server))
        wait_for(lambda: "keeps dying" in server.log())
        pauses = [float(p) for p in re.findall(r"keeps dying \(\d+ times in a row, signal 9 \(Killed\)\); next start in ([\d.]+) s", server.log())]
        assert pauses and pauses[0] >= 0.3, "100 ms doubled twice"
        assert server.ask("GET", "/health")[0] == 200 and server.chat()[0] == 200, "and it comes back"


def test_a_node_that_cannot_start_ends_the_program_with_the_reason():
    done = subprocess.run([PROGRAM, "serve", "--model", MODEL, "--port", "0", "--isa", "nonsense"], capture_output=True, text=True, timeout=300,
                          env=clean_environment(), stdin=subprocess.DEVNULL)
    assert done.returncode == 1 and "nonsense" in done.stderr and "no node has ever become ready" in done.stderr, done.stderr
    assert done.stderr.count("started, process") == 1, "not tried again: an exit code is a reason, not an accident"


def test_further_nodes_stand_beside_its_own_and_come_and_go_with_their_file(tmp_path):
    nodes = tmp_path / "nodes"
    nodes.write_text("# none yet\n")
    with FakeNode() as far, Server("--nodes-file", nodes, "--probe-interval-ms", 50, command="serve") as server:
        models = lambda: {m["id"] for m in json.loads(server.ask("GET", "/v1/models")[2])["data"]}
        ask = lambda: server.ask("POST", "/v1/chat/completions",
                                 {"model": "fake", "max_tokens": 3, "messages": [{"role": "user", "content": "x"}]})
        for entry in (f"far=127.0.0.1:{far.port}\n", f"dns:localhost:{far.port}\n"):
            assert "fake" not in models()
            nodes.write_text(entry)
            wait_for(lambda: "fake" in models())
            assert ask()[0] == 200 and server.chat()[0] == 200, "each model at its own node"
            nodes.write_text("")
            wait_for(lambda: "is empty" in server.log().rsplit("reload", 1)[-1])
            assert "fake" in models(), "half written, perhaps"
            nodes.write_text("# none any more\n")
            wait_for(lambda: "fake" not in models())
        nodes.write_text(f"node0=127.0.0.1:{far.port}\n")
        wait_for(lambda: "two nodes have the name 'node0'" in server.log())
        assert "fake" not in models() and server.chat()[0] == 200
        assert far.stats()["requests"] == 2


def test_one_process_when_asked_for():
    with Server("--nodes", 0, command="serve") as server:
        assert node_of(server) is None and server.chat()[0] == 200
        assert "running" in server.health()


def test_the_operator_takes_a_node_out_and_back(tmp_path):
    with FakeNode("--pace-us", 10_000) as a, FakeNode("--pace-us", 10_000) as b, \
            Gateway("--node", f"a=127.0.0.1:{a.port},b=127.0.0.1:{b.port};key=sk-node", "--admin-host", f"unix:{tmp_path}/admin",
                    nodes=2) as gateway:
        admin = Server.__new__(Server)
        admin.host, admin.port, admin.trust = f"unix:{tmp_path}/admin", 0, None
        listed = lambda: {n["name"]: n for n in json.loads(admin.ask("GET", "/admin/nodes")[2])["nodes"]}
        assert set(listed()) == {"a", "b"} and "sk-node" not in str(listed())
        for node in (a, b):
            node.slow_down()
        stream = gateway.open_stream(model="fake", messages=ENDLESS, max_tokens=80, seed=1)
        data = read_until(stream, b"data: ")
        at = next(name for name, node in listed().items() if node["requests"])
        assert admin.ask("POST", f"/admin/nodes/{at}/drain")[0] == 202
        gateway.wait_for(lambda: listed()[at]["requests"] == 0 and listed()[at]["held"])
        for node in (a, b):
            node.speed_up()
        data += read_until(stream, b"[DONE]")
        assert b'"error"' not in data and gateway.metric("homeport_gateway_resumes_total") == 1
        assert json.loads(gateway.ask("GET", "/ready")[2])["usable_nodes"] == 1
        assert admin.ask("POST", f"/admin/nodes/{at}/undrain")[0] == 202
        assert json.loads(gateway.ask("GET", "/ready")[2])["usable_nodes"] == 2
        assert admin.ask("POST", "/admin/nodes/x/drain")[0] == 404
        assert admin.ask("POST", "/admin/reload", headers={"Origin": "http://evil.example"})[0] == 403, "no web page"
        assert admin.ask("POST", "/admin/reload")[0] == 202
        gateway.wait_for(lambda: "reloaded, 2 nodes" in gateway.log())
        assert admin.ask("POST", "/admin/log?level=debug")[0] == 200
        assert admin.ask("POST", "/admin/drain")[0] == 202
        assert gateway.process.wait(120) == 0


def test_admin_routes_are_for_this_machine_only():
    done = subprocess.run([PROGRAM, "gateway", "--node", "127.0.0.1:1", "--port", "0", "--admin-host", "0.0.0.0"], capture_output=True,
                          text=True, timeout=300, env=clean_environment(), stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and "this machine's own" in done.stderr
