#!/usr/bin/env python3
"""The console with 200 nodes and seven days of history in headless Chromium (Debian's): bytes of the first load, and from an input
to the next paint, as the browser measures it; beside it the page's own processor time for the same, which does not depend on who else
uses the machine. The history goes through the file that the product keeps.
    bench/console.py [--nodes 200] [--runs 5] [--tool build/release/console_tool]"""
import argparse
import json
import shutil
import statistics
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from console_tool import KEY, Tool  # noqa: E402

OBSERVE = """() => { window.slowest = {}; new PerformanceObserver(list => { for (const e of list.getEntries())
  slowest[e.name] = Math.max(slowest[e.name] || 0, e.duration); }).observe({ type: 'event', durationThreshold: 16 }); }"""
DRAWN = "() => [...document.querySelectorAll('.chart .canvas')].filter(c => c.dataset.drawn === '{}' && c.querySelector('canvas')).length === 11"


def first_load(page, tool, nodes):
    """Bytes over the wire for everything that the overview needs, its first event included."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Network.enable")
    devtools.send("Network.setCacheDisabled", {"cacheDisabled": True})
    urls, received = {}, {}

    def count(event, size):
        received[event["requestId"]] = received.get(event["requestId"], 0) + size

    devtools.on("Network.requestWillBeSent", lambda e: urls.setdefault(e["requestId"], e["request"]["url"]))
    devtools.on("Network.dataReceived", lambda e: count(e, e["encodedDataLength"]))
    devtools.on("Network.responseReceived", lambda e: count(e, e["response"]["encodedDataLength"]))
    page.reload()
    page.wait_for_function(f"() => document.querySelectorAll('.cell').length === {nodes} && document.querySelectorAll('.chart canvas').length >= 8")
    page.wait_for_timeout(200)
    cookie, _ = tool.session()
    with urllib.request.urlopen(urllib.request.Request(tool.url + "/console/api/events", headers=cookie), timeout=60) as events:
        first_event = len(events.readline())  # the stream goes on: how much of it DevTools saw is chance
    return first_event + sum(size for request, size in received.items() if not urls.get(request, "").endswith("/api/events"))


def measure(browser, tool, nodes=200):
    page = browser.new_context(locale="en-GB", viewport={"width": 1360, "height": 860}).new_page()
    errors = []
    page.on("console", lambda m: m.type in ("error", "warning") and errors.append(m.text))
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto(tool.url + "/console")
    page.fill("#key", KEY)
    page.click("#submit")
    page.wait_for_function(f"() => document.querySelectorAll('.cell').length === {nodes}", timeout=120_000)
    figures = {"first_load_bytes": first_load(page, tool, nodes)}
    page.evaluate(OBSERVE)
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
    took, used = {}, {}

    def main_thread_ms():
        return 1000 * next(m["value"] for m in devtools.send("Performance.getMetrics")["metrics"] if m["name"] == "TaskDuration")

    def timed(name, act, until):
        page.evaluate("window.slowest = {}")
        before = main_thread_ms()
        act()
        page.wait_for_function(until)
        used[name] = main_thread_ms() - before
        page.wait_for_timeout(100)
        took[name] = max(page.evaluate("Object.values(window.slowest)") or [0])

    timed("open nodes", lambda: page.keyboard.press("2"), "() => document.querySelectorAll('tbody tr').length === 50")
    timed("show 50 more", lambda: page.click("button.more"), "() => document.querySelectorAll('tbody tr').length === 100")
    timed("sort", lambda: page.click("th button >> nth=6"), "() => document.querySelector('th[aria-sort]') && document.querySelectorAll('tbody tr').length === 50")
    timed("filter", lambda: page.fill("input[type=search]", "node19"), "() => document.querySelectorAll('tbody tr').length === 10")
    timed("open a node", lambda: page.click("tbody tr td:first-child a >> nth=0"), "() => document.querySelector('dialog[open]')")
    timed("close it", lambda: page.keyboard.press("Escape"), "() => !document.querySelector('dialog')")
    timed("open performance", lambda: page.keyboard.press("3"), DRAWN.format("15m"))
    timed("seven days", lambda: page.click(".choice button >> nth=2"), DRAWN.format("7d"))
    figures["input_to_paint_ms"], figures["processor_ms"] = took, used
    cookie, _ = tool.session()
    week = json.loads(tool.ask("/console/api/history?window=7d&lanes=node/node007/kv:mean&points=1008", **cookie)[2])
    figures["history_points"] = sum(v is not None for v in week["columns"][0]["values"])
    page.context.close()
    return {**figures, "errors": errors}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tool", type=Path, default=ROOT / "build" / "release" / "console_tool")
    arguments = parser.parse_args()
    from playwright.sync_api import sync_playwright
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tool = Tool(arguments.nodes, program=arguments.tool, HISTORY_FILE=folder + "/history.bin")
        runs = [measure(browser, tool, arguments.nodes) for _ in range(arguments.runs)]
        size = Path(folder, "history.bin").stat().st_size
        tool.stop()
        browser.close()
    print(f"{arguments.nodes} nodes, {runs[0]['history_points']} points of seven days a line, history file {size / 1e6:.0f} MB")
    print(f"first load: {max(r['first_load_bytes'] for r in runs)} bytes (limit 1,000,000)")
    print(f"of {len(runs)} runs, ms    input to paint (goal: below 100)    processor time of the page\n{'':18}{'median':>9}{'worst':>9}{'median':>22}{'worst':>9}")
    for name in runs[0]["input_to_paint_ms"]:
        cells = [[r[key][name] for r in runs] for key in ("input_to_paint_ms", "processor_ms")]
        print(f"{name:18}" + "".join(f"{statistics.median(v):{w}.0f}{max(v):9.0f}" for v, w in zip(cells, (9, 22))))
    for error in sorted({e for r in runs for e in r["errors"]}):
        print("console error:", error)
    return any(r["errors"] or r["first_load_bytes"] >= 1_000_000 for r in runs)


if __name__ == "__main__":
    sys.exit(main())
