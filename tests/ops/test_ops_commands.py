"""`homeport ops playbooks` and `ops test-notice`, the latter against the channels' mock, which checks signatures."""
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[0]), str(Path(__file__).resolve().parents[1])]
from cluster import certificate  # noqa: E402
from drill_channels import KINDS, Channels  # noqa: E402
from serving import PROGRAM, clean_environment  # noqa: E402

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="the program is not built")


def ops(*arguments, **environment):
    return subprocess.run([PROGRAM, "ops", *map(str, arguments)], capture_output=True, text=True, check=False,
                          env=clean_environment(**environment), timeout=300)


@pytest.fixture
def channels(tmp_path):
    channels = Channels(certificate(tmp_path, "mail"))
    yield channels
    channels.close()


def notice_test(channels, *arguments):
    return ops("test-notice", *arguments, SSL_CERT_FILE=str(channels.certificate[0]))


def test_the_playbooks_in_force():
    done = ops("playbooks", "--json")
    assert done.returncode == 0, done.stderr
    books = {b["name"]: b for b in json.loads(done.stdout)["playbooks"]}
    assert [s["action"] for s in books["level1"]["steps"]] == ["move_traffic", "bundle", "notice", "restart_node", "verify"]
    assert books["level2-kv"]["rules"] == ["kv_usage"]
    text = ops("playbooks").stdout
    assert "level1: level 1, every rule, a run per instance" in text and "at most 3 restart_node in 600 s per target" in text


def test_own_playbooks_replace_and_are_checked(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('[[playbook]]\nname = "level1"\nlevel = 1\n[[playbook.step]]\naction = "notice"\nargument = "lead"\n')
    books = json.loads(ops("playbooks", "--ops-playbooks-file", own, "--json").stdout)["playbooks"]
    assert [s["action"] for b in books if b["name"] == "level1" for s in b["steps"]] == ["notice"]
    for text, complaint in [
            ('[[playbook]]\nname = "x"\nlevel = 2\n[[playbook.step]]\naction = "hold_nod"\n', "did you mean 'hold_node'"),
            ('[[playbook]]\nname = "x"\nlevel = 2\nrules = ["kv_usag"]\n', "did you mean 'kv_usage'"),
            ('[[playbook]]\nname = "x"\n', "'level' is missing")]:
        own.write_text(text)
        done = ops("playbooks", "--ops-playbooks-file", own)
        assert done.returncode == 2 and complaint in done.stderr, done.stderr


def test_a_test_message_reaches_every_channel(tmp_path, channels):
    file = tmp_path / "notices.toml"
    file.write_text(channels.toml())
    done = notice_test(channels, "--ops-notices", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": taken") == len(KINDS)
    assert sorted(kind for _, kind, _ in channels.got) == sorted(KINDS) and not channels.bad


def test_a_mail_goes_to_nobody_whose_certificate_is_not_trusted(tmp_path, channels):
    file = tmp_path / "notices.toml"
    file.write_text(channels.toml())
    failed = {o["channel"]: o["error"] for o in json.loads(ops("test-notice", "--ops-notices", file, "--json").stdout) if not o["ok"]}
    assert set(failed) == {"mail"} and "certificate" in failed["mail"], failed
    assert [kind for _, kind, _ in channels.bad] in ([], ["mail"])


def test_a_channel_that_fails_is_named(tmp_path, channels):
    file = tmp_path / "notices.toml"
    with socket.socket() as nobody:  # bound, not listening: refused
        nobody.bind(("127.0.0.1", 0))
        file.write_text(channels.toml().replace('/dingtalk"\nlevel = 3\nroles = ["lead"]\nlanguage = "zh"\nsecret = "SECdrill"', '/dingtalk"\nlevel = 3\nsecret = "wrong"') +
                        f'[[channel]]\nname = "gone"\nkind = "webhook"\nurl = "http://127.0.0.1:{nobody.getsockname()[1]}/"\n')
        done = notice_test(channels, "--ops-notices", file, "--json")
    assert done.returncode == 1, done.stdout + done.stderr
    failed = {o["channel"]: o["error"] for o in json.loads(done.stdout) if not o["ok"]}
    assert set(failed) == {"dingtalk", "gone"} and all(failed.values())
    assert [kind for _, kind, _ in channels.bad] == ["dingtalk"]


def test_no_channel_is_an_error(tmp_path):
    assert ops("test-notice").returncode == 2
    (tmp_path / "empty.toml").write_text("group_wait_s = 1\n")
    assert "no [[channel]]" in ops("test-notice", "--ops-notices", tmp_path / "empty.toml").stderr
