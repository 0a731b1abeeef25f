"""TLS on the node, the gateway and between them, with a self-signed certificate."""
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time

import pytest
from openai import DefaultHttpxClient, OpenAI

from cluster import ENDLESS, FakeNode, Gateway, certificate
from serving import MODEL, PROGRAM, Server, clean_environment, read_all, read_until

ASK = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def pair(folder):
    return certificate(folder)


@pytest.fixture(scope="module")
def node(pair):
    with Server("--journal", "--tls-cert", pair[0], "--tls-key", pair[1], trust=pair[0]) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(node, pair):
    with Gateway("--node", f"https://127.0.0.1:{node.port}", "--tls-ca", pair[0], "--tls-cert", pair[0], "--tls-key", pair[1],
                 trust=pair[0]) as running:
        yield running


def client_of(server):
    trust = ssl.create_default_context(cafile=server.trust)
    return OpenAI(base_url=server.url + "/v1", api_key="unused", max_retries=0, http_client=DefaultHttpxClient(verify=trust))


@pytest.mark.parametrize("which", ["node", "gateway"])
def test_the_openai_client_over_https(which, request):
    client = client_of(request.getfixturevalue(which))
    whole = client.chat.completions.create(model="default", messages=ASK, temperature=0, max_tokens=20)
    assert "Paris" in whole.choices[0].message.content
    chunks = list(client.chat.completions.create(model="default", messages=ASK, temperature=0, max_tokens=20, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content


def test_a_large_body_and_many_requests_on_one_connection(gateway):
    words = "words and more of them " * 8000  # more than the context holds, over many TLS records
    with gateway.connect() as s:
        for _ in range(3):
            body = b'{"model":"default","messages":[{"role":"user","content":"%s"}]}' % words.encode()
            s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            answer = read_until(s, b"context_length_exceeded")
            assert answer.startswith(b"HTTP/1.1 400 ")


def test_old_protocols_plain_http_and_silence_are_refused(node):
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)), socket.create_connection(("127.0.0.1", node.port), 120) as plain:
        old.wrap_socket(plain)
    with socket.create_connection(("127.0.0.1", node.port), 120) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = read_all(plain)
        assert answer.startswith(b"HTTP/1.1 400 ") and b"https://" in answer
    assert node.metric("homeport_http_tls_failures_total") >= 2


def test_a_handshake_that_does_not_come_is_cut(pair):
    with Gateway("--node", "127.0.0.1:1", "--tls-cert", pair[0], "--tls-key", pair[1], "--header-timeout-ms", 700, trust=pair[0],
                 nodes=0) as gateway:
        for said in (b"", b"\x16\x03\x01\x02\x00\x01"):  # nothing, and the beginning of a handshake
            with socket.create_connection(("127.0.0.1", gateway.port), 120) as silent:
                silent.sendall(said)
                assert silent.recv(1000) == b"", "cut when the time for the handshake is over"


def test_a_node_with_an_unknown_certificate_gets_nothing(node):
    with Gateway("--node", f"https://127.0.0.1:{node.port}", nodes=0) as stranger:
        body = b'{"model":"default","messages":[]}'
        assert stranger.usable() == 0
        assert stranger.ask("GET", "/v1/models")[2].find(b"SmolLM2") < 0, body


def serial(server):
    with socket.create_connection(("127.0.0.1", server.port), 120) as plain:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain) as s:
            return s.getpeercert(binary_form=True)


def expiry(server):
    page = server.ask("GET", "/metrics")[2].decode()
    return float(re.search(r"^homeport_certificate_expiry_seconds (\S+)$", page, re.M).group(1))


def test_the_node_tells_when_its_certificate_ends(node):
    assert abs(expiry(node) - time.time() - 2 * 86400) < 3600


def test_a_new_certificate_on_sighup_leaves_streams_alone(folder):
    cert, key = certificate(folder, "first")
    with FakeNode("--pace-us", 10_000) as fake, \
            Gateway("--node", f"127.0.0.1:{fake.port}", "--tls-cert", cert, "--tls-key", key, trust=cert) as gateway:
        stream = gateway.open_stream(model="fake", messages=ENDLESS, max_tokens=150, seed=1)
        data, before = read_until(stream, b"data: "), serial(gateway)
        fake.slow_down()
        end = expiry(gateway)
        assert abs(end - time.time() - 2 * 86400) < 3600

        key.write_text("no key at all")
        gateway.signal(signal.SIGHUP)
        gateway.wait_for(lambda: "is not taken" in gateway.log())
        assert "private key" in gateway.log() and serial(gateway) == before, "the old pair stays"

        for fresh, old in zip(certificate(folder, "second", days=9), (cert, key)):
            shutil.copy(fresh, old)
        gateway.signal(signal.SIGHUP)
        gateway.wait_for(lambda: "reloaded" in gateway.log())
        assert serial(gateway) != before
        assert abs(expiry(gateway) - end - 7 * 86400) < 3600
        fake.speed_up()
        data += read_until(stream, b"[DONE]")
        assert b'"error"' not in data and data.count(b"data: ") >= 30
        stream.close()


@pytest.mark.parametrize("command", ["node", "gateway"])
def test_a_bad_pair_is_one_sentence(folder, command):
    cert, key = certificate(folder, "a")
    other = certificate(folder, "b")[1]
    empty = folder / "empty"
    empty.write_text("")
    locked = folder / "locked.key"
    subprocess.run(["openssl", "ec", "-in", key, "-aes128", "-passout", "pass:x", "-out", locked], check=True, capture_output=True)
    cases = {(cert, other): "does not belong", (cert, empty): "expected a private key", (empty, key): "expected a certificate",
             (cert, locked): "without a passphrase", (cert, folder / "none"): "none", (cert, ""): "the key is missing"}
    for (c, k), words in cases.items():
        what = ["--model", MODEL] if command == "node" else ["--node", "127.0.0.1:1"]
        done = subprocess.run([PROGRAM, command, *what, "--port", "0", "--tls-cert", c, "--tls-key", k], capture_output=True, text=True,
                              timeout=300, env=clean_environment(), stdin=subprocess.DEVNULL)
        assert done.returncode in (1, 2) and words in done.stderr and done.stderr.count("\n") <= 2, (words, done.stderr)
