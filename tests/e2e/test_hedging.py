"""A late first token is asked for at a second node: rarely, never for long prompts, and off unless wanted."""
import json

from cluster import FakeNode, Gateway
from serving import events, read_until

PERCENT = 2
LONG = "long " * 4000


def stream(gateway, content="x", tokens=4):
    s = gateway.open_stream(model="fake", messages=[{"role": "user", "content": content}], max_tokens=tokens, seed=1)
    data = read_until(s, b"[DONE]")
    s.close()
    assert b'"error"' not in data
    return [json.loads(e)["choices"][0]["delta"].get("content") for e in events(data) if e.startswith("{")]


def run(flags):
    """(hedges of short prompts while a node stands still, of long ones, won, what the budget allowed for all of them)"""
    with FakeNode("--pace-us", 3000) as a, FakeNode("--pace-us", 3000) as b, \
            Gateway("--node", f"a=127.0.0.1:{a.port},b=127.0.0.1:{b.port}", "--policy", "round-robin", "--no-access-log", *flags,
                    nodes=2) as gateway:
        hedges = lambda: gateway.metric("homeport_gateway_hedges_total")
        for _ in range(80):  # so that "late" is known
            expected = stream(gateway)
        for _ in range(60):  # so that a hedge is earned: these never have one themselves
            stream(gateway, LONG)
        before = hedges()
        a.fault("stall")  # alive, with heartbeats, but without tokens
        assert stream(gateway) == stream(gateway) == expected
        gateway.wait_for(lambda: a.stats()["open"] == 0)  # the loser was cancelled
        after_short = hedges()
        a.fault("none")
        gateway.wait_for(lambda: gateway.usable() == 2)
        a.fault("stall", 1500)
        for _ in range(2):
            stream(gateway, LONG)
        allowed = 1 + gateway.metric("homeport_gateway_streams_total") * PERCENT / 100
        return after_short - before, hedges() - after_short, gateway.metric("homeport_gateway_hedges_won_total"), hedges() <= allowed


def test_a_late_first_token_comes_from_the_second_node():
    hedged, long_ones, won, within_budget = run(["--hedge-percent", PERCENT])
    assert hedged >= 1 and won >= 1 and long_ones == 0
    assert within_budget


def test_off_unless_wanted():
    assert run([])[:3] == (0, 0, 0)
