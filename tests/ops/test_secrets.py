"""No secret leaves a running cluster: neither in its log, nor in the bundle that an incident writes by itself, nor in the one that a
person asks for, nor in the file of incidents. Secrets come as they do in practice: key files, an address in the environment, a
signing secret in a file, a password file, a password in a URL, headers of requests, and prompts."""
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from serving import MODEL, PROGRAM, Server, clean_environment, wait_for  # noqa: E402

pytestmark = pytest.mark.skipif(not PROGRAM.exists() or not MODEL.exists(), reason="the program is not built, or no default model")
SECRETS = {"api key": "api-key-0123456789", "console key": "console-key-0123456789", "dingtalk token": "dingtalk-token-0123456789abcdef",
           "signing secret": "signing-secret-0123456789", "slack part": "slack-part-0123456789abcdef", "redis password": "redis-password-0123456789",
           "wrong key": "sk-somebody-elses-key-0123456789", "prompt": "the-prompt-says-0123456789", "url password": "url-password-0123456789"}


def unpacked(archive, folder):
    folder.mkdir()
    subprocess.run(["tar", "--zstd", "-xf", archive, "-C", folder], check=True)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def leaks(files):
    return [(name, what) for name, content in files.items() for what, secret in SECRETS.items() if secret.encode() in content]


def test_no_secret_in_logs_bundles_and_incidents(tmp_path):
    ops = tmp_path / "ops"
    for name, text in {"keys": SECRETS["api key"] + "\n", "people": f"ada admin {SECRETS['console key']}\n", "sign": SECRETS["signing secret"] + "\n",
                       "redis": SECRETS["redis password"] + "\n",
                       "notices.toml": '[[channel]]\nname = "ding"\nkind = "dingtalk"\nurl = "env:TEST_DING"\nsecret = "file:SIGN"\n'
                                       f'[[channel]]\nname = "slack"\nkind = "slack"\nurl = "http://127.0.0.1:1/services/T0/{SECRETS["slack part"]}"\n'
                                       f'[[channel]]\nname = "hook"\nkind = "webhook"\nurl = "http://127.0.0.1:1/x?password={SECRETS["url password"]}"\n'
                       }.items():
        (tmp_path / name).write_text(text.replace("SIGN", str(tmp_path / "sign")))
    environment = {"TEST_DING": f"http://127.0.0.1:1/robot/send?access_token={SECRETS['dingtalk token']}"}
    flags = ["--ops-folder", ops, "--console-keys-file", tmp_path / "people", "--ops-notices", tmp_path / "notices.toml"]
    more = ["--api-keys-file", tmp_path / "keys", "--redis", "127.0.0.1:1", "--redis-password-file", tmp_path / "redis"]
    with Server("--nodes", 2, "--threads", 1, "--log-level", "debug", *flags, *more, command="serve", environment=environment) as server:
        right = {"Authorization": f"Bearer {SECRETS['api key']}"}
        prompt = {"model": "default", "max_tokens": 8, "messages": [{"role": "user", "content": f"password: {SECRETS['prompt']}"}]}
        assert server.ask("POST", "/v1/chat/completions", prompt, right)[0] == 200
        assert server.ask("POST", "/v1/chat/completions", prompt, {"Authorization": f"Bearer {SECRETS['wrong key']}"})[0] == 401
        node = int(re.findall(r"fleet: node1 started, process (\d+)", server.log())[-1])
        wait_for(lambda: server.log().count("is ready") >= 2, what=server.log)
        server.wait_watched()
        os.kill(node, signal.SIGKILL)
        wait_for(lambda: list((ops / "bundles").glob("*.tar.zst")), 300, server.log)
        by_hand = subprocess.run([PROGRAM, "doctor", "--bundle", tmp_path / "hand.tar.zst", "--url", server.url, *map(str, flags)], check=False,
                                 capture_output=True, text=True, env=clean_environment(**environment))
        assert by_hand.returncode == 0, by_hand.stderr
        bundle, *others = sorted((ops / "bundles").glob("*.tar.zst"), key=lambda p: p.stat().st_mtime)
        automatic = unpacked(bundle, tmp_path / "automatic")
        manual = unpacked(tmp_path / "hand.tar.zst", tmp_path / "manual")
        log = server.log()
    incidents = {path.name: path.read_bytes() for path in ops.glob("incidents.db*")}
    assert "nodes/node0/stats.txt" in automatic and b"kv_blocks_used" in automatic["nodes/node0/stats.txt"], sorted(automatic)
    assert any(name.endswith("log.txt") for name in manual) and b"ops." in manual["config.txt"] and incidents
    assert "node1" in log and leaks({"log": log.encode()}) == []
    assert all(leaks(unpacked(other, tmp_path / other.name)) == [] for other in others), "of further incidents, on a busy machine"
    assert leaks(automatic) == [] and leaks(manual) == [] and leaks(incidents) == []
    for archive in (bundle, tmp_path / "hand.tar.zst"):
        assert archive.stat().st_size < 20 << 20
