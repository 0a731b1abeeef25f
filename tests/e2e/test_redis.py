"""Two gateways that share a Redis: streams outlive their gateway, leases are fenced, Redis may go at any moment."""
import shutil
import signal
import time
from pathlib import Path

import pytest

from cluster import ENDLESS, FakeNode, Gateway, Link, Redis, Stream, text_of

pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")


def request(tokens=200, **members):
    return {"model": "fake", "messages": ENDLESS, "max_tokens": tokens, "stream": True, "seed": 7, **members}


@pytest.fixture(scope="module")
def world():
    with Redis() as redis, FakeNode("--pace-us", 15000) as node:
        yield redis, node


def endless(tokens=150):
    return request(tokens, messages=ENDLESS)


def gateway(world, *flags, patience=10_000):
    """Redis has all the time of a loaded machine to answer: none of these tests is about one that is late."""
    redis, node = world
    running = Gateway("--node", f"n=127.0.0.1:{node.port}", "--redis", redis.address, "--redis-timeout-ms", patience, *flags)
    running.wait_for(lambda: running.metric("homeport_redis_up") == 1)
    return running


def ids(events):
    return [int(name.split(":")[1]) for name, _ in events if name]


def begin(world, gateway, count, **members):
    """A stream with `count` events read, of which Redis knows, and which has most of its tokens still to come."""
    redis, node = world
    first = Stream(gateway.port, request(**members)).read(count)
    node.slow_down()
    gateway.wait_for(lambda: b"hp:j:" in redis.command("KEYS", f"hp:j:{first.stream}:*"))
    return first


def test_a_killed_gateways_stream_goes_on_at_the_other_from_the_journal(world):
    with gateway(world) as a, gateway(world) as b:
        whole = text_of(Stream(b.port, request()).read().events)
        for by_get in (False, True):
            before = world[1].stats()["resumes"]
            first = begin(world, a, 30)
            a.signal(signal.SIGKILL)
            a.process.wait()
            first.read()
            world[1].speed_up()
            body, path = (None, f"/v1/streams/{first.stream}") if by_get else (request(), "/v1/chat/completions")
            second = Stream(b.port, body, path, last_id=first.last_id).read()
            assert second.status == 200
            events = first.events + second.events
            assert text_of(events) == whole
            assert ids(events) == list(range(len(events) - 1)), "no event twice, none missing"
            assert events[-1][1] == "[DONE]"
            assert world[1].stats()["resumes"] == before + 1, "continued, not generated again"
            if not by_get:
                a.__init__("--node", f"n=127.0.0.1:{world[1].port}", "--redis", world[0].address, "--redis-timeout-ms", 10_000)
                a.wait_for(lambda: a.metric("homeport_redis_up") == 1)
        assert b.metric("homeport_gateway_streams_taken_total") == 2


def freeze(server):
    """Returns when no thread of it runs any more."""
    server.signal(signal.SIGSTOP)
    states = lambda: {(t / "stat").read_text().rsplit(")", 1)[1].split()[0] for t in Path(f"/proc/{server.process.pid}/task").iterdir()}
    server.wait_for(lambda: states() == {"T"})


def test_a_frozen_gateway_that_wakes_up_is_silent_and_usage_counts_once(world):
    with gateway(world) as a, gateway(world) as b:
        tokens = lambda g: g.metric("homeport_gateway_completion_tokens_total")
        reference = Stream(b.port, request(300)).read()
        b.wait_for(lambda: tokens(b) > 0)  # counted once Redis has said that nobody else did
        expected = tokens(b)
        first = begin(world, a, 60, tokens=300)
        freeze(a)
        before = first.pending()  # what the kernel had taken before the freeze
        second = Stream(b.port, request(300), last_id=first.last_id).read(2)
        a.signal(signal.SIGCONT)
        world[1].speed_up()
        second.read()
        a.wait_for(lambda: a.metric("homeport_gateway_streams_lost_total") == 1)
        assert b"[DONE]" not in before and b"data:" not in first.pending(), "it went on"
        assert text_of(first.events + second.events) == text_of(reference.events)
        a.wait_for(lambda: a.metric("homeport_gateway_open_requests") == 0 and b.metric("homeport_gateway_open_requests") == 0)
        a.wait_for(lambda: tokens(a) + tokens(b) == 2 * expected)
        time.sleep(0.3)
        assert tokens(a) + tokens(b) == 2 * expected


