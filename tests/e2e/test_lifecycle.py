"""Start, drain, end, overload, keys: the process as its operator meets it."""
import json
import os
import signal
import socket
import subprocess
import threading

import pytest

from serving import MODEL, PROGRAM, Server, clean_environment, read_all, read_until, wait_for


def homeport(*arguments, **kwargs):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=300,
                          env=clean_environment(), stdin=subprocess.DEVNULL, **kwargs)


def drains(server):
    """Whether it has taken notice of its signal: not ready any more, or not there."""
    try:
        return server.ask("GET", "/ready")[0] != 200
    except OSError:
        return True


def turned_away(server):
    """Whether a new request is refused with 503, or nobody listens any more."""
    try:
        status = server.chat(max_tokens=1)[0]
    except OSError:
        return True
    assert status in (200, 503)
    return status == 503


def test_ready_means_that_requests_are_served():
    with Server() as server:
        assert server.ask("GET", "/ready")[0] == 200
        assert server.chat()[0] == 200


def test_sigterm_lets_streams_finish():
    with Server("--drain-ms", 600_000) as server:
        streams = [server.open_stream(max_tokens=120, ignore_eos=True) for _ in range(4)]
        heads = [read_until(s, b"data: ") for s in streams]
        server.signal(signal.SIGTERM)
        wait_for(lambda: drains(server))
        wait_for(lambda: turned_away(server))  # after the time in which balancers see that it is not ready
        for head, s in zip(heads, streams):
            data = head + read_until(s, b"[DONE]")
            assert b'"finish_reason":"length"' in data
        assert server.process.wait(120) == 0


def test_a_second_signal_ends_at_once():
    with Server("--drain-ms", 600_000) as server:
        s = server.open_stream(max_tokens=6000, ignore_eos=True)
        read_until(s, b"data: ")
        server.signal(signal.SIGINT)
        wait_for(lambda: drains(server))
        assert server.process.poll() is None
        server.signal(signal.SIGINT)
        assert server.process.wait(120) != 0


def test_drain_time_is_a_limit():
    with Server("--drain-ms", 500) as server:
        s = server.open_stream(max_tokens=6000, ignore_eos=True)
        read_until(s, b"data: ")
        server.signal(signal.SIGTERM)
        server.process.wait(120)
        assert b"error" in read_all(s), "the client is told, in the middle"


def test_overload_is_a_429_with_retry_after():
    with Server("--max-running", 1, "--max-waiting", 2) as server:
        answers, running = [], server.open_stream(max_tokens=6000, ignore_eos=True)
        read_until(running, b"data: ")  # it has the only place as long as it is read

        def ask():
            answers.append(server.ask("POST", "/v1/chat/completions", {
                "model": "default", "messages": [{"role": "user", "content": "Tell a story."}], "max_tokens": 60, "ignore_eos": True}))

        threads = [threading.Thread(target=ask) for _ in range(12)]
        [t.start() for t in threads]
        wait_for(lambda: len(answers) == 10)
        wait_for(lambda: server.health()["waiting"] == 2, what=lambda: answers)
        running.close()
        [t.join() for t in threads]
        statuses = sorted(a[0] for a in answers)
        assert statuses == [200] * 2 + [429] * 10, statuses
        for status, headers, body in answers:
            if status == 429:
                assert int(headers["retry-after"]) >= 1
                assert json.loads(body)["error"]["type"] == "rate_limit_error" or json.loads(body)["error"]["message"]
        assert server.chat()[0] == 200


def test_api_keys(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("# ours\nsk-right\nsk-other\n")
    with Server("--api-keys-file", keys) as server:
        assert server.chat()[0] == 401
        assert server.chat(headers={"Authorization": "Bearer sk-wrong"})[0] == 401
        assert server.chat(headers={"Authorization": "Bearer sk-righ"})[0] == 401
        assert server.chat(headers={"Authorization": "Bearer sk-right"})[0] == 200
        assert server.chat(headers={"Authorization": "Bearer sk-other"})[0] == 200
        assert server.ask("GET", "/v1/models")[0] == 401
        assert server.ask("GET", "/health")[0] == 200, "probes carry no key"


def test_reload_changes_the_log(tmp_path):
    config = tmp_path / "homeport.toml"
    config.write_text('[log]\nlevel = "info"\n')
    with Server("--config", config) as server:
        config.write_text('[log]\nlevel = "info"\nformat = "json"\n[engine]\nmax_waiting = 5\n')
        server.signal(signal.SIGHUP)
        wait_for(lambda: "need a restart: engine.max_waiting" in server.log(), what=server.log)
        config.write_text("[log]\nlevle = 1\n")
        server.signal(signal.SIGHUP)
        wait_for(lambda: "unknown key 'log.levle'" in server.log(), what=server.log)
        assert server.chat()[0] == 200


def test_a_port_in_use_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = homeport("serve", "--model", MODEL, "--port", port)
        assert done.returncode == 1
        assert str(port) in done.stderr and "in use" in done.stderr.lower()


@pytest.mark.parametrize("damage", ["truncated", "empty", "noise", "missing"])
def test_damaged_models_are_refused(tmp_path, damage):
    path = tmp_path / "model.gguf"
    data = MODEL.read_bytes()
    if damage != "missing":
        path.write_bytes({"truncated": data[:len(data) // 2], "empty": b"", "noise": os.urandom(4096)}[damage])
    for command in ("serve", "inspect"):
        done = homeport(command, *(["--model", path, "--port", 0] if command == "serve" else [path]))
        assert done.returncode == 1, done.stderr
        assert "model.gguf" in done.stderr and done.stderr.count("\n") <= 2, done.stderr
