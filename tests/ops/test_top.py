"""`homeport top` in a terminal (a pty): what it draws, a window of another size, keys, a server that goes away and comes back, and
the terminal as it was before, however the program ends."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from console_tool import KEY, TOOL, Tool  # noqa: E402
from serving import PROGRAM, clean_environment  # noqa: E402

pytestmark = [pytest.mark.skipif(not TOOL.exists() or not PROGRAM.exists(), reason="build/dev/console_tool or homeport is not built")]
PATIENCE = 60


class Terminal:
    """A window, and `top` in it. What was drawn last is frame()."""

    def __init__(self, url, key_file, columns=80, rows=24):
        self.master, self.slave = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen([PROGRAM, "top", "--url", url, "--key-file", key_file, "--interval", "0.3"], stdin=self.slave,
                                        stdout=self.slave, stderr=subprocess.PIPE, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), env=clean_environment(TERM="xterm"))
        self.out = ""

    def resize(self, columns, rows):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds=0.05):
        while select.select([self.master], [], [], seconds)[0]:
            self.out += os.read(self.master, 65536).decode(errors="replace")

    def frame(self):
        """The lines of the last whole picture, without colours."""
        whole = re.findall(r"\x1b\[H(.*?)\x1b\[J\x1b\[2m(q: quit)", self.out, re.S)
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", whole[-1][0]).split("\r\n")[:-1] if whole else []

    def wait(self, condition):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.read()
            if condition(self.frame()):
                return self.frame()
            assert self.process.poll() is None, self.process.stderr.read()
        pytest.fail("it did not happen:\n" + "\n".join(self.frame()))

    def press(self, key):
        os.write(self.master, key)

    def ended(self):
        """Its exit status, when the terminal is as before."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read()
        self.read(0.2)
        assert self.out.endswith("\x1b[?25h\x1b[?1049l"), "the cursor and the screen from before"
        assert termios.tcgetattr(self.slave) == self.before
        self.process.stderr.close()
        return self.process.wait(PATIENCE)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture(scope="module")
def tool():
    tool = Tool(12)
    yield tool
    tool.stop()


@pytest.fixture
def key_file(tmp_path):
    (tmp_path / "key").write_text(KEY)
    return tmp_path / "key"


@pytest.fixture
def top(tool, key_file):
    terminal = Terminal(tool.url, key_file)
    yield terminal
    terminal.close()


def picture(frame):
    return bool(frame) and frame[0].startswith("homeport ") and "nodes 12/12" in frame[0]


def test_draws_on_a_screen_of_its_own_and_follows_the_window(top):
    frame = top.wait(picture)
    assert top.out.startswith("\x1b[?1049h\x1b[?25l")
    assert len(frame) <= 23 and all(len(line) <= 80 for line in frame), frame
    top.resize(132, 40)
    wide = top.wait(lambda f: picture(f) and max(map(len, f)) > 80)
    assert len(wide) <= 39 and all(len(line) <= 132 for line in wide)
    assert sum(bool(re.match(r"node\d+ ", line)) for line in wide) == 12
    top.resize(80, 10)
    small = top.wait(lambda f: picture(f) and len(f) <= 9)
    assert any("more" in line for line in small), small


def test_q_quits_and_other_keys_do_not(top):
    top.wait(picture)
    for key in (b"x", b"\x1b[A", b" ", b"1"):
        drawn = top.out.count("q: quit")
        top.press(key)
        top.wait(lambda _, n=drawn: top.out.count("q: quit") > n)
    top.press(b"q")
    assert top.ended() == 0


@pytest.mark.parametrize("how", ["ctrl-c", "terminated"])
def test_an_interrupt_restores_the_terminal(top, how):
    top.wait(picture)
    if how == "ctrl-c":
        top.press(b"\x03")
    else:
        top.process.send_signal(signal.SIGTERM)
    assert top.ended() == 0


def test_a_server_that_goes_away_and_comes_back(key_file):
    tool = Tool(12)
    terminal = Terminal(tool.url, key_file)
    try:
        terminal.wait(picture)
        tool.stop()
        gone = terminal.wait(lambda f: f and not f[0].startswith("homeport "))
        assert len(gone) == 1 and "127.0.0.1" in gone[0], gone
        tool = Tool(12, port=tool.port)
        terminal.wait(picture)
        terminal.press(b"q")
        assert terminal.ended() == 0
    finally:
        terminal.close()
        tool.stop()
