"""serve --nodes 2, and kill -9 of the node under a running stream: the client's bytes do not change."""
import json
import os
import signal
import threading

import pytest

from serving import Server, events, read_until, wait_for


@pytest.fixture(scope="module")
def fleet():
    with Server("--nodes", 2, "--threads", 1, command="serve") as running:
        running.wait_nodes(2)
        yield running


def text_of(data):
    chunks = [json.loads(e) for e in events(data) if e != "[DONE]"]
    return ["".join(c["delta"].get("content") or "" for k in chunks for c in k["choices"] if c["index"] == i)
            for i in range(1 + max(c["index"] for k in chunks for c in k["choices"]))]


def body_of(raw):
    body, out = raw.partition(b"\r\n\r\n")[2], b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        out, body = out + rest[:int(size or b"0", 16)], rest[int(size or b"0", 16) + 2:]
    return out


REQUESTS = {
    "greedy": {"temperature": 0},
    "seeded": {"temperature": 1.1, "seed": 11},
    "two choices, penalties, logprobs": {"temperature": 0.9, "seed": 3, "n": 2, "frequency_penalty": 0.5, "logprobs": True},
}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_stream_survives(fleet, name):
    members = {"max_tokens": 200, "ignore_eos": True, **REQUESTS[name]}
    with fleet.open_stream(**members) as s:
        expected = body_of(read_until(s, b"[DONE]\n\n"))
    got = body_of(fleet.killed_under_stream(**members))
    assert text_of(got) == text_of(expected)
    assert b'"error"' not in got
    fleet.wait_nodes(2)  # the dead one came back


def test_whole_answers_survive_too(fleet):
    ask = lambda: fleet.chat(max_tokens=200, temperature=0, ignore_eos=True)
    expected = ask()
    for _ in range(5):
        answers, retries = [], fleet.metric("homeport_gateway_retries_total")
        thread = threading.Thread(target=lambda: answers.append(ask()))
        thread.start()
        wait_for(lambda: fleet.serving_nodes() or not thread.is_alive())
        for pid in fleet.serving_nodes():
            os.kill(pid, signal.SIGKILL)
        thread.join()
        assert answers[0][0] == 200
        assert answers[0][1]["choices"][0]["message"]["content"] == expected[1]["choices"][0]["message"]["content"]
        fleet.wait_nodes(2)
        if fleet.metric("homeport_gateway_retries_total") > retries:
            return
    raise AssertionError("each of 5 answers was there before its node was killed: they are too short for this machine")
