#!/usr/bin/env python3
"""Checks the rooms: includes follow the arrows in CMakeLists.txt, no cycle, third-party headers only in their room.

The arrows are read from the hp_room(...) lines, so that there is one list. Prints each fault as file:line and exits 1.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"

# Which room may see which third-party header; anything else in <...> with a slash or a listed name is a fault.
THIRD_PARTY = {
    "base": {"fmt/", "spdlog/", "simdjson.h", "toml++/", "xxhash.h", "tl/"},
    "store": {"hiredis/", "arpa/", "netinet/"},
    "net": {"boost/", "openssl/", "arpa/", "netinet/"},
    "cli": {"CLI/", "histedit.h"},
    "ops": {"sqlite3.h", "zstd.h"},
}
ANYWHERE = {"tl/", "fmt/", "sys/", "gtest/", "gmock/", "benchmark/"}  # vocabulary types, the kernel's headers, test frameworks
TEST_ONLY = {"gtest/", "gmock/", "benchmark/"}
TEST_FILE = re.compile(r"_(test|bench|fuzz)\.(cpp|h)$|test_[a-z_]+\.h$")
LIMITS = {".h": 150, ".cpp": 450, ".cu": 900}


def arrows():
    text = (ROOT / "CMakeLists.txt").read_text()
    rooms, test_only = {}, set()
    for name, rest in re.findall(r"^hp_room\((\w+)\s+([^)]*)\)", text, re.M):
        if "TEST_ONLY" in rest:
            test_only.add(name)
        deps = re.search(r"DEPS((?:\s+\w+)*)", rest.split("LINK")[0].replace("TEST_ONLY", ""))
        rooms[name] = set(deps.group(1).split()) if deps else set()
    return rooms, test_only


def cycle(rooms):
    state = {}

    def visit(room, path):
        if state.get(room) == 2:
            return None
        if state.get(room) == 1:
            return path + [room]
        state[room] = 1
        for dep in sorted(rooms.get(room, ())):
            found = visit(dep, path + [room])
            if found:
                return found
        state[room] = 2
        return None

    for room in rooms:
        found = visit(room, [])
        if found:
            return found
    return None


def include_fault(room, is_test, header, system, rooms, test_only):
    if system:
        # Third-party headers have a slash or are on the list; the standard library has neither.
        owned = [r for r, names in THIRD_PARTY.items() if any(header.startswith(n) for n in names)]
        if any(header.startswith(n) for n in TEST_ONLY):
            return None if is_test else f"<{header}> outside a test"
        if any(header.startswith(n) for n in ANYWHERE) or room in owned:
            return None
        if owned:
            return f"<{header}> belongs to {', '.join(owned)}, not to {room}"
        return f"<{header}> is not on the list of third-party headers" if "/" in header else None
    target = header.split("/")[0]
    if target == room:
        return None
    if target not in rooms:
        return f'"{header}" is in no room (include from src/)'
    if target in test_only:
        return None if is_test else f'"{header}": {target} is for tests only'
    return None if target in rooms[room] else f'"{header}": no arrow {room} -> {target}'


def main():
    rooms, test_only = arrows()
    faults = []
    found = cycle(rooms)
    if found:
        faults.append("CMakeLists.txt: the arrows make a cycle: " + " -> ".join(found))
    for path in sorted(SRC.rglob("*")):
        if path.suffix not in LIMITS:
            continue
        room, rel = path.relative_to(SRC).parts[0], path.relative_to(ROOT)
        if room not in rooms:
            faults.append(f"{rel}: src/{room} has no hp_room line in CMakeLists.txt")
            continue
        lines = path.read_text().splitlines()
        is_test = bool(TEST_FILE.search(path.name))
        for number, line in enumerate(lines, 1):
            match = re.match(r'\s*#\s*include\s+([<"])([^">]+)[">]', line)
            if match:
                fault = include_fault(room, is_test, match.group(2), match.group(1) == "<", rooms, test_only)
                if fault:
                    faults.append(f"{rel}:{number}: {fault}")
        limit = 900 if room == "kernels" and path.suffix == ".cpp" else LIMITS[path.suffix]
        if path.suffix == ".h" and path.parent == SRC / "kernels" / "cpu":
            limit = 300  # inline kernels that several files of one ISA are built from, not interfaces
        if len(lines) > limit and not is_test:
            faults.append(f"{rel}: {len(lines)} lines, at most {limit}")
        if path.suffix == ".h" and "#pragma once" not in lines:
            faults.append(f"{rel}: no #pragma once")
    for fault in faults:
        print(fault)
    print(f"layout: {len(rooms)} rooms, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
