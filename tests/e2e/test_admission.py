"""Who is served first, who waits, and who is told at once that waiting is in vain: one node that takes one request at a time."""
import json
import random
import threading

import pytest

from cluster import ENDLESS, FakeNode, Gateway
from serving import read_until

TENANTS = """
[[tenant]]
name = "many"
keys = ["sk-many"]
[[tenant]]
name = "few"
keys = ["sk-few"]
[[tenant]]
name = "batch"
keys = ["sk-batch"]
priority = "low"
"""


@pytest.fixture(scope="module")
def fake():
    with FakeNode("--pace-us", 5000) as node:
        yield node


@pytest.fixture(scope="module")
def gateway(fake, tmp_path_factory):
    folder = tmp_path_factory.mktemp("admission")
    (folder / "tenants.toml").write_text(TENANTS)
    with Gateway("--node", f"127.0.0.1:{fake.port};concurrent=1", "--tenants-file", folder / "tenants.toml",
                 "--access-log-file", folder / "access.log") as running:
        running.access = folder / "access.log"
        yield running


def waiting(gateway):
    return gateway.metric("homeport_gateway_waiting_requests")


class Line:
    """Occupies the node, lines requests up one after the other, lets go, and tells who was served in which order."""

    def __init__(self, gateway):
        self.gateway, self.order, self.threads = gateway, [], []
        self.blocker = gateway.connect()
        body = json.dumps({"model": "fake", "messages": ENDLESS, "stream": True, "max_tokens": 1_000_000, "seed": 1}).encode()
        self.blocker.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-many\r\n"
                             b"Content-Length: %d\r\n\r\n" % len(body) + body)
        read_until(self.blocker, b"data: ")

    def add(self, name, key="sk-many", headers=(), **members):
        def ask():
            status = self.gateway.chat(model="fake", max_tokens=4, headers={"Authorization": f"Bearer {key}", **dict(headers)}, **members)[0]
            self.order.append(name if status == 200 else (name, status))

        before = waiting(self.gateway)
        self.threads.append(threading.Thread(target=ask))
        self.threads[-1].start()
        self.gateway.wait_for(lambda: waiting(self.gateway) == before + 1)

    def let_go(self):
        self.blocker.close()

    def served(self):
        self.let_go()
        [t.join() for t in self.threads]
        self.gateway.wait_for(lambda: waiting(self.gateway) == 0)
        return self.order


def test_classes_go_first(gateway):
    line = Line(gateway)
    for name in ("low", "normal", "high"):
        line.add(name, headers={"Homeport-Priority": name} if name != "normal" else {})
    line.add("low", key="sk-batch")
    line.add("low", key="sk-batch", priority="high")  # a tenant's class is the highest that it gets
    line.add("low", priority="low")
    line.add("normal", priority=5)  # another server's idea of a priority is not ours
    # Of a tenant "many" nobody gets high: its class is normal.
    order = line.served()
    assert order[:3] == ["normal", "high", "normal"] and sorted(order[3:]) == ["low"] * 4, order


def test_a_tenant_with_many_requests_does_not_hold_up_another(gateway):
    line = Line(gateway)
    for _ in range(8):
        line.add("m")
    for _ in range(2):
        line.add("f", key="sk-few")
    order = "".join(line.served())
    assert order.rindex("f") <= 4, order


