"""Many clients, slow ones, and ones that leave: the server stays up and gives everything back."""
import asyncio
import json
import threading

from serving import Server, read_until, wait_for

SAME = json.dumps({"model": "default", "messages": [{"role": "user", "content": "Hi."}], "max_tokens": 1}).encode()


async def one_chat(port, opened, gate):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    opened.append(1)
    await gate.wait()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(SAME) + SAME)
    data = await reader.read()
    writer.close()
    return int(data.split(b" ", 2)[1]), b"\r\nretry-after:" in data.lower()


async def many_chats(port, count):
    opened, gate = [], asyncio.Event()
    tasks = [asyncio.create_task(one_chat(port, opened, gate)) for _ in range(count)]
    while len(opened) < count:
        await asyncio.sleep(0.01)
    gate.set()  # all of them are connected at this moment
    return await asyncio.gather(*tasks)


def test_two_thousand_connections(server):
    answers = asyncio.run(many_chats(server.port, 2000))
    assert len(answers) == 2000
    assert {status for status, _ in answers} <= {200, 429}
    assert sum(status == 200 for status, _ in answers) >= 1000
    assert all(retry for status, retry in answers if status == 429), "429 without Retry-After"
    assert server.wait_idle()["status"] == "ok"


def test_idle_connections_leave_health_alone(server):
    idle = [server.connect() for _ in range(500)]
    try:
        for _ in range(40):
            assert server.health()["status"] == "ok"
    finally:
        for s in idle:
            s.close()


def hang_up_mid_stream(server, times):
    for _ in range(times):
        s = server.open_stream()
        read_until(s, b"data: ")
        s.close()


def test_five_hundred_hang_ups(server):
    hang_up_mid_stream(server, 20)
    server.wait_idle()
    before = server.rss_mib()
    threads = [threading.Thread(target=hang_up_mid_stream, args=(server, 60)) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    health = server.wait_idle()
    assert health["status"] == "ok"
    assert server.chat()[0] == 200
    assert server.rss_mib() - before < 64, f"{before:.0f} MiB grew to {server.rss_mib():.0f} MiB"


def test_hang_up_during_a_long_prefill_frees_the_engine():
    with Server("--max-step-tokens", 128, "--no-prefix-cache") as server:
        prompt = "A long report about harbours and ships. " * 600
        s = server.open_stream(messages=[{"role": "user", "content": prompt}])
        wait_for(lambda: server.health()["step_tokens"] >= 256)
        s.close()
        wait_for(lambda: server.metric("homeport_client_disconnects_total") == 1)
        at_leaving = server.health()["step_tokens"]
        after = server.wait_idle()["step_tokens"]
        assert after - at_leaving <= 2 * 128, "went on computing for a client that had left"
        assert after < 5000, "the whole prompt was computed"


def test_a_client_that_stops_reading_is_cut(tmp_path):
    with Server("--write-timeout-ms", 1000, host=f"unix:{tmp_path}/node.sock") as server:
        s = server.open_stream(logprobs=True, top_logprobs=20, n=8, max_tokens=2000, ignore_eos=True)
        read_until(s, b"data: ")  # and nothing more
        assert server.chat()[0] == 200, "others are served meanwhile"
        server.wait_idle(300)
        assert server.health()["generated_tokens"] < 8 * 2000, "generated to the end for nobody"
        s.close()


def test_memory_returns_to_its_level(server):
    def load():
        prompt = "Some words to read. " * 100
        threads = [threading.Thread(target=lambda: server.chat(messages=[{"role": "user", "content": prompt}], n=4, max_tokens=8))
                   for _ in range(8)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        server.wait_idle()

    load()
    before = server.rss_mib()
    for _ in range(3):
        load()
    assert server.rss_mib() - before < 32, f"{before:.0f} MiB grew to {server.rss_mib():.0f} MiB"
