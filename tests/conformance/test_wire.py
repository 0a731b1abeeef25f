"""The bytes on the wire: status lines, headers, JSON shapes, SSE framing. Raw sockets, one table."""
import json
import socket

import jsonschema
import pytest

from serving import events, read_all

USAGE = {"type": "object", "required": ["prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"],
         "properties": {"prompt_tokens": {"type": "integer", "minimum": 1},
                        "prompt_tokens_details": {"type": "object", "required": ["cached_tokens"]}}}
CHAT = {"type": "object", "required": ["id", "object", "created", "model", "choices", "usage", "system_fingerprint"],
        "properties": {"id": {"pattern": "^chatcmpl-"}, "object": {"const": "chat.completion"}, "created": {"type": "integer"},
                       "choices": {"minItems": 1, "items": {
                           "required": ["index", "message", "finish_reason", "logprobs"],
                           "properties": {"finish_reason": {"enum": ["stop", "length", "tool_calls"]},
                                          "message": {"required": ["role", "content"],
                                                      "properties": {"role": {"const": "assistant"}, "content": {"type": "string"}}}}}},
                       "usage": USAGE}}
TEXT = {"type": "object", "required": ["id", "object", "created", "model", "choices", "usage"],
        "properties": {"id": {"pattern": "^cmpl-"}, "object": {"const": "text_completion"},
                       "choices": {"items": {"required": ["index", "text", "finish_reason", "logprobs"]}}, "usage": USAGE}}
CHUNK = {"type": "object", "required": ["id", "object", "created", "model", "choices"],
         "properties": {"object": {"const": "chat.completion.chunk"},
                        "choices": {"items": {"required": ["index", "delta", "finish_reason"]}}}}
MODELS = {"type": "object", "required": ["object", "data"],
          "properties": {"object": {"const": "list"}, "data": {"minItems": 1, "items": {
              "required": ["id", "object", "created", "owned_by"], "properties": {"object": {"const": "model"}}}}}}