def test_in_vain_is_said_early_and_late_is_never_served(gateway, fake):
    line = Line(gateway)
    for _ in range(4):
        line.add("first")
    line.served()  # the pace is known from here on, as long as somebody waits
    before = fake.stats()["requests"]
    line = Line(gateway)
    status, headers, body = gateway.ask("POST", "/v1/chat/completions", {"model": "fake", "messages": [], "deadline_ms": 150},
                                        {"Authorization": "Bearer sk-few"})
    assert status == 503 and int(headers["retry-after"]) >= 1 and b"deadline" in body
    assert fake.stats()["requests"] == before + 1, "only the blocker came through"
    line.served()
    for text in ("0", "-5", "soon", "99999999999"):
        assert gateway.ask("POST", "/v1/chat/completions", {"model": "fake", "messages": []},
                           {"Authorization": "Bearer sk-few", "Homeport-Deadline-Ms": text})[0] == (400 if text != "0" else 200)
    assert gateway.ask("POST", "/v1/chat/completions", {"model": "fake", "messages": []},
                       {"Authorization": "Bearer sk-few", "Homeport-Priority": "urgent"})[0] == 400


def test_many_deadlines(gateway, fake):
    """More requests than the node can serve in their time: whoever gets an answer got it in time, by the gateway's own clock."""
    rng, results = random.Random(3), []
    known, refused = len(gateway.access.read_text().splitlines()), gateway.metric("homeport_gateway_deadline_refused_total")

    def ask(deadline):
        status, headers, _ = gateway.ask("POST", "/v1/chat/completions", {"model": "fake", "messages": ENDLESS, "max_tokens": 6, "stream": True},
                                         {"Authorization": "Bearer sk-few", "Homeport-Deadline-Ms": str(deadline)})
        results.append((status, headers.get("retry-after"), deadline))

    line = Line(gateway)
    threads = [threading.Thread(target=ask, args=(d,)) for d in [rng.randrange(30, 900) for _ in range(40)] + [600_000] * 12]
    [t.start() for t in threads]
    gateway.wait_for(lambda: waiting(gateway) + len(results) == 52)
    fake.fault("slow", factor=20)  # the line is there as long as the next one needs
    line.let_go()
    gateway.wait_for(lambda: sum(r[0] == 200 for r in results) >= 3)
    ask(1)
    fake.fault("none")
    [t.join() for t in threads]
    statuses = [r[0] for r in results]
    assert set(statuses) <= {200, 503, 504} and statuses.count(200) >= 12 and 503 in statuses, statuses
    assert all(int(retry) >= 1 for status, retry, _ in results if status == 503)
    ours = lambda: [row for row in map(json.loads, gateway.access.read_text().split("\n")[known:-1]) if row["tenant"] == "few"]
    gateway.wait_for(lambda: len(ours()) == 53)
    served = [row for row in ours() if row["status"] == 200]
    assert len(served) == statuses.count(200)
    allowed = sorted(d for s, _, d in results if s == 200)
    assert all(a <= b for a, b in zip(sorted(row["first_token_ms"] for row in served), allowed)), "none past its deadline"
    assert gateway.metric("homeport_gateway_deadline_refused_total") > refused, "refused before its time was up"
    missed = gateway.metric("homeport_gateway_deadline_refused_total") + gateway.metric("homeport_gateway_deadline_expired_total")
    assert gateway.metric("homeport_gateway_timeouts_total") >= missed, "either way its client had no answer in time"


def test_a_deadline_ends_a_request_that_a_node_sits_on():
    with FakeNode("--prefill-us", 300_000) as slow, Gateway("--node", f"127.0.0.1:{slow.port}") as gateway:
        for stream in (True, False):
            status, _ = gateway.chat(model="fake", stream=stream, deadline_ms=200)[0], None
            assert status == 504
        assert gateway.metric("homeport_gateway_timeouts_total") == 2, "what the rule request_timeouts looks at"
        gateway.wait_for(lambda: slow.stats()["open"] == 0)


def test_the_line_has_an_end(fake):
    with Gateway("--node", f"127.0.0.1:{fake.port};concurrent=1", "--gateway-max-waiting", 2) as gateway:
        line = Line(gateway)
        line.add("a")
        line.add("b")
        status, headers, _ = gateway.ask("POST", "/v1/chat/completions", {"model": "fake", "messages": []})
        assert status == 503 and int(headers["retry-after"]) >= 1
        assert line.served() == ["a", "b"]
