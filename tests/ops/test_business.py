"""Refusals as the business counts them, over a real model: per tenant and model, streamed or whole, by a list of phrases."""
import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from serving import MODEL, PROGRAM, Server, events  # noqa: E402

pytestmark = pytest.mark.skipif(not PROGRAM.exists() or not MODEL.exists(), reason="the program is not built, or no default model")
ASK = {"model": "default", "temperature": 0, "max_tokens": 24}
TWO_TENANTS = '[[tenant]]\nname = "acme"\nkeys = ["key-of-acme-1"]\n[[tenant]]\nname = "clinic"\nkeys = ["key-of-clinic-1"]\n'


def question(text):
    return {**ASK, "messages": [{"role": "user", "content": text}]}


def key(tenant):
    return {"Authorization": f"Bearer key-of-{tenant}-1"}


def counted(server, name):
    """{labels: value} of the series that are not 0."""
    found = re.findall(rf"^{name}{{(.*)}} (\S+)$", server.ask("GET", "/metrics")[2].decode(), re.M)
    return {tuple(sorted(re.findall(r'(\w+)="([^"]*)"', labels))): float(value) for labels, value in found if float(value)}


def test_refusals_per_tenant_and_model(tmp_path):
    tenants, phrases = tmp_path / "tenants.toml", tmp_path / "phrases.txt"
    tenants.write_text(TWO_TENANTS)
    refused, answered = question("What is the capital of France?"), question("Write one line about ships.")
    with Server("--nodes", 1, "--threads", 1, "--tenants-file", tenants, command="serve") as server:
        say = lambda body: json.loads(server.ask("POST", "/v1/chat/completions", body, key("acme"))[2])["choices"][0]["message"]["content"]
        phrase, other = say(refused)[:20].strip(), say(answered)
        assert len(phrase) >= 8 and phrase.lower() not in other.lower(), (phrase, other)
        assert counted(server, "homeport_refusals_total") == {}, "an ordinary answer is none"
    phrases.write_text(f"# what this model says\n{phrase.upper()}\n本行不办理\n")
    with Server("--nodes", 1, "--threads", 1, "--tenants-file", tenants, "--refusals-file", phrases, command="serve") as server:
        for tenant, times in (("acme", 2), ("clinic", 1)):
            for _ in range(times):
                assert server.ask("POST", "/v1/chat/completions", refused, key(tenant))[0] == 200
        streamed = server.ask("POST", "/v1/chat/completions", {**refused, "stream": True}, key("clinic"))
        assert events(streamed[2])[-1] == "[DONE]"
        assert server.ask("POST", "/v1/chat/completions", answered, key("acme"))[0] == 200
        got = counted(server, "homeport_refusals_total")
        assert {(dict(k)["tenant"], dict(k)["by"]): v for k, v in got.items()} == {("acme", "phrase"): 2, ("clinic", "phrase"): 2}, got
        assert len({dict(k)["model"] for k in got}) == 1 and all(dict(k)["model"] for k in got), got
        requests = {dict(k)["tenant"]: v for k, v in counted(server, "homeport_tenant_requests_total").items()}
        assert requests == {"acme": 3, "clinic": 2}
