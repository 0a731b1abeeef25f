"""homeport pull against a hub on this machine: cuts, resumption, wrong hashes, full disks, tokens, redirects, TLS."""

import json
import os
import pathlib
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
from hub_server import HubServer

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from serving import wait_for  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOMEPORT = pathlib.Path(os.environ.get("HOMEPORT_BUILD", ROOT / "build" / "dev")) / "homeport"
BIG = np.random.default_rng(3).bytes(150 << 20)  # three parts
FILES = {
    "config.json": b'{"a": 1}',
    "tokenizer.json": b"{}" * 4000,
    "model.safetensors": BIG,
    "onnx/model.onnx": b"not wanted",
    "README.md": b"",
}


@pytest.fixture
def serve():
    servers = []

    def start(*args, **faults):
        servers.append(HubServer(*args, **faults))
        return servers[-1]

    yield start
    for s in servers:
        s.close()


def command(hub, folder, *more, name="org/model"):
    # A home of its own: the person's token must not travel.
    environment = {"HF_ENDPOINT": hub.url, "MODELSCOPE_ENDPOINT": hub.url, "HOME": str(folder), "PATH": os.environ["PATH"]}
    return [HOMEPORT, "pull", name, "--dir", folder / "m", *more], environment


def pull(hub, folder, *more, environment=None, limit=None, name="org/model"):
    line, own = command(hub, folder, *more, name=name)
    preexec = (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))) if limit else None
    return subprocess.run(
        line, env=own | (environment or {}), capture_output=True, text=True, timeout=600, check=False, preexec_fn=preexec
    )


def assert_complete(folder, files=("config.json", "tokenizer.json", "model.safetensors", "README.md")):
    for name in files:
        assert (folder / "m" / name).read_bytes() == FILES[name], name
    left = [p.name for p in (folder / "m").rglob("*") if p.is_file()]
    assert sorted(left) == sorted(files)


