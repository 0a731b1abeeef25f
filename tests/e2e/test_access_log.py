"""One line per request, and the client's trace through to the node."""
import json
import os
import re
import signal

import pytest

from cluster import ENDLESS, FakeNode, Gateway, Upstream
from serving import Server, events, read_until, wait_for

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "tracestate": "vendor=1,other=2"}
FIELDS = {"time", "trace", "stream", "tenant", "method", "path", "model", "streamed", "reattached", "status", "outcome", "prompt_tokens",
          "completion_tokens", "first_token_ms", "ms", "nodes", "attempts", "resumes"}


def lines(path):
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]  # whole ones


def test_the_trace_goes_through_and_every_request_leaves_one_line(tmp_path):
    keys, log = tmp_path / "keys", tmp_path / "access.log"
    keys.write_text("sk-one\n")
    with Upstream() as upstream, Gateway("--node", f"up=127.0.0.1:{upstream.port};kind=openai", "--api-keys-file", keys,
                                         "--access-log-file", log) as gateway:
        key = {"Authorization": "Bearer sk-one"}
        assert gateway.chat(model="fake", headers=key | PARENT)[0] == 200
        assert gateway.chat(model="fake", headers=key)[0] == 200
        assert gateway.chat(model="fake")[0] == 401
        assert gateway.ask("POST", "/v1/chat/completions?x=sk-one", b"{", key)[0] == 400
        gateway.ask("GET", "/health")
        gateway.wait_for(lambda: len(lines(log)) >= 4)
        first, second = (r.headers for r in upstream.requests)
        assert re.fullmatch(rf"00-{TRACE}-[0-9a-f]{{16}}-01", first["traceparent"])
        assert first["traceparent"][36:52] != PARENT["traceparent"][36:52], "a call to a node is a span of its own"
        assert first["tracestate"] == PARENT["tracestate"]
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", second["traceparent"]) and TRACE not in second["traceparent"]
        assert second["tracestate"] is None
        found = lines(log)
        assert all(set(line) == FIELDS for line in found) and len(found) == 4, "probes leave none"
        assert [line["status"] for line in found] == [200, 200, 401, 400]
        assert found[0]["trace"] == TRACE and found[1]["trace"] == second["traceparent"][3:35]
        ok = found[0]
        assert (ok["tenant"], ok["model"], ok["path"], ok["nodes"]) == ("default", "fake", "/v1/chat/completions", ["up"])
        assert (ok["prompt_tokens"], ok["completion_tokens"], ok["streamed"], ok["attempts"]) == (11, 5, False, 1)
        assert ok["ms"] > 0 and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", ok["time"])
        assert "sk-one" not in log.read_text() + gateway.log()


def test_a_resumed_stream_names_its_nodes_and_the_file_can_be_rotated(tmp_path):
    log, old = tmp_path / "access.log", tmp_path / "access.log.1"
    with FakeNode("--pace-us", 10_000) as a, FakeNode("--pace-us", 10_000) as b, \
            Gateway("--node", f"a=127.0.0.1:{a.port},b=127.0.0.1:{b.port}", "--access-log-file", log, nodes=2) as gateway:
        for node in (a, b):
            node.slow_down()
        stream = gateway.open_stream(model="fake", messages=ENDLESS, max_tokens=60, seed=1)
        data = read_until(stream, b"data: ")
        for node in (a, b):
            node.fault("cut")
            node.speed_up()
        data += read_until(stream, b"[DONE]")
        gateway.wait_for(lambda: log.exists() and len(lines(log)) == 1)
        os.rename(log, old)
        gateway.signal(signal.SIGHUP)
        gateway.wait_for(log.exists)
        gateway.chat(model="fake", max_tokens=2)
        gateway.wait_for(lambda: len(lines(log)) == 1)
        (line,) = lines(old)
        assert line["streamed"] and line["resumes"] >= 1 and sorted(set(line["nodes"])) == ["a", "b"]
        assert 0 < line["completion_tokens"] <= 60 and 0 < line["first_token_ms"] <= line["ms"]
        assert len(events(data)) > 10 and line["outcome"] == "finished"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_node_logs_the_trace_too(form):
    with Server("--log-format", form) as node:
        assert node.chat(headers=PARENT)[0] == 200
        (row,) = wait_for(lambda: [r for r in node.log().splitlines() if TRACE in r and r.endswith("}")])
        line = json.loads(row)["message"] if form == "json" else json.loads(row[row.index("{"):])
        assert line["status"] == 200 and line["path"] == "/v1/chat/completions" and line["completion_tokens"] >= 1
