"""What other servers answer with 500, or not at all."""
import json

import pytest


def ask(server, data):
    status, _, body = server.ask("POST", "/v1/chat/completions", data)
    return status, json.loads(body)


@pytest.mark.parametrize("data", [
    b"", b"{", b"[]", b"null", b'"text"', b'{"model":"default","messages":[}', b"\x00\x01", b"[" * 100000,
    b'{"model":"default","messages":[{"role":"user","content":"a"}]} trailing',
    b'{"model":"default","messages":[{"role":"user","content":"\xff\xfe"}]}',
    b'{"model":"default","messages":[{"role":"user","content":"\\ud800"}]}',
    b'{"model":"default","temperature":NaN,"messages":[{"role":"user","content":"a"}]}',
    b'{"model":"default","temperature":Infinity,"messages":[{"role":"user","content":"a"}]}',
], ids=lambda d: repr(d[:24]))
def test_what_is_no_json_is_a_400(server, data):
    status, body = ask(server, data)
    assert status == 400 and body["error"]["type"] == "invalid_request_error", body


MESSAGES = [{"role": "user", "content": "a"}]


@pytest.mark.parametrize("members, param", [
    ({"temperature": -1}, "temperature"), ({"temperature": "hot"}, "temperature"), ({"temperature": 2.5}, "temperature"),
    ({"top_p": 5}, "top_p"), ({"top_p": 0}, "top_p"), ({"top_k": -2}, "top_k"), ({"min_p": 2}, "min_p"),
    ({"max_tokens": 0}, "max_tokens"), ({"max_tokens": -5}, "max_tokens"), ({"max_tokens": 1.5}, "max_tokens"),
    ({"n": 100000}, "n"), ({"seed": "x"}, "seed"), ({"stop": 5}, "stop"), ({"stream": "yes"}, "stream"),
    ({"logprobs": 3}, "logprobs"), ({"logprobs": True, "top_logprobs": 500}, "top_logprobs"),
    ({"messages": "hello"}, "messages"), ({"messages": [{"role": "king", "content": "a"}]}, "messages"),
    ({"logit_bias": {"x": 1}}, "logit_bias"), ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"model": None}, "model"),
])
def test_values_out_of_range_name_the_parameter(server, members, param):
    status, body = ask(server, json.dumps({"model": "default", "messages": MESSAGES, **members}).encode())
    assert status == 400, body
    assert body["error"]["param"].startswith(param), body


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1e400"])
def test_numbers_beyond_a_double(server, number):
    data = '{"model":"default","temperature":%s,"messages":[{"role":"user","content":"a"}]}' % number
    assert ask(server, data.encode())[0] == 400


def test_a_prompt_longer_than_the_context(server):
    status, body = ask(server, json.dumps({"model": "default", "max_tokens": 1, "messages": [
        {"role": "user", "content": "word " * 20000}]}).encode())
    assert status == 400 and body["error"]["param"] == "messages", body
    assert "8192" in body["error"]["message"]


def test_huge_max_tokens_is_no_crash(server):
    status, body = ask(server, json.dumps({"model": "default", "max_tokens": 2**31 + 5, "temperature": 0,
                                           "messages": [{"role": "user", "content": "Say only: hi"}], "stop": ["a", "e", "i"]}).encode())
    assert status in (200, 400)
    if status == 400:
        assert body["error"]["param"] == "max_tokens"
    assert server.health()["status"] == "ok"


def test_special_tokens_in_user_text_stay_text(server):
    plain = server.chat(messages=[{"role": "user", "content": "x"}], max_tokens=1)[1]["usage"]["prompt_tokens"]
    spelled = server.chat(messages=[{"role": "user", "content": "x<|im_end|>"}], max_tokens=1)[1]["usage"]["prompt_tokens"]
    assert spelled > plain + 1, "the marker was read as one special token"


def test_output_that_is_no_utf8_never_breaks_a_stream(server):
    """Tokens that are parts of characters are forced; every event must be valid JSON in valid UTF-8 and end properly."""
    for seed in range(6):
        status, _, data = server.ask("POST", "/v1/chat/completions", {
            "model": "default", "messages": [{"role": "user", "content": "😀 ✨ 漢字 " * 3}], "stream": True,
            "temperature": 2, "seed": seed, "max_tokens": 40, "logprobs": True, "top_logprobs": 2})
        assert status == 200
        lines = [line for line in data.decode("utf-8").split("\n") if line.startswith("data: ")]
        assert lines[-1] == "data: [DONE]"
        for line in lines[:-1]:
            assert "error" not in json.loads(line[6:])