ERROR = {"type": "object", "required": ["error"], "properties": {"error": {
    "required": ["message", "type", "param", "code"],
    "properties": {"message": {"type": "string", "minLength": 1}, "type": {"type": "string"},
                   "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]}}}}}
HEALTH = {"type": "object", "required": ["status"]}

HI = '{"model":"default","messages":[{"role":"user","content":"Hi"}],"max_tokens":3,"temperature":0%s}'


def post(path, body, extra=""):
    data = body.encode()
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{extra}Content-Length: {len(data)}\r\n\r\n".encode() + data


def get(path, method="GET"):
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()


CASES = {
    "chat": (post("/v1/chat/completions", HI % ""), 200, CHAT),
    "chat, other content type": (post("/v1/chat/completions", HI % "", "Content-Type: text/plain\r\n"), 200, CHAT),
    "chat, unknown members are ignored": (post("/v1/chat/completions", HI % ',"user":"me","metadata":{"a":"b"}'), 200, CHAT),
    "chat, content in parts": (post("/v1/chat/completions", HI.replace('"Hi"', '[{"type":"text","text":"Hi"}]') % ""), 200, CHAT),
    "completion": (post("/v1/completions", '{"model":"default","prompt":"Hi","max_tokens":2}'), 200, TEXT),
    "completion of token ids": (post("/v1/completions", '{"model":"default","prompt":[1,2,3],"max_tokens":2}'), 200, TEXT),
    "models": (get("/v1/models"), 200, MODELS),
    "health": (get("/health"), 200, HEALTH),
    "ready": (get("/ready"), 200, HEALTH),
    "unknown path": (get("/v1/nothing"), 404, ERROR),
    "unknown path, POST": (post("/v1/nothing", "{}"), 405, ERROR),
    "GET where POST belongs": (get("/v1/chat/completions"), 405, ERROR),
    "DELETE": (get("/v1/models", "DELETE"), 405, ERROR),
    "unknown model": (post("/v1/chat/completions", (HI % "").replace("default", "other")), 404, ERROR),
    "malformed JSON": (post("/v1/chat/completions", "{"), 400, ERROR),
    "token id out of range": (post("/v1/completions", '{"model":"default","prompt":[99999999]}'), 400, ERROR),
    "body larger than the limit": (b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 413, None),
    "header larger than the limit": (b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200000 + b"\r\n\r\n", 431, None),
    "not HTTP": (b"hello there\r\n\r\n", 400, None),
    "two lengths": (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", 400, None),
}


def exchange(server, data):
    with server.connect() as s:
        try:
            s.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all of it was sent
        try:
            raw = read_all(s)
        except ConnectionResetError:
            raw = b""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
    return lines[0], headers, body


def body_of(headers, body):
    if headers.get("transfer-encoding") != "chunked":
        return body
    out = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        out, body = out + rest[:int(size, 16)], rest[int(size, 16) + 2:]
    return out


@pytest.mark.parametrize("name", CASES)
def test_answer(server, name):
    data, status, schema = CASES[name]
    line, headers, body = exchange(server, data)
    assert line.startswith(f"HTTP/1.1 {status} "), line
    if schema:
        assert headers["content-type"].startswith("application/json")
        jsonschema.validate(json.loads(body), schema)
    if status == 405:
        assert headers["allow"]


STREAMS = {
    "chat": ("/v1/chat/completions", HI % ',"stream":true', 1, False),
    "chat with usage": ("/v1/chat/completions", HI % ',"stream":true,"stream_options":{"include_usage":true}', 1, True),
    "chat, three choices": ("/v1/chat/completions", HI % ',"stream":true,"n":3', 3, False),
}


@pytest.mark.parametrize("name", STREAMS)
def test_stream(server, name):
    path, request, choices, usage = STREAMS[name]
    line, headers, raw = exchange(server, post(path, request))
    assert line.startswith("HTTP/1.1 200 ")
    assert headers["content-type"].startswith("text/event-stream") and headers["cache-control"] == "no-cache"
    body = body_of(headers, raw)
    blocks = body.decode().split("\n\n")
    assert blocks[-1] == "", "every event ends with an empty line"
    for block in blocks[:-1]:
        for field in block.split("\n"):
            assert field.startswith(("data: ", "id: ", ":")), field
    found = events(body)
    assert found[-1] == "[DONE]"
    chunks = [json.loads(e) for e in found[:-1]]
    for chunk in chunks:
        jsonschema.validate(chunk, CHUNK)
    assert len({c["id"] for c in chunks}) == 1
    seen = {}
    for choice in (c for chunk in chunks for c in chunk["choices"]):
        seen.setdefault(choice["index"], []).append(choice)
    assert sorted(seen) == list(range(choices))
    for parts in seen.values():
        assert parts[0]["delta"]["role"] == "assistant"
        assert [p["finish_reason"] for p in parts].count(None) == len(parts) - 1, "one finish_reason, in the last chunk"
        assert parts[-1]["finish_reason"] in ("stop", "length")
    assert (chunks[-1].get("usage") is not None) == usage
    if usage:
        assert chunks[-1]["choices"] == []
        jsonschema.validate(chunks[-1]["usage"], USAGE)


def test_errors_before_a_stream_are_plain_answers(server):
    line, headers, body = exchange(server, post("/v1/chat/completions", HI % ',"stream":true,"top_p":5'))
    assert line.startswith("HTTP/1.1 400 ") and headers["content-type"].startswith("application/json")
    assert json.loads(body)["error"]["param"] == "top_p"


def test_one_connection_carries_many_requests(server):
    with server.connect() as s:
        for _ in range(3):
            s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            data = b""
            while b"}" not in data:
                data += s.recv(4096)
            assert data.startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_in_order(server):
    with server.connect() as s:
        s.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n" + get("/health"))
        data = read_all(s)
    assert data.index(b'"object":"list"') < data.index(b'"status"')


def test_requests_that_come_byte_by_byte(server):
    with server.connect() as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post("/v1/completions", '{"model":"default","prompt":"a","max_tokens":1}'):
            s.send(bytes([byte]))
        assert read_all(s).startswith(b"HTTP/1.1 200 ")


def test_metrics_speak_prometheus(server):
    line, headers, body = exchange(server, get("/metrics"))
    assert headers["content-type"].startswith("text/plain")
    text = body_of(headers, body).decode()
    for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
                 "vllm:time_to_first_token_seconds_bucket", "vllm:generation_tokens_total", "vllm:prompt_tokens_total"):
        assert any(row.startswith(name) for row in text.split("\n")), name
    for row in text.strip().split("\n"):
        assert row.startswith("#") or float(row.rsplit(" ", 1)[1]) is not None, row
