"""JSON schema, JSON objects and forced tool calls through the server, with the default model at temperature 1."""

import concurrent.futures
import json
import os
import time

import jsonschema
import pytest

from serving import MODEL, PROGRAM, Server
from structured_check import schemas

pytestmark = pytest.mark.skipif(not PROGRAM.exists() or not MODEL.exists(), reason="needs a build and the default model")
COUNT = int(os.environ.get("HOMEPORT_SCHEMAS", "40"))
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Weather of a city", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
        "required": ["city", "days"]}}},
    {"type": "function", "function": {"name": "noop", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}},
]


@pytest.fixture(scope="module")
def server():
    with Server("--model-name", "m") as running:
        yield running


def post(server, path, body):
    status, _, answer = server.ask("POST", path, body, timeout=1200)
    return status, json.loads(answer)


def ask(server, **more):
    return post(server, "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "Give me an example as JSON."}],
                                                 "temperature": 1, "max_tokens": 1500, **more})


def test_random_schemas(server):
    def one(job):
        seed, schema = job
        status, body = ask(server, seed=seed, response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema}})
        return schema, status, body

    faults, cut, tokens = [], 0, 0
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for schema, status, body in pool.map(one, enumerate(schemas(COUNT))):
            text = body["choices"][0]["message"]["content"] if status == 200 else body
            try:
                assert status == 200
                tokens += body["usage"]["completion_tokens"]
                cut += body["choices"][0]["finish_reason"] == "length"
                jsonschema.Draft202012Validator(schema).validate(json.loads(text))
            except Exception as error:
                faults.append((json.dumps(schema, ensure_ascii=False), text, repr(error)[:300]))
    print(f"{COUNT} schemas, {tokens} tokens in {time.monotonic() - start:.1f} s, {cut} cut by length")
    assert not faults, f"{len(faults)} of {COUNT}: {faults[:3]}"


def test_json_object(server):
    for seed in range(5):
        status, body = ask(server, seed=seed, max_tokens=400, response_format={"type": "json_object"})
        assert status == 200
        if body["choices"][0]["finish_reason"] == "stop":
            assert isinstance(json.loads(body["choices"][0]["message"]["content"]), dict)


@pytest.mark.parametrize("stream", [False, True])
def test_forced_tools(server, stream):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none")
    for seed, choice in enumerate(["required", {"type": "function", "function": {"name": "get_weather"}},
                                   {"type": "function", "function": {"name": "noop"}}]):
        answer = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Weather in Paris?"}], tools=TOOLS, tool_choice=choice, seed=seed,
            temperature=1, max_tokens=300, stream=stream, parallel_tool_calls=False)
        if stream:
            calls, reason, content = {}, None, ""
            for chunk in answer:
                delta = chunk.choices[0].delta
                content += delta.content or ""
                for call in delta.tool_calls or []:
                    known = calls.setdefault(call.index, {"id": call.id, "name": call.function.name, "arguments": ""})
                    assert call.id in (None, known["id"])
                    known["arguments"] += call.function.arguments or ""
                reason = chunk.choices[0].finish_reason or reason
            calls = list(calls.values())
        else:
            message, reason = answer.choices[0].message, answer.choices[0].finish_reason
            content = message.content or ""
            calls = [{"id": c.id, "name": c.function.name, "arguments": c.function.arguments} for c in message.tool_calls]
        assert reason == "tool_calls" and content == "" and len(calls) == 1 and calls[0]["id"]
        tool = next(t["function"] for t in TOOLS if t["function"]["name"] == calls[0]["name"])
        jsonschema.validate(json.loads(calls[0]["arguments"]), tool["parameters"])
        if isinstance(choice, dict):
            assert calls[0]["name"] == choice["function"]["name"]


def test_hostile_schemas_get_a_400(server):
    deep = {"type": "object"}
    for _ in range(40):
        deep = {"type": "object", "properties": {"a": deep, "b": deep}, "required": ["a", "b"]}
    self_needing = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    doubling = {"$defs": {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(30)}, "$ref": "#/$defs/d0"}
    doubling["$defs"]["d30"] = {"type": "object", "properties": {"x": {"type": "null"}}}
    # `deep` itself cannot be sent: written out it has 2^40 parts. Sent is a chain that is nested too deep to read.
    chain = {"type": "null"}
    for _ in range(200):
        chain = {"type": "array", "items": chain}
    for schema in (self_needing, doubling, chain, {"type": "string", "pattern": "(a|b)*a(a|b){40}$"}, {"not": {}},
                   {"enum": ["x" * 100 + str(i) for i in range(5000)]}):
        status, body = ask(server, response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema}})
        assert status == 400, (schema, body)
        assert body["error"]["message"], body


def test_prefix_and_unknown_names(server):
    status, body = post(server, "/v1/chat/completions", {"model": "m", "max_tokens": 8, "temperature": 0, "messages": [
        {"role": "user", "content": "Count."}, {"role": "assistant", "content": "1, 2, 3,", "prefix": True}]})
    assert status == 200 and body["choices"][0]["message"]["content"].lstrip().startswith("4"), body
    status, body = ask(server, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "other"}})
    assert status == 400 and body["error"]["param"] == "tool_choice"
    status, body = post(server, "/v1/completions", {"model": "m", "prompt": "a", "suffix": "b"})
    assert status == 400 and body["error"]["param"] == "suffix"
