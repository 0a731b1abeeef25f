"""A late first token is asked for at a second node: rarely, never for long prompts, and off unless wanted."""
import json

from cluster import FakeNode, Gateway
from serving import events, read_until


def stream(gateway, content="x", tokens=4):
    s = gateway.open_stream(model="fake", messages=[{"role": "user", "content": content}], max_tokens=tokens, seed=1)
    data = read_until(s, b"[DONE]")
    s.close()
    assert b'"error"' not in data
    return [json.loads(e)["choices"][0]["delta"].get("content") for e in events(data) if e.startswith("{")]


def run(flags):
    with FakeNode("--pace-us", 3000) as a, FakeNode("--pace-us", 3000) as b, \
            Gateway("--node", f"a=127.0.0.1:{a.port},b=127.0.0.1:{b.port}", "--policy", "round-robin", "--no-access-log", *flags,
                    nodes=2) as gateway:
        gateway.wait_for(lambda: stream(gateway) is not None)
        for _ in range(140):  # so that "late" is known, and a hedge is earned
            expected = stream(gateway)
        before = gateway.metric("homeport_gateway_hedges_total")
        a.fault("stall", 2500)  # alive, with heartbeats, but without tokens
        assert stream(gateway) == stream(gateway) == expected
        gateway.wait_for(lambda: a.stats()["open"] == 0)  # the loser was cancelled
        after_short = gateway.metric("homeport_gateway_hedges_total")
        a.fault("none")
        gateway.wait_for(lambda: gateway.usable() == 2)
        a.fault("stall", 1500)
        for _ in range(2):
            stream(gateway, "long " * 4000)
        return (after_short - before, gateway.metric("homeport_gateway_hedges_total") - after_short,
                gateway.metric("homeport_gateway_hedges_won_total"), before)


def test_a_late_first_token_comes_from_the_second_node():
    hedged, long_ones, won, before = run(["--hedge-percent", 2])
    assert hedged == 1 and won >= 1 and long_ones == 0
    assert before <= 1 + 141 * 0.02, "the budget holds"


def test_off_unless_wanted():
    assert run([])[:3] == (0, 0, 0)