def test_a_gateway_that_alone_loses_redis_owns_nothing_and_usage_counts_once(world):
    redis, node = world
    figures = ("homeport_gateway_completion_tokens_total", "homeport_gateway_prompt_tokens_total")
    with Link(redis.port) as link, gateway(world) as b, \
            Gateway("--node", f"n=127.0.0.1:{node.port}", "--redis", link.address, "--redis-timeout-ms", 10_000) as a:
        counted = lambda: [a.metric(f) + b.metric(f) for f in figures]
        a.wait_for(lambda: a.metric("homeport_gateway_lease_held") == b.metric("homeport_gateway_lease_held") == 1)
        reference = text_of(Stream(b.port, endless()).read().events)
        b.wait_for(lambda: min(counted()) > 0)
        once = counted()
        first = Stream(a.port, endless()).read(20)
        node.slow_down()
        a.wait_for(lambda: b"hp:j:" in redis.command("KEYS", f"hp:j:{first.stream}:*"))
        link.cut()
        a.wait_for(lambda: a.metric("homeport_gateway_lease_held") == 0)
        assert "its lease has run out" in a.log()
        second = Stream(b.port, endless(), last_id=first.last_id).read(1)
        node.speed_up()
        second.read()
        assert text_of(first.events[:20] + second.events) == reference
        # Its own client, if it is still there, gets the same bytes: they are the same wherever they come from.
        first.read()
        assert text_of(first.events) == reference and first.events[-1][1] == "[DONE]"
        a.wait_for(lambda: a.metric("homeport_gateway_usage_unsettled") == 1)
        b.wait_for(lambda: counted() == [2 * n for n in once])
        epochs = redis.command("KEYS", f"hp:j:{first.stream}:*")
        link.mend()
        a.wait_for(lambda: a.metric("homeport_gateway_lease_held") == 1)
        a.wait_for(lambda: a.metric("homeport_gateway_usage_unsettled") == 0)
        assert counted() == [2 * n for n in once], "each token once"
        assert a.metric("homeport_gateway_usage_doubled_tokens_total") == 0
        assert redis.command("HGET", f"hp:s:{first.stream}", "epoch") == b"$1\r\n2\r\n"
        assert redis.command("KEYS", f"hp:j:{first.stream}:*") == epochs, "nothing of the old owner's is written"


def test_an_idempotency_key_is_one_generation_and_outlives_its_gateway(world):
    node = world[1]
    reference = None
    for kill in (False, True):
        key = {"Idempotency-Key": f"order-{kill}"}
        with gateway(world) as a, gateway(world) as b:
            before = node.stats()
            first = Stream(a.port, endless(), headers=key).read(20)
            node.slow_down()
            second = Stream(b.port, endless(), headers=key).read(15)
            assert second.header("Homeport-Cache") == "joined" and second.stream == first.stream
            if kill:
                b.wait_for(lambda: b'"w":' in world[0].command("GET", f"hp:j:{first.stream}:1"))  # the journal has tokens
                a.signal(signal.SIGKILL)
                a.process.wait()
            node.speed_up()
            second.read()
            reference = reference or text_of(second.events)
            assert text_of(second.events) == reference and second.events[-1][1] == "[DONE]"
            after = node.stats()
            assert after["requests"] - before["requests"] == (2 if kill else 1)
            assert after["resumes"] - before["resumes"] == (1 if kill else 0), "continued, not generated again"
            again = Stream(b.port, endless(), headers=key).read()
            assert again.header("Homeport-Cache") == "hit" and text_of(again.events) == reference


def test_another_tenant_does_not_get_the_stream(world, tmp_path):
    tenants = tmp_path / "tenants.toml"
    tenants.write_text('[[tenant]]\nname = "acme"\nkeys = ["ka"]\n[[tenant]]\nname = "evil"\nkeys = ["ke"]\n')
    with gateway(world, "--tenants-file", tenants) as a, gateway(world, "--tenants-file", tenants) as b:
        redis, node = world
        first = Stream(a.port, request(), key="ka").read(20)
        node.slow_down()
        a.wait_for(lambda: b"hp:j:" in redis.command("KEYS", f"hp:j:{first.stream}:*"))
        path = f"/v1/streams/{first.stream}"
        for g in (a, b):
            assert Stream(g.port, None, path, last_id=first.last_id, key="ke").status == 404
            assert Stream(g.port, None, path, last_id=first.last_id).status == 401
        a.signal(signal.SIGKILL)
        assert Stream(b.port, None, path, last_id=first.last_id, key="ke").status == 404
        first.read()
        node.speed_up()
        by_token = Stream(b.port, None, f"{path}?token={first.header('Homeport-Stream-Token')}", last_id=first.last_id).read()
        assert by_token.status == 200 and by_token.events[-1][1] == "[DONE]", "a browser at the other gateway"
        assert Stream(b.port, None, f"{path}?token={'0' * 32}", last_id=first.last_id).status == 401
        second = Stream(b.port, None, path, last_id=first.last_id, key="ka").read()
        assert second.status == 200 and second.events[-1][1] == "[DONE]"


@pytest.mark.parametrize("fault", ["frozen", "killed", "flushed"])
def test_redis_costs_no_request(world, fault):
    redis, node = world
    with gateway(world, patience=2000) as a:
        running = [Stream(a.port, request(60, seed=i)).read(5) for i in range(4)]
        node.slow_down()
        if fault == "frozen":
            redis.freeze()
        elif fault == "killed":
            redis.stop()
        else:
            redis.command("FLUSHALL")
        try:
            running += [Stream(a.port, request(40, seed=9)) for _ in range(4)]
            node.speed_up()
            for stream in running:
                assert stream.read().events[-1][1] == "[DONE]", stream.events[-1]
            if fault != "flushed":
                a.wait_for(lambda: a.metric("homeport_redis_up") == 0)
        finally:
            redis.thaw() if fault == "frozen" else redis.start() if fault == "killed" else None
        a.wait_for(lambda: a.metric("homeport_redis_up") == 1)
        assert a.log().count("is away") == (0 if fault == "flushed" else 1), "one line per change"
        assert a.log().count(f"redis: {redis.address} is here") == (1 if fault == "flushed" else 2)
        stream = Stream(a.port, request(20)).read(4)  # known from its beginning on
        a.wait_for(lambda: b"hp:s:" in redis.command("KEYS", f"hp:s:{stream.stream}"))
