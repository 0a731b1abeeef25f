"""A device that is lost, hangs or has no memory: the worker ends with a reason, and what supervises it starts another one.
The device is a plug-in without a GPU (tests/tools/fake_gpu.cpp); the CUDA one reports the same way."""
import http.client
import json
import os
import subprocess
import threading

import pytest

from serving import MODEL, PROGRAM, Server, clean_environment

BESIDE = PROGRAM.parent / "fake_gpu" / "homeport"  # the program looks for the plug-in beside itself first
EXIT_HUNG = 3


@pytest.fixture(autouse=True, scope="module")
def program_beside_the_plugin():
    BESIDE.unlink(missing_ok=True)
    os.link(PROGRAM, BESIDE)


def environment(fault, once=None):
    return {"FAKE_GPU": fault, **({"FAKE_GPU_ONCE": str(once)} if once else {})}


def stream(port, result, tokens=40):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    body = {"model": "default", "messages": [{"role": "user", "content": "Hi."}], "max_tokens": tokens, "stream": True,
            "temperature": 0, "ignore_eos": True}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        for line in connection.getresponse():
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:]).get("choices", []):
                    result.append(choice["delta"].get("content", ""))
            elif line.startswith(b"data: [DONE]"):
                result.append("[DONE]")
    except (OSError, http.client.HTTPException) as error:
        result.append(f"[{type(error).__name__}]")


@pytest.mark.parametrize("fault, code, reason", [
    ("lost:20", 1, "an illegal memory access was encountered"), ("hang:20", EXIT_HUNG, "the device hangs: a step has taken "),
])
def test_a_worker_without_its_device_ends_with_a_reason(fault, code, reason):
    with Server("--device", "cuda", command="node", program=BESIDE, environment=environment(fault)) as server:
        heard = []
        client = threading.Thread(target=stream, args=(server.port, heard))
        client.start()
        assert server.process.wait(300) == code, server.log()
        client.join()
        assert reason in server.log()
        assert "[DONE]" not in heard
        with pytest.raises(OSError):  # no zombie that answers /health
            server.health()


def test_no_memory_is_a_sentence_before_anything_is_served():
    done = subprocess.run([BESIDE, "node", "--model", MODEL, "--port", "0", "--device", "cuda"], timeout=300, text=True,
                          capture_output=True, env=clean_environment(**environment("memory")))
    assert done.returncode == 1 and "no memory for the KV cache: wants 1024 MiB" in done.stdout + done.stderr


@pytest.mark.parametrize("fault", ["lost:20", "hang:20"])
def test_the_fleet_starts_another_worker_and_the_stream_goes_on(tmp_path, fault):
    once = tmp_path / "due"
    with Server("--device", "cuda", "--nodes", 1, command="serve", program=BESIDE, environment=environment(fault, once)) as server:
        expected, heard = [], []
        stream(server.port, [], tokens=10)
        once.touch()
        stream(server.port, heard)  # the fault comes at step 20 of the worker
        stream(server.port, expected)
        assert not once.exists(), "the fault never came"
        assert heard[-1] == "[DONE]" and "".join(heard) == "".join(expected)
