#!/usr/bin/env python3
"""Builds and runs every test, then closes with one line: N passed, N failed[, N skipped].

usage: run_tests.py [--check | --tidy] [--only layout|unit|cuda|golden|deploy|ops|conformance|e2e|chaos]
  --check   what runs before a commit: format, tidy (changed files only), layout, unit
  --tidy    clang-tidy over the whole tree, nothing else
"""
import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "dev"
PYTHON = ROOT / ".venv" / "bin" / "python"


class Tally:
    def __init__(self):
        self.passed = self.skipped = 0
        self.failures, self.parts = [], []  # names; (name, seconds)

    @property
    def failed(self):
        return len(self.failures)

    def add(self, passed, failures, skipped=0):
        self.passed, self.skipped = self.passed + passed, self.skipped + skipped
        self.failures += failures

    def one(self, ok, name):
        print(f"{'ok  ' if ok else 'FAIL'} {name}", flush=True)
        self.add(int(ok), [] if ok else [name])

    @contextmanager
    def part(self, name):
        begun = time.monotonic()
        yield
        self.parts.append((name, time.monotonic() - begun))

    def close(self):
        """The end of a log tells it all: how long each part took, what failed, and the counts alone on the last line."""
        if self.parts:
            print("took: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.parts))
        for name in self.failures:
            print(f"FAILED {name}")
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        print(f"{self.passed} passed, {self.failed} failed{skipped}", flush=True)
        return 1 if self.failed or not self.passed else 0


def run(command, **kwargs):
    return subprocess.run([str(c) for c in command], cwd=ROOT, check=False, **kwargs).returncode == 0


def sources(*patterns):
    out = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in out.split() if (ROOT / line).exists()]


def build(tally):
    ok = run(["cmake", "--preset", "dev"], stdout=subprocess.DEVNULL)
    ok = ok and run(["cmake", "--build", BUILD, "-j", str(os.cpu_count() or 2)])
    tally.one(ok, "build")
    return ok


def count_junit(path, tally):
    if not path.exists():
        return False
    cases = list(ET.parse(path).getroot().iter("testcase"))
    failures = [f"{c.get('classname')}: {c.get('name')}" for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skipped = sum(1 for c in cases if c.find("skipped") is not None)
    tally.add(len(cases) - len(failures) - skipped, failures, skipped)
    return True


def unit(tally):
    for program in sorted(BUILD.glob("*_test")):
        report = BUILD / f"{program.name}.xml"
        report.unlink(missing_ok=True)
        ok = run([program, "--gtest_brief=1", f"--gtest_output=xml:{report}"])
        counted = count_junit(report, tally)
        print(f"{'ok  ' if ok else 'FAIL'} {program.name}", flush=True)
        if not counted or (not ok and not has_failures(report)):
            tally.one(False, f"{program.name} ended without a report (crash?)")


def has_failures(report):
    return any(c.find("failure") is not None or c.find("error") is not None for c in ET.parse(report).getroot().iter("testcase"))


def pytest(tally, folder):
    report = BUILD / f"pytest_{folder}.xml"
    report.unlink(missing_ok=True)
    ok = run([PYTHON, "-m", "pytest", "-q", "-x" if os.environ.get("FAIL_FAST") else "-q", f"--junitxml={report}",
              f"tests/{folder}"])
    if not count_junit(report, tally):
        tally.one(False, f"pytest {folder} ended without a report")
    elif not ok and not has_failures(report):
        tally.one(False, f"pytest {folder} failed outside a test")


def cuda(tally):
    """Compiles the GPU plug-in where nvcc is; its own tests need a GPU as well. What cannot be done here counts as skipped."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        print("skip GPU plug-in: no nvcc here")
        return tally.add(0, [], 2)
    folder = ROOT / "build" / "cuda"
    ok = run(["cmake", "-S", "cuda", "-B", folder], stdout=subprocess.DEVNULL)
    ok = ok and run(["cmake", "--build", folder, "-j", str(os.cpu_count() or 2)], stdout=subprocess.DEVNULL)
    tally.one(ok, "GPU plug-in compiles")
    if ok and Path("/dev/nvidiactl").exists():
        tally.one(run([folder / "gpu_test"]), "GPU plug-in on this GPU")
    else:
        print("skip GPU plug-in's own tests: no GPU here")
        tally.add(0, [], 1)


def check_format(tally):
    files = sources("src/*.h", "src/*.cpp", "tests/*.cpp")
    tally.one(run(["clang-format", "--dry-run", "--Werror", *files]), "format (make fmt mends it)")


def tidy_one(path):
    stamp = BUILD / "tidy" / hashlib.sha256(path.read_bytes() + (ROOT / ".clang-tidy").read_bytes()).hexdigest()
    if stamp.exists():
        return True, ""
    done = subprocess.run(["clang-tidy", "-quiet", "-p", str(BUILD), str(path)], cwd=ROOT, capture_output=True, text=True,
                          check=False)
    if done.returncode == 0:
        stamp.parent.mkdir(exist_ok=True)
        stamp.touch()
    return done.returncode == 0, done.stdout


def changed_files():
    """What differs from the main branch, or from the commit before when this is the main branch itself."""
    def git(*words):
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()

    base = next((b for ref in ("origin/main", "main") for b in git("merge-base", "HEAD", ref)), None)
    if base is None or base == (git("rev-parse", "HEAD") or [""])[0]:
        base = "HEAD~1"
    return {ROOT / f for f in git("diff", "--name-only", base) + git("ls-files", "--others", "--exclude-standard")}


def check_tidy(tally, everything):
    files = [f for f in sources("src/*.cpp") if not re.search(r"_(test|bench|fuzz)\.cpp$", f.name)]
    if not everything:
        changed = changed_files()
        files = [f for f in files if f in changed]
    with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        results = list(pool.map(tidy_one, files))
    for (ok, text), path in zip(results, files):
        if not ok:
            print(text)
            print(f"FAIL tidy {path.relative_to(ROOT)}")
    tally.one(all(ok for ok, _ in results), f"tidy of {len(files)} files")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--tidy", action="store_true")
    parser.add_argument("--only", choices=["layout", "unit", "cuda", "golden", "deploy", "ops", "conformance", "e2e", "chaos"])
    args = parser.parse_args()
    wanted = lambda part: args.only in (None, part)
    tally = Tally()
    if args.tidy:
        if run(["cmake", "--preset", "dev"], stdout=subprocess.DEVNULL):
            with tally.part("tidy"):
                check_tidy(tally, everything=True)
        return tally.close()
    if wanted("layout"):
        tally.one(run([sys.executable, "scripts/check_layout.py"]), "layout")
    if args.check:
        check_format(tally)
    if args.only == "layout":
        return tally.close()
    with tally.part("build"):
        built = build(tally)
    if not built:
        return tally.close()
    if args.check:
        with tally.part("tidy"):
            check_tidy(tally, everything=False)
    if wanted("unit"):
        with tally.part("unit"):
            unit(tally)
            tally.one(run([sys.executable, "scripts/check_isa.py", BUILD]), "no AVX outside its kernels")
    if args.check:
        return tally.close()
    if wanted("cuda"):
        with tally.part("cuda"):
            cuda(tally)
    for part in ("golden", "deploy", "ops", "conformance", "e2e", "chaos"):
        if wanted(part) and any((ROOT / "tests" / part).rglob("test_*.py")):
            with tally.part(part):
                tally.one(run(["scripts/model.sh"], stdout=subprocess.DEVNULL), f"default model for {part}")
                pytest(tally, part)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
