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
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "dev"
PYTHON = ROOT / ".venv" / "bin" / "python"


class Tally:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def add(self, passed, failed, skipped=0):
        self.passed, self.failed, self.skipped = self.passed + passed, self.failed + failed, self.skipped + skipped

    def one(self, ok, name):
        print(f"{'ok  ' if ok else 'FAIL'} {name}", flush=True)
        self.add(int(ok), int(not ok))


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
    root = ET.parse(path).getroot()
    cases = list(root.iter("testcase"))
    failed = sum(1 for c in cases if c.find("failure") is not None or c.find("error") is not None)
    skipped = sum(1 for c in cases if c.find("skipped") is not None)
    tally.add(len(cases) - failed - skipped, failed, skipped)
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
    return any(c.find("failure") is not None for c in ET.parse(report).getroot().iter("testcase"))


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
        return tally.add(0, 0, 2)
    folder = ROOT / "build" / "cuda"
    ok = run(["cmake", "-S", "cuda", "-B", folder], stdout=subprocess.DEVNULL)
    ok = ok and run(["cmake", "--build", folder, "-j", str(os.cpu_count() or 2)], stdout=subprocess.DEVNULL)
    tally.one(ok, "GPU plug-in compiles")
    if ok and Path("/dev/nvidiactl").exists():
        tally.one(run([folder / "gpu_test"]), "GPU plug-in on this GPU")
    else:
        print("skip GPU plug-in's own tests: no GPU here")
        tally.add(0, 0, 1)


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
            check_tidy(tally, everything=True)
        print(f"{tally.passed} passed, {tally.failed} failed")
        return 1 if tally.failed or not tally.passed else 0
    if wanted("layout"):
        tally.one(run([sys.executable, "scripts/check_layout.py"]), "layout")
    if args.check:
        check_format(tally)
    if args.only != "layout" and build(tally):
        if args.check:
            check_tidy(tally, everything=False)
        if wanted("unit"):
            unit(tally)
            tally.one(run([sys.executable, "scripts/check_isa.py", BUILD]), "no AVX outside its kernels")
        if not args.check:
            if wanted("cuda"):
                cuda(tally)
            for part in ("golden", "deploy", "ops", "conformance", "e2e", "chaos"):
                if wanted(part) and any((ROOT / "tests" / part).rglob("test_*.py")):
                    tally.one(run(["scripts/model.sh"], stdout=subprocess.DEVNULL), f"default model for {part}")
                    pytest(tally, part)
    skipped = f", {tally.skipped} skipped" if tally.skipped else ""
    print(f"{tally.passed} passed, {tally.failed} failed{skipped}")
    return 1 if tally.failed or not tally.passed else 0


if __name__ == "__main__":
    sys.exit(main())
