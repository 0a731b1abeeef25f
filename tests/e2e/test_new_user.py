"""What a new user tries, through a gateway: the official client, the README's curl lines, a browser's EventSource."""
import http.server
import json
import re
import shutil
import socket
import subprocess
import threading

import pytest
from openai import OpenAI

from cluster import FakeNode, Gateway, Stream
from serving import ROOT, Server, clean_environment, read_until

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def serve():
    with Server(command="serve") as running:
        yield running


def test_the_openai_client(serve):
    client = OpenAI(base_url=serve.url + "/v1", api_key="unused", max_retries=0)
    ask = [{"role": "user", "content": "What is the capital of France?"}]
    assert "default" in [m.id for m in client.models.list()]
    whole = client.chat.completions.create(model="default", messages=ask, temperature=0, max_tokens=20)
    assert "Paris" in whole.choices[0].message.content and whole._request_id
    chunks = list(client.chat.completions.create(model="default", messages=ask, temperature=0, max_tokens=20, stream=True, n=2,
                                                 stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices and c.choices[0].index == 1) == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == 2 * whole.usage.completion_tokens
    text = client.completions.create(model="default", prompt="One, two, three,", temperature=0, max_tokens=4)
    assert "four" in text.choices[0].text
    with pytest.raises(Exception, match="top_p"):
        client.chat.completions.create(model="default", messages=ask, top_p=7)


def curl_lines():
    """Every curl command of the README, continuation lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "README.md").read_text())
    return [line.strip().removeprefix("$ ") for line in text.split("\n") if re.match(r"\s*(\$ )?curl ", line)]


def test_the_readmes_curl_lines(serve):
    lines = curl_lines()
    assert lines, "the README shows how to ask"
    for line in lines:
        done = subprocess.run(["bash", "-c", line.replace("http://127.0.0.1:8000", serve.url).replace("curl ", "curl -sS --fail-with-body ")],
                              capture_output=True, text=True, timeout=300, env=clean_environment())
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert re.search(r'"content":"[^"]|"data"|data: ', done.stdout), (line, done.stdout)


class Cutter:
    """Between a browser and a gateway: hangs up after so many bytes of the first answer, and keeps the requests' heads."""

    def __init__(self, port, after):
        self.target, self.after, self.heads = port, after, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.carry, args=(client,), daemon=True).start()

    def carry(self, client):
        head = read_until(client, b"\r\n\r\n")
        self.heads.append(head.decode())
        limit = self.after if len(self.heads) == 1 else 1 << 30
        with socket.create_connection(("127.0.0.1", self.target)) as server, client:
            server.sendall(head)
            sent = 0
            try:
                while sent < limit and (part := server.recv(min(4096, limit - sent))):
                    client.sendall(part)
                    sent += len(part)
            except OSError:
                pass  # the browser has left


PAGE = b"""<!doctype html><script>
const seen = [];
function follow(url) {
  return new Promise((resolve, reject) => {
    const source = new EventSource(url);
    source.onmessage = e => {
      if (e.data === "[DONE]") { source.close(); resolve(seen); } else seen.push([e.lastEventId, e.data]);
    };
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) reject(new Error("closed for good")); };
  });
}
</script>"""


@pytest.fixture(scope="module")
def page():
    """A web page of another origin than the gateway's."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(PAGE)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://localhost:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: the plain client below takes its place")
@pytest.mark.parametrize("allowed, keyed", [(True, False), (True, True), (False, False)])
def test_a_browsers_eventsource_takes_a_stream_up_again(page, tmp_path, allowed, keyed):
    sync_api = pytest.importorskip("playwright.sync_api")
    flags = ["--cors-origin", page.rstrip("/")] if allowed else []
    if keyed:
        (tmp_path / "keys").write_text("sk-of-the-application\n")
        flags += ["--api-keys-file", tmp_path / "keys"]
    with FakeNode("--pace-us", 10_000) as node, Gateway("--node", f"127.0.0.1:{node.port}", *flags) as gateway:
        asked = {"model": "fake", "messages": [{"role": "user", "content": "a story"}], "max_tokens": 60, "seed": 1, "stream": True}
        stream = Stream(gateway.port, asked, key="sk-of-the-application" if keyed else None).read()
        name, expected = stream.stream, [data for _, data in stream.events if data != "[DONE]"]
        cutter = Cutter(gateway.port, 4000)
        url = f"http://127.0.0.1:{cutter.port}/v1/streams/{name}"
        if keyed:  # what the application hands to its page: no key, but the stream's own token
            url += "?token=" + stream.header("Homeport-Stream-Token")
        with sync_api.sync_playwright() as play:
            browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            tab = browser.new_page()
            tab.goto(page)
            if not allowed:
                with pytest.raises(sync_api.Error, match="closed for good"):
                    tab.evaluate("url => follow(url)", url)
                return browser.close()
            seen = tab.evaluate("url => follow(url)", url)
            browser.close()
        assert "Last-Event-ID" not in cutter.heads[0] and f"Last-Event-ID: {name}:" in cutter.heads[1], "the browser came back by itself"
        assert [d for _, d in seen] == expected, "nothing lost, nothing twice"
        assert [i.split(":")[:2] for i, _ in seen] == [[name, str(n)] for n in range(len(seen))]


def test_a_plain_eventsource_client(serve):
    """GET and Last-Event-ID only, as the standard has it; the engine is killed meanwhile."""
    stream = serve.open_stream(max_tokens=100, temperature=0, ignore_eos=True)
    data = read_until(stream, b"data: ")
    name = re.search(rb"Homeport-Stream: (\w+)", data, re.I).group(1).decode()
    stream.close()

    def follow(last, stop_after=None):
        s = serve.connect()
        head = f"Last-Event-ID: {last}\r\n" if last else ""
        s.sendall(f"GET /v1/streams/{name} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n{head}\r\n".encode())
        raw = read_until(s, b"[DONE]" if not stop_after else f"id: {name}:{stop_after}:".encode())
        s.close()
        body = raw.decode()
        assert body.startswith("HTTP/1.1 200")
        return re.findall(r"id: (\S+)\n(?:data: (\{.*\})\n)?", body)

    first = [(i, d) for i, d in follow(None, stop_after=20) if d]
    assert first[0][0].startswith(f"{name}:0")
    rest = follow(first[-1][0])
    assert rest[0][0].startswith(f"{name}:{len(first)}:")
    text = lambda rows: "".join(json.loads(d)["choices"][0]["delta"].get("content") or "" for _, d in rows if d)
    whole = serve.chat(messages=[{"role": "user", "content": "Tell a long story."}], max_tokens=100, temperature=0, ignore_eos=True)[1]
    assert text(first) + text(rest) == whole["choices"][0]["message"]["content"]