def test_fetches_and_reports(serve, tmp_path):
    hub = serve(FILES)
    done = pull(hub, tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["model"] == str(tmp_path / "m") and report["bytes"] == sum(
        len(FILES[f]) for f in FILES if not f.startswith("onnx")
    )
    assert_complete(tmp_path)
    ranges = [h["Range"] for p, h in hub.requests if p.endswith("model.safetensors")]
    assert sorted(ranges, key=lambda r: int(r[6:].split("-")[0])) == [
        "bytes=0-67108863",
        "bytes=67108864-134217727",
        f"bytes=134217728-{len(BIG) - 1}",
    ]
    before = len(hub.requests)
    again = pull(hub, tmp_path)
    assert again.returncode == 0 and "0 kB to fetch" in again.stderr
    assert all("/resolve/" not in path for path, _ in hub.requests[before:])


def test_goes_on_after_cut_connections(serve, tmp_path):
    hub = serve(FILES, cuts=7, cut_after=9 << 20)
    done = pull(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert_complete(tmp_path)
    assert hub.cuts == 0
    sent = sum(int(h["Range"][6:].split("-")[1]) - int(h["Range"][6:].split("-")[0]) for p, h in hub.requests if "Range" in h)
    assert any(int(h["Range"][6:].split("-")[0]) % (64 << 20) for p, h in hub.requests if "Range" in h) and sent > len(BIG)


def test_a_killed_run_is_continued(serve, tmp_path):
    hub = serve(FILES, slow_after=20 << 20)
    line, environment = command(hub, tmp_path, "--connections", "2")
    state = tmp_path / "m" / "model.safetensors.part.state"
    arrived = lambda: sum(json.loads(state.read_text())["arrived"]) if state.exists() else 0
    run = subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: arrived() > 0 or run.poll() is not None)
    assert run.poll() is None
    run.send_signal(signal.SIGKILL)
    run.communicate()
    arrived, before = arrived(), len(hub.requests)
    hub.hurry.set()
    done = pull(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert_complete(tmp_path)
    asked = sum(
        int(h["Range"][6:].split("-")[1]) - int(h["Range"][6:].split("-")[0]) + 1
        for p, h in hub.requests[before:]
        if "Range" in h and p.endswith("safetensors")
    )
    assert asked <= len(BIG) - arrived


def test_ctrl_c_keeps_what_has_arrived(serve, tmp_path):
    hub = serve(FILES, slow_after=20 << 20)
    line, environment = command(hub, tmp_path)
    run = subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True)
    assert hub.slow.wait(120) and run.poll() is None
    run.send_signal(signal.SIGINT)
    _, stderr = run.communicate(timeout=300)
    assert run.returncode == 1 and "run again to go on" in stderr
    assert (tmp_path / "m" / "model.safetensors.part.state").exists()


def test_a_wrong_hash_is_refused(serve, tmp_path):
    hub = serve(FILES, wrong_hash=["model.safetensors"])
    done = pull(hub, tmp_path)
    assert done.returncode == 1
    assert "model.safetensors" in done.stderr and "expected the hash" in done.stderr
    assert not (tmp_path / "m" / "model.safetensors").exists()
    assert not (tmp_path / "m" / "model.safetensors.part").exists()


def test_a_disk_that_is_too_small_is_seen_first(serve, tmp_path):
    hub = serve(FILES, claim_size={"model.safetensors": 10**16})
    done = pull(hub, tmp_path)
    assert done.returncode == 1 and "GB free" in done.stderr and "make room" in done.stderr
    assert all("/resolve/" not in path for path, _ in hub.requests)


def test_a_disk_that_fills_up_is_an_error(serve, tmp_path):
    hub = serve(FILES)
    done = pull(hub, tmp_path, limit=100 << 20)
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert "File too large" in done.stderr and "run again" in done.stderr


def test_the_token_goes_to_the_hub_and_not_beyond(serve, tmp_path):
    # The content server is another port of this machine: another server.
    cdn = serve(FILES)
    hub = serve(FILES, token="hf_secret", content_server=cdn.url)
    refused = pull(hub, tmp_path)
    assert refused.returncode == 1 and "HF_TOKEN" in refused.stderr
    (tmp_path / ".cache/huggingface").mkdir(parents=True)
    (tmp_path / ".cache/huggingface/token").write_text("hf_secret\n")
    done = pull(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert_complete(tmp_path)
    assert len(cdn.requests) == 5  # two small files and three parts; nothing is asked for an empty one
    assert all("Authorization" not in headers for _, headers in cdn.requests)


def test_servers_without_ranges(serve, tmp_path):
    small = {"config.json": b"{}", "model.safetensors": BIG[: 5 << 20]}
    hub = serve(small, no_ranges=True, cuts=2, cut_after=1 << 20)
    done = pull(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == small["model.safetensors"]
    big = pull(serve(FILES, no_ranges=True), tmp_path / "b")
    assert big.returncode == 1 and "ranges" in big.stderr


def test_modelscope(serve, tmp_path):
    done = pull(serve(FILES), tmp_path, "--from", "modelscope")
    assert done.returncode == 0, done.stderr
    assert_complete(tmp_path)


def test_one_gguf_of_many(serve, tmp_path):
    files = {"m-Q8_0.gguf": b"8" * 1000, "m-Q4_K_M.gguf": b"4" * 1000, "config.json": b"{}"}
    hub = serve(files)
    done = pull(hub, tmp_path, name="org/model:q8_0")
    assert done.returncode == 0 and str(tmp_path / "m" / "m-Q8_0.gguf") in done.stdout
    assert [p.name for p in (tmp_path / "m").iterdir()] == ["m-Q8_0.gguf"]
    missing = pull(hub, tmp_path, name="org/model:Q2_K")
    assert missing.returncode == 1 and "m-Q4_K_M.gguf" in missing.stderr


MODEL = pathlib.Path.home() / ".homeport" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def homeport(*line, hub_url, folder, timeout=600):
    environment = {"HF_ENDPOINT": hub_url, "HOMEPORT_MODELS": str(folder), "HOME": str(folder), "PATH": os.environ["PATH"]}
    return subprocess.run(
        [HOMEPORT, *map(str, line)], env=environment, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
    )


@pytest.mark.skipif(not MODEL.exists(), reason="the default model is not there: scripts/model.sh fetches it")
def test_run_and_serve_fetch_a_model_by_its_name(serve, tmp_path):
    hub = serve({"m-Q4_1.gguf": MODEL.read_bytes(), "m-Q8_0.gguf": b"8" * 1000})
    ask = ["run", "org/model:q4_1", "--device", "cpu", "--context", "512", "-t", "0", "-n", "4", "What", "is", "2+2?"]
    first = homeport(*ask, hub_url=hub.url, folder=tmp_path)
    assert first.returncode == 0 and first.stdout.strip(), first.stderr
    size = f"{MODEL.stat().st_size / 1e6:.0f} MB"
    assert f"org/model: 1 files, {size}; {size} to fetch" in first.stderr
    assert (tmp_path / "org/model/m-Q4_1.gguf").read_bytes() == MODEL.read_bytes()
    before = len(hub.requests)
    again = homeport(*ask, hub_url="http://127.0.0.1:9", folder=tmp_path)  # nobody there: it is here already
    assert again.returncode == 0 and again.stdout == first.stdout and "to fetch" not in again.stderr
    environment = {"HOMEPORT_MODELS": str(tmp_path), "HOME": str(tmp_path), "PATH": os.environ["PATH"], "HF_ENDPOINT": "http://127.0.0.1:9"}
    line = [HOMEPORT, "serve", "org/model:Q4_1", "--port", "0", "--device", "cpu", "--context", "512"]
    server = subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert any("ready: " in text and "m-Q4_1" in text for text in server.stderr), "it has ended before it was ready"
    finally:
        server.terminate()
        server.wait(120)
        server.stderr.close()
    # A transfer that did not come to its end is taken up again, not served.
    (tmp_path / "org/model/m-Q4_1.gguf").rename(tmp_path / "org/model/m-Q4_1.gguf.part")
    assert homeport(*ask, hub_url=hub.url, folder=tmp_path).returncode == 0 and len(hub.requests) > before


def test_names_that_cannot_be_fetched_say_why(tmp_path):
    gone = homeport("serve", "deepseek-r1:1.5b", hub_url="http://127.0.0.1:9", folder=tmp_path)
    assert gone.returncode == 1 and "'deepseek-r1:1.5b' is no file here" in gone.stderr and "cannot connect" in gone.stderr
    typo = homeport("run", "deepseek-r1:9b", "hello", hub_url="http://127.0.0.1:9", folder=tmp_path)
    assert typo.returncode == 1 and "deepseek-r1:8b" in typo.stderr
    file = homeport("serve", "folder/m.gguf", hub_url="http://127.0.0.1:9", folder=tmp_path)
    assert file.returncode == 1 and "there is no model at folder/m.gguf" in file.stderr
    twice = homeport("serve", "org/a", "--model", "org/b", hub_url="http://127.0.0.1:9", folder=tmp_path)
    assert twice.returncode == 2 and "two models are named" in twice.stderr


@pytest.mark.parametrize("path", ["../evil.safetensors", "/etc/evil.safetensors", "a/../../evil.json"])
def test_a_list_that_leads_out_of_the_folder(serve, tmp_path, path):
    done = pull(serve({path: b"x", "model.safetensors": b"y"}), tmp_path)
    assert done.returncode == 1 and "not a plain relative path" in done.stderr
    assert not (tmp_path / "m").exists()


def test_tls_is_verified(serve, tmp_path):
    hub = serve(FILES, tmp_path)
    stranger = pull(hub, tmp_path)
    assert stranger.returncode == 1 and "certificate verify failed" in stranger.stderr
    trusted = {"SSL_CERT_FILE": str(hub.certificate)}
    done = pull(hub, tmp_path, environment=trusted)
    assert done.returncode == 0, done.stderr
    assert_complete(tmp_path)
    other_name = pull(hub, tmp_path / "x", environment=trusted | {"HF_ENDPOINT": hub.url.replace("localhost", "127.0.0.1")})
    assert other_name.returncode == 1 and "mismatch" in other_name.stderr


def test_names_that_do_not_exist(serve, tmp_path):
    hub = serve(FILES)
    assert "404" in pull(hub, tmp_path, name="org/other").stderr
    unknown = pull(hub, tmp_path, name="deepseek-r1:9b")
    assert unknown.returncode == 1 and "deepseek-r1:8b" in unknown.stderr
    assert pull(hub, tmp_path, name="org/../x").returncode == 2
