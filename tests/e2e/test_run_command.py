"""`homeport run` as a person and as a pipe use it."""
import os
import pty
import select
import signal
import subprocess
import time

from serving import MODEL, PROGRAM, clean_environment


def run(*arguments, stdin=b""):
    return subprocess.run([PROGRAM, "run", "--model", MODEL, *arguments], input=stdin, capture_output=True, timeout=600,
                          env=clean_environment())


def test_one_prompt():
    done = run("-t", "0", "What is the capital", "of France?")
    assert done.returncode == 0 and done.stdout == b"The capital of France is Paris.\n"
    assert done.stderr == b"", "no figures when nobody watches"


def test_piped_text_and_stats():
    done = run("-t", "0", "--stats", stdin=b"What is the capital of France?\n")
    assert b"Paris" in done.stdout and b"tokens/s" in done.stderr


def test_same_seed_same_answer():
    first, again = (run("--seed", "5", "-t", "1.5", "-n", "20", "Tell a story.").stdout for _ in range(2))
    assert first == again and run("--seed", "6", "-t", "1.5", "-n", "20", "Tell a story.").stdout != first


def test_nothing_to_say_is_a_usage_error():
    done = run()
    assert done.returncode == 2 and b"standard input is empty" in done.stderr


class Terminal:
    def __init__(self, *arguments):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(PROGRAM, [str(PROGRAM), "run", "--model", str(MODEL), *arguments], {**clean_environment(), "TERM": "xterm"})
        self.seen = b""

    def wait_for(self, text, timeout=300.0):
        deadline = time.monotonic() + timeout
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} in {self.seen[-500:]!r}"
            if select.select([self.fd], [], [], left)[0]:
                self.seen += os.read(self.fd, 65536)
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, data):
        os.write(self.fd, data)

    def end(self):
        try:
            while os.read(self.fd, 65536):
                pass
        except OSError:
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_chat_on_a_terminal():
    t = Terminal("-t", "0")
    t.wait_for(b"> ")
    t.type(b"/help\r")
    t.wait_for(b"/retry")
    t.type(b"What is the capital of Franz\x7fce?\r")  # with a key of the editor
    t.wait_for(b"Paris")
    t.wait_for(b"tokens/s")
    t.wait_for(b"> ")
    t.type(b"half a line\x03")  # Ctrl-C empties the line
    t.type(b"/stats\r")
    t.wait_for(b"first after")
    t.wait_for(b"> ")
    t.type(b"\x04")
    assert t.end() == 0


def test_ctrl_c_stops_the_answer_not_the_program():
    t = Terminal("-t", "1", "--seed", "1")
    t.wait_for(b"> ")
    for _ in range(5):  # an answer may be over before its Ctrl-C arrives: then the next one is stopped
        t.type(b"Write a very long story about the sea, with many chapters.\r")
        t.wait_for(b"chapters.")
        t.wait_for(b" the ")
        t.type(b"\x03")
        t.wait_for(b"first after")  # the figures below the answer
        stopped = b"stopped" in t.wait_for(b"]")
        t.wait_for(b"> ")
        if stopped:
            break
    else:
        raise AssertionError("each of 5 answers was over before its Ctrl-C: they are too short for this machine")
    t.type(b"/quit\r")
    assert t.end() == 0


def test_ctrl_c_ends_a_single_answer():
    process = subprocess.Popen([PROGRAM, "run", "--model", MODEL, "--raw", "-t", "0", "-n", "4000", "Once upon a time"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=clean_environment())
    process.stdout.read(20)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
