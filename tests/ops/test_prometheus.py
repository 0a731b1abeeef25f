"""A real Prometheus scrapes `homeport serve`: the target is up, the exported rules load and evaluate, and the dashboard asks
for nothing that the page does not export."""
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from serving import MODEL, PROGRAM, Server, clean_environment, free_port, wait_for  # noqa: E402

LIBRARY = PROGRAM.parent / "fake_nvml" / "libnvidia-ml.so.1"
pytestmark = pytest.mark.skipif(not MODEL.exists() or not LIBRARY.exists(), reason="no default model or fake_nvml is not built")


def ops(*arguments):
    return subprocess.run([PROGRAM, "ops", *arguments], capture_output=True, check=True, text=True, env=clean_environment()).stdout


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    boards = tmp_path_factory.mktemp("gpu") / "boards"
    boards.write_text("temperature 50\nmemory_total 100\nmemory_used 10\npower_mw 1000\npower_limit_mw 2000\nclock_sm 1\nclock_memory 1\n"
                      "utilization 5\necc 0\nthrottle 0\n")
    with Server("--nodes", 2, "--threads", 1, "--nvml", LIBRARY, command="serve", environment={"FAKE_NVML": str(boards)}) as server:
        assert server.chat()[0] == 200
        yield server


@pytest.fixture(scope="module")
def expressions():
    return [t["expr"] for p in json.loads(ops("dashboard"))["panels"] for t in p.get("targets", [])]


def test_the_dashboard_asks_for_what_there_is(cluster, expressions):
    asked = {name for e in expressions for name in re.findall(r"\b((?:homeport_|vllm:|process_)\w+)", e)}
    assert len(expressions) >= 30 and len(asked) >= 30
    missing = lambda: asked - set(re.findall(r"^([a-zA-Z_:][\w:]*)[{ ]", cluster.ask("GET", "/metrics")[2].decode(), re.M))
    wait_for(lambda: not missing(), what=missing)  # a share of processor time needs two readings


class Prometheus:
    def __init__(self, folder, port):
        self.port = free_port()
        (folder / "rules.yml").write_text(ops("rules", "--format", "prometheus"))
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [rules.yml]\n"
            f"scrape_configs:\n- job_name: homeport\n  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n")
        self.folder, self.log = folder, folder / "log"
        self.start()

    def start(self):
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data",
                 f"--web.listen-address=127.0.0.1:{self.port}"], stdout=log, stderr=subprocess.STDOUT)

    def stop(self):
        self.process.terminate()
        self.process.wait(120)

    def get(self, path, **query):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=120) as answer:
            return json.load(answer)["data"]

    def wait(self, what, timeout=300):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if found := what():
                    return found
            except urllib.error.URLError:
                pass  # it starts
            time.sleep(0.2)
        pytest.fail(f"it did not happen; Prometheus says:\n{self.log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def prometheus(cluster, tmp_path_factory):
    if not shutil.which("prometheus"):
        pytest.skip("no prometheus (Debian: prometheus)")
    running = Prometheus(tmp_path_factory.mktemp("prometheus"), cluster.port)
    yield running
    running.stop()


def test_prometheus_scrapes_and_evaluates(prometheus):
    def rules():
        found = [r for g in prometheus.get("rules")["groups"] for r in g["rules"]]
        return found if found and all(r["health"] != "unknown" for r in found) else None

    def targets():
        return [t for t in prometheus.get("targets")["activeTargets"] if t["health"] != "unknown"]

    (target,) = prometheus.wait(targets)
    assert target["health"] == "up", target["lastError"]
    found = prometheus.wait(rules)
    assert len(found) >= 16 and not [r for r in found if r["health"] != "ok"], found
    firing = {r["name"] for r in found if r["state"] == "firing"}
    assert "HomeportDeadMan" in firing and "HomeportNodeDown" not in firing
    up = prometheus.get("query", query='up{job="homeport"}')["result"]
    assert [r["value"][1] for r in up] == ["1"]


def test_prometheus_answers_every_panel(prometheus, expressions):
    for expression in expressions:  # rates need two scrapes
        prometheus.wait(lambda e=expression: prometheus.get("query", query=e)["result"])


def test_what_happens_while_prometheus_is_away_is_there_when_it_is_back(cluster, prometheus):
    def total():
        found = prometheus.get("query", query="homeport_gateway_requests_total")["result"]
        return float(found[0]["value"][1]) if found else None

    before = prometheus.wait(total)
    prometheus.stop()
    for _ in range(5):
        assert cluster.chat()[0] == 200
    prometheus.start()
    prometheus.wait(lambda: total() == before + 5)
