"""Fake nodes and gateways as processes, for tests of what stands in front of an engine."""
import http.client
import json
import re
import subprocess
import time

from serving import PROGRAM, ROOT, Server, clean_environment

FAKE_NODE = PROGRAM.parent / "fake_node" if PROGRAM.parent.joinpath("fake_node").exists() else ROOT / "build/dev/fake_node"


class FakeNode:
    """Tokens that are a hash of the request (src/sim/fake_node.h), faults on demand."""

    def __init__(self, *flags):
        self.process = subprocess.Popen([FAKE_NODE, "--port", "0", *map(str, flags)], stdout=subprocess.PIPE, text=True,
                                        env=clean_environment())
        self.port = int(self.process.stdout.readline().rsplit(" ", 1)[1])

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, json.dumps(body) if body is not None else None)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def stats(self):
        return self.ask("GET", "/stats")

    def fault(self, kind, ms=60_000, factor=10):
        self.ask("POST", "/fault", {"kind": kind, "ms": ms, "factor": factor})

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Gateway(Server):
    """`homeport gateway`; ready when `nodes` of its nodes are usable."""

    def __init__(self, *flags, nodes=1, **kwargs):
        self.nodes = nodes
        super().__init__("--probe-interval-ms", 50, *flags, command="gateway", model=None, **kwargs)

    def _wait_ready(self, timeout):
        self.wait_for(lambda: re.search(r"gateway: listening on \S+?:(\d+),", self.log()), timeout)
        self.port = int(re.search(r"gateway: listening on (?:https://)?[\d.]+:(\d+),", self.log()).group(1))
        self.wait_for(lambda: self.usable() >= self.nodes, timeout)

    def usable(self):
        return json.loads(self.ask("GET", "/ready")[2])["usable_nodes"]

    def wait_for(self, condition, timeout=20.0):
        deadline = time.monotonic() + timeout
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.log()}"
            assert time.monotonic() < deadline, f"waited {timeout} s in vain: {self.log()}"
            time.sleep(0.02)

    def metric(self, name):
        text = self.ask("GET", "/metrics")[2].decode()
        return sum(float(row.rsplit(" ", 1)[1]) for row in text.split("\n")
                   if row.startswith(name + " ") or row.startswith(name + "{"))


def certificate(folder, name="server", days=2):
    """A self-signed pair for 127.0.0.1: (certificate file, key file)."""
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", str(days),
                    "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    return cert, key
