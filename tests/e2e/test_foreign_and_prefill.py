"""Foreign servers fail over before their first token only; a 100,000-token prefill is no stall, but a process that freezes in it is."""
import os
import signal

from cluster import FakeNode, Gateway, Upstream
from serving import read_until


def test_a_foreign_server_that_fails_is_replaced_before_its_first_token():
    def broken(request):
        request.reply(b"{}", status=500)

    with Upstream(broken) as bad, Upstream() as good, \
            Gateway("--node", f"bad=127.0.0.1:{bad.port};kind=openai,good=127.0.0.1:{good.port};kind=openai", "--policy", "round-robin",
                    nodes=2) as gateway:
        assert all(gateway.chat(model="fake")[0] == 200 for _ in range(4))
        assert bad.requests and len(good.requests) == 4


def test_a_prefill_of_a_hundred_thousand_tokens_is_left_alone():
    with FakeNode("--prefill-us", 50) as a, FakeNode("--prefill-us", 50) as b, \
            Gateway("--node", f"127.0.0.1:{a.port},127.0.0.1:{b.port}", nodes=2) as gateway:
        s = gateway.open_stream(model="fake", messages=[{"role": "user", "content": "word " * 80_000}], max_tokens=3, seed=1)
        assert b'"error"' not in read_until(s, b"[DONE]")
        s.close()
        assert a.stats()["requests"] + b.stats()["requests"] == 1, "nobody else was asked"
        assert gateway.metric("homeport_gateway_stalls_total") == gateway.metric("homeport_gateway_node_trips_total") == 0


def test_a_process_that_freezes_in_a_long_prefill_is_found_and_gets_nothing_until_it_speaks():
    with FakeNode("--prefill-us", 100) as a, FakeNode("--prefill-us", 100) as b, \
            Gateway("--node", f"a=127.0.0.1:{a.port},b=127.0.0.1:{b.port}", nodes=2) as gateway:
        s = gateway.open_stream(model="fake", messages=[{"role": "user", "content": "word " * 80_000}], max_tokens=3, seed=1)
        gateway.wait_for(lambda: a.stats()["requests"] + b.stats()["requests"] == 1)
        frozen, other = (a, b) if a.stats()["requests"] else (b, a)
        os.kill(frozen.process.pid, signal.SIGSTOP)
        assert b'"error"' not in read_until(s, b"[DONE]")
        s.close()
        assert other.stats()["requests"] == 1 and gateway.metric("homeport_gateway_node_trips_total") == 1
        for _ in range(20):
            assert gateway.chat(model="fake", max_tokens=2)[0] == 200
        assert other.stats()["requests"] == 21, "the frozen one was not even tried"
        os.kill(frozen.process.pid, signal.SIGCONT)
        gateway.wait_for(lambda: gateway.usable() == 2)


def test_a_frozen_process_is_found_without_any_request():
    with FakeNode() as a, FakeNode() as b, Gateway("--node", f"127.0.0.1:{a.port},127.0.0.1:{b.port}", nodes=2) as gateway:
        os.kill(a.process.pid, signal.SIGSTOP)
        gateway.wait_for(lambda: gateway.usable() == 1)
        assert "no byte for" in gateway.log()
        os.kill(a.process.pid, signal.SIGCONT)
        gateway.wait_for(lambda: gateway.usable() == 2)
