"""`--tensor-parallel`: ranks of threads serve one model, as a node of another identity than one rank's."""
import json
import subprocess

import pytest

from serving import MODEL, PROGRAM, Server, clean_environment

PROMPT = "The capital of France is"


def complete(server, tokens):
    body = {"model": "default", "prompt": PROMPT, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    status, _, answer = server.ask("POST", "/v1/completions", body)
    assert status == 200, answer
    answer = json.loads(answer)
    return answer["choices"][0]["text"], answer["system_fingerprint"]


def test_three_ranks_answer_as_one_and_say_that_they_are_three():
    with Server("--device", "cpu", "--threads", "1", "--kv-mib", "64") as one:
        text, identity = complete(one, 6)
    with Server("--device", "cpu", "--threads", "3", "--kv-mib", "64", "--tensor-parallel", "3") as three:
        cut, other = complete(three, 6)
        assert cut == text  # six tokens that no rounding turns
        assert other != identity
        together = [complete(three, 24)[0] for _ in range(2)]
        assert together[0] == together[1]


@pytest.mark.parametrize("flags, sentence", [
    (["--device", "cpu", "--tensor-parallel", "2"], "9 attention heads cannot be shared among 2 ranks"),
    (["--tensor-parallel", "0"], "tensor-parallel"),
    (["--device", "cpu", "--batch-invariant=false"], "the CPU's kernels always keep the bits of an answer"),
])
def test_what_a_device_cannot_do_is_refused(flags, sentence):
    done = subprocess.run([PROGRAM, "node", "--model", MODEL, "--port", "0", *flags], capture_output=True, text=True,
                          timeout=120, env=clean_environment(), check=False)
    assert done.returncode in (1, 2)
    assert sentence in done.stderr + done.stdout


def test_the_plan_counts_the_memory_of_all_ranks():
    def memory(*flags):
        done = subprocess.run([PROGRAM, "plan", "memory", "--model", MODEL, "--threads", "3", "--json", *flags],
                              capture_output=True, text=True, timeout=120, env=clean_environment(), check=True)
        return json.loads(done.stdout)["memory"]
    one, three = memory(), memory("--tensor-parallel", "3")
    assert one["weights"] < three["weights"] < 1.02 * one["weights"]  # norms are on every rank
    assert three["tables"] == 3 * one["tables"]
