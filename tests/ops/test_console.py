"""The console in headless Chromium (Debian's) over a made-up cluster (tests/tools/console_main.cpp): every page in both
languages, an incident that happens while it is open, actions, 200 nodes with seven days of history, and what an
attacker would try. No console error is allowed anywhere."""
import json
import re
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2] / "bench")]
from console import measure  # noqa: E402
from console_tool import EVIL, KEY, ROOT, TOOL, Tool  # noqa: E402

CHROMIUM = shutil.which("chromium")
PAGES = ["overview", "nodes", "performance", "alerts", "incidents", "actions", "tenants", "models", "chat"]

pytestmark = [pytest.mark.skipif(not TOOL.exists(), reason="build/dev/console_tool is not built")]


@pytest.fixture(scope="module")
def tool():
    tool = Tool(12)
    yield tool
    tool.stop()


# What needs no browser.

def test_a_visitor_without_a_key_sees_nothing(tool):
    evil_bytes = EVIL.encode()
    for path in ["/console/app.js", "/console/index.html", "/console/api/events", "/console/api/history?window=15m&lanes=ttft:p50",
                 "/console/api/list/incidents", "/console/api/list/audit", "/console/api/list/view", "/console/api/journey/" + "0" * 32,
                 "/console/anything", "/console/../console/app.js"]:
        status, _, body = tool.ask(path)
        assert status == 401, path
        assert b"node0" not in body and evil_bytes not in body and b"deepseek" not in body
    for path in ["actions", "acknowledge", "note", "notices", "chat", "logout"]:
        assert tool.ask("/console/api/" + path, "POST", "{}")[0] == 401, path
    for method in ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"]:
        assert tool.ask("/console/api/list/view", method)[0] == 405, method
    files = re.search(r"hp_embed_web\(ops web FILES ([^)]*)\)", (ROOT / "CMakeLists.txt").read_text())[1].replace(".jsx", ".js").split()
    assert {f for f in files if tool.ask("/console/" + f)[0] == 200} == {"login.html", "login.js", "console.css", "icon.svg"}, "what the login form needs"
    assert tool.ask("/console")[0] == 302
    status, headers, _ = tool.ask("/console/")
    assert status == 200 and "login" in open(ROOT / "src/ops/web/login.html").read()
    assert set(json.loads(tool.ask("/console/api/session")[2])) == {"logged_in", "csrf"}, "no name, no version"
    for cookie in ["homeport_console=", "homeport_console=ada.admin.9999999999999.00.00", "homeport_console=" + "x" * 5000]:
        assert tool.ask("/console/app.js", Cookie=cookie)[0] == 401


def test_every_answer_carries_the_strict_policy(tool):
    cookie, _ = tool.session()
    for path in ["/console/", "/console/app.js", "/console/api/session", "/console/api/list/audit", "/console/nothing", "/console"]:
        headers = tool.ask(path, **cookie)[1]
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy, path
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer", path
    assert tool.ask("/console/api/list/audit", **cookie)[1]["Cache-Control"] == "no-store"
    status, headers, _ = tool.ask("/console/app.js", **cookie)
    assert tool.ask("/console/app.js", If_None_Match=headers["ETag"], **cookie)[0] == 304


def test_the_cookie_is_no_script_s_and_no_other_site_s(tool):
    cookie = tool.login()[1]["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/console" in cookie
    assert KEY not in cookie


def test_a_post_needs_this_page_s_token_and_origin(tool):
    cookie, csrf = tool.session()
    order = json.dumps({"action": "restart_node", "target": "node001", "dry_run": False})

    def post(**headers):
        return tool.ask("/console/api/actions", "POST", order, Content_Type="application/json", **{**cookie, **headers})[0]

    def done():
        audit = json.loads(tool.ask("/console/api/list/audit", **cookie)[2])["audit"]
        return sum(a["action"] == "restart_node" for a in audit)

    before = done()
    assert post() == 403
    assert post(X_CSRF_Token="0" * 64) == 403
    other = tool.session()[1]
    assert other != csrf and post(X_CSRF_Token=other) == 403, "another session's token"
    assert post(X_CSRF_Token=csrf, Origin="http://evil.example") == 403
    assert post(X_CSRF_Token=csrf, Origin="null") == 403
    assert post(X_CSRF_Token=csrf, Sec_Fetch_Site="cross-site") == 403
    assert done() == before
    assert post(X_CSRF_Token=csrf, Origin=tool.url, Sec_Fetch_Site="same-origin") == 200
    assert done() == before + 1
    assert tool.ask("/console/api/login", "POST", json.dumps({"key": KEY}))[0] == 403, "the login form has a token, too"


def test_a_viewer_sees_and_does_not_act(tool):
    cookie, csrf = tool.session(KEY + "-viewer")
    assert tool.ask("/console/api/list/audit", **cookie)[0] == 200
    for path in ["actions", "note", "acknowledge", "notices", "chat"]:
        assert tool.ask("/console/api/" + path, "POST", "{}", X_CSRF_Token=csrf, **cookie)[0] == 403, path


def test_logging_out_ends_the_session_at_once(tool):
    cookie, csrf = tool.session()
    assert tool.ask("/console/api/logout", "POST", "{}", X_CSRF_Token=csrf, **cookie)[0] == 200
    assert tool.ask("/console/api/list/audit", **cookie)[0] == 401


def test_bad_requests_are_answered_as_such(tool):
    cookie, csrf = tool.session()
    ask = lambda path, body=None: tool.ask("/console/api/" + path, "POST" if body is not None else "GET", body, X_CSRF_Token=csrf, **cookie)[0]
    assert ask("history?window=1y") == 400
    assert ask("history?window=7d&lanes=" + ",".join(["a:mean"] * 500)) == 200
    assert ask("history?window=7d&nodes=kv%3Amean&top=99999&points=0") == 200
    assert ask("list/passwords") == 404
    assert ask("actions", "[]") == 400 and ask("actions", "{") == 400 and ask("actions", "{}") == 400
    assert ask("note", json.dumps({"id": "x", "text": "y"})) == 400
    assert ask("actions", "x" * (2 << 20)) == 413
    assert tool.ask("/console/", "DELETE", **cookie)[0] == 405


def test_guessing_is_slowed_and_keys_stay_out_of_the_log():
    tool = Tool(1)
    try:
        wrong = [tool.login(f"guess-number-{i}-secret")[0] for i in range(12)]
        assert wrong[:10] == [401] * 10 and wrong[10:] == [429] * 2
        assert tool.login()[0] == 429, "the right key as well, for this minute"
    finally:
        tool.stop()
    assert "refused" in tool.log
    assert "guess-number" not in tool.log and KEY not in tool.log


# What needs one.

@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("no chromium (Debian: chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Watched:
    """A page that remembers what went wrong on it."""

    def __init__(self, browser, tool, **context):
        self.tool, self.errors, self.foreign = tool, [], []
        self.context = browser.new_context(**{"locale": "en-GB", "viewport": {"width": 1360, "height": 860}, **context})
        self.context.set_default_timeout(120_000)
        self.page = self.context.new_page()
        self.page.on("console", lambda m: m.type in ("error", "warning") and self.errors.append(m.text))
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.on("request", lambda r: r.url.startswith(tool.url) or self.foreign.append(r.url))
        self.page.goto(tool.url + "/console")
        self.page.fill("#key", KEY)
        self.page.click("#submit")
        self.page.wait_for_selector(".tiles")

    def go(self, page):
        self.page.goto(f"{self.tool.url}/console/#/{page}")
        self.page.wait_for_selector(f"nav a[aria-current][href='#/{page.split('/')[0]}']")
        return self.page

    def text(self):
        return self.page.inner_text("#app")

    def close(self):
        self.context.close()
        assert self.errors == [] and self.foreign == []


@pytest.fixture
def watched(browser, tool):
    watched = Watched(browser, tool)
    yield watched
    watched.close()


def test_login_with_a_wrong_key_says_so(browser, tool):
    page = browser.new_page(locale="zh-CN")
    page.set_default_timeout(120_000)
    page.goto(tool.url + "/console")
    page.fill("#key", "not-the-right-key")
    page.press("#key", "Enter")
    page.wait_for_function("() => document.querySelector('#message').textContent === '密钥不正确'")
    page.close()


# Text whose colour is too near to that of what lies behind it, and how light the page is.
READABLE = """() => {
  const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c; } return parse(getComputedStyle(document.documentElement).backgroundColor); };
  const low = [...document.querySelectorAll('#app *')].filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.checkVisibility()
      && !e.closest(':disabled')).map(e => { const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), e.outerHTML.slice(0, 100)]; }).filter(x => x[0] < 3);
  return [light(ground(document.body)), low]; }"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_page_in_both_languages_and_themes(watched, language, theme):
    page = watched.page
    for _ in range({"light": 1, "dark": 2}[theme]):
        page.click("nav .foot button:nth-of-type(2)")
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    if language == "zh":
        page.click("nav .foot button[lang=zh]")
    expected = {"overview": ("Usable nodes", "可用节点"), "nodes": ("First token P99", "首词元 P99"), "performance": ("Between two tokens", "词元间隔"),
                "alerts": ("Notice channels", "通知渠道"), "incidents": ("No incident so far", "目前没有事件"), "actions": ("What was done", "操作记录"),
                "tenants": ("Reply tokens", "回复词元"), "models": ("Variants", "权重版本"), "chat": ("Answers stream here", "回答将在此")}
    for name in PAGES:
        watched.go(name)
        text = expected[name][language == "zh"]
        page.wait_for_function("t => document.querySelector('main').innerText.includes(t) || document.querySelector('#app').innerText.includes(t)", arg=text)
        if language == "zh":
            left = re.sub(re.escape(EVIL), "", page.inner_text("main h2, main th") if page.query_selector("main h2, main th") else "")
            assert not re.search(r"[a-z]{4,}", left), f"{name}: not translated: {left}"
        ground, unreadable = page.evaluate(READABLE)
        assert (ground > 0.5) == (theme == "light") and unreadable == [], (name, ground, unreadable)
    assert page.evaluate("document.documentElement.lang") == language


def test_charts_draw_and_the_windows_change(watched):
    page = watched.go("performance")
    for window, name in (("15m", ""), ("6h", "6 h"), ("7d", "7 days"), ("15m", "15 min")):
        if name:
            page.click(f".choice button:text-is('{name}')")
        page.wait_for_function(f"() => [...document.querySelectorAll('.chart .canvas')].filter(c => c.dataset.drawn === '{window}' && c.querySelector('canvas')).length === 11")
        assert page.locator(".chart .empty").count() == 0
    figure = page.locator(".legend li:has-text('P99') b").first.inner_text()
    assert re.fullmatch(r"[\d.]+ (ms|s)", figure), figure


def test_an_incident_that_happens_while_the_console_is_open(watched, tool):
    page = watched.go("overview")
    page.wait_for_selector("header.top .pill:text-is('All is well')")
    tool.ask("/fake/incident", "POST", "{}")
    page.wait_for_selector("header.top .pill:text-is('Service is affected')", timeout=120_000)
    page.click(".troubles a.line:has-text('A node does not answer')")
    page.wait_for_selector(".timeline li:nth-child(5)")
    assert "12 streams moved, none lost" in page.inner_text(".timeline")
    page.click("button:text-is('I am on it')")
    page.wait_for_selector(".meta:has-text('looked after by ada')")
    page.fill("main form input", "pump <b>replaced</b>")
    page.click("main form button:text-is('Add')")
    page.wait_for_selector(".timeline p:text-is('pump <b>replaced</b>')")
    watched.go("nodes/node003")
    page.wait_for_selector("dialog .pill:text-is('unreachable')")


def test_actions_are_rehearsed_confirmed_and_recorded(watched, tool):
    page = watched.go("nodes/node005")
    page.click("dialog button:text-is('Drain')")
    page.click("dialog dialog button:text-is('Rehearse')")
    page.wait_for_selector(".outcome:text-is('would drain_node node005')")
    page.click("dialog dialog button:text-is('Run it')")
    page.wait_for_selector(".outcome:text-is('did drain_node node005')")
    page.click("dialog dialog button:text-is('Close')")
    page.wait_for_selector("dialog .pill:text-is('held back')", timeout=120_000)
    page.keyboard.press("Escape")
    watched.go("actions")
    page.wait_for_selector("td:has-text('drain_node node005')")
    assert "ada" in page.inner_text("tbody")
    assert page.locator(".actionrow:has-text('scale_out') button").is_disabled(), "forbidden by configuration"


def test_chat_streams_folds_the_reasoning_and_shows_the_journey(watched):
    page = watched.go("chat")
    page.fill("textarea", f"Say this: {EVIL}")
    page.keyboard.press("Enter")
    page.wait_for_selector(".journey li:has-text('node004')", timeout=120_000)
    answer = page.inner_text(".message.assistant .text >> nth=-1")
    assert "One word at a time." in answer and "onerror" in answer
    assert page.locator("details summary:text-is('Reasoning')").count() == 1 and not page.locator("details .text").is_visible()
    assert "31 tokens" in page.inner_text(".journey") and "48 tokens" in page.inner_text(".message.assistant h3")


def test_names_prompts_and_alert_texts_stay_text(watched):
    page = watched.page
    for name in [*PAGES, "nodes/node007"]:
        watched.go(name)
        page.wait_for_timeout(150)
        assert page.locator("img[src=x]").count() == 0 and page.locator("main script").count() == 0
        assert "owned" not in page.title()
    watched.go("models")
    assert EVIL in page.inner_text("table")
    page.evaluate("document.body.appendChild(document.createElement('div')).innerHTML = '<i id=made>x</i>'")
    assert page.locator("#made").count() == 0, "markup by a library is text as well"


class OtherSite:
    """A page that posts to the console as soon as it is opened, as a form and by a script."""

    def __init__(self, console):
        pages = {"/form": f"""<form method=post enctype=text/plain action="{console}/console/api/actions">
                   <input name='{{"action":"restart_node","target":"node002","dry_run":false,"x":"' value='"}}'></form>
                   <script>document.forms[0].submit()</script>""",
                 "/script": f"""<script>fetch("{console}/console/api/actions", {{method: "POST", mode: "no-cors", credentials: "include",
                   body: '{{"action":"restart_node","target":"node002","dry_run":false}}'}}).then(() => 0, () => 0).then(() => document.title = "done")</script>"""}

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(pages.get(self.path, "").encode())

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.mark.parametrize("how", ["form", "script"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_another_site_s_page_does_nothing_with_our_cookie(browser, tool, host, how):
    """From another site the cookie does not come; from another port of this host it comes and the origin gives it away."""
    watched = Watched(browser, tool)
    other = OtherSite(tool.url)
    page = watched.context.new_page()
    if how == "form":
        with page.expect_response(lambda r: "/console/api/actions" in r.url) as answer:
            page.goto(f"http://{host}:{other.server.server_port}/form", wait_until="commit")
        assert answer.value.status in (401, 403)
    else:  # the browser keeps even the refusal from a script of another origin
        page.goto(f"http://{host}:{other.server.server_port}/script")
        page.wait_for_function("() => document.title === 'done'")
    cookie, _ = tool.session()
    audit = json.loads(tool.ask("/console/api/list/audit", **cookie)[2])["audit"]
    assert not [a for a in audit if a["target"] == "node002"]
    other.server.shutdown()
    watched.close()


def test_the_console_cannot_be_framed(browser, tool):
    page = browser.new_page()
    errors = []
    page.on("console", lambda m: errors.append(m.text))
    page.set_content(f"<iframe src='{tool.url}/console/'></iframe>")
    for _ in range(600):
        if any("frame-ancestors" in e for e in errors):
            break
        page.wait_for_timeout(200)
    assert any("frame-ancestors" in e for e in errors), errors
    page.close()


def test_keyboard_alone_reaches_everything(watched):
    page = watched.go("overview")
    page.keyboard.press("2")
    page.wait_for_selector("h1:text-is('Nodes')")
    page.keyboard.press("/")
    page.keyboard.type("node011")
    page.wait_for_function("() => document.querySelectorAll('tbody tr').length === 1")
    page.keyboard.press("Tab")
    for _ in range(20):
        if page.evaluate("document.activeElement.textContent") == "node011":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] h2:text-is('node011')")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    unnamed = page.evaluate("[...document.querySelectorAll('button,a,input,select,textarea')].filter(e => !(e.innerText || e.ariaLabel || e.placeholder || '').trim()).map(e => e.outerHTML)")
    assert unnamed == []


def test_a_phone_shows_it_without_scrolling_sideways(browser, tool):
    watched = Watched(browser, tool, is_mobile=True, has_touch=True, viewport={"width": 375, "height": 740})
    for name in [*PAGES, "nodes/node001"]:
        page = watched.page
        page.goto(f"{tool.url}/console/#/{name}")
        page.wait_for_timeout(120)
        wide = page.evaluate("[...document.querySelectorAll('#app *')].filter(e => e.getBoundingClientRect().right > 375.5 && getComputedStyle(e).position !== 'fixed').slice(0, 3).map(e => e.outerHTML.slice(0, 120))")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, (name, wide)
    watched.page.keyboard.press("Escape")
    watched.page.goto(f"{tool.url}/console/#/overview")
    watched.page.click(".burger")
    watched.page.click("nav a[href='#/nodes']")
    watched.page.wait_for_selector("h1:text-is('Nodes')")
    watched.close()


def test_both_themes_have_readable_colours(watched):
    """WCAG contrast of text and of the state colours on their grounds, 4.5 or more."""
    page = watched.page
    measure = """() => {
      const hex = n => getComputedStyle(document.documentElement).getPropertyValue(n).trim();
      const light = c => { if (c.length === 4) c = '#' + [...c.slice(1)].map(x => x + x).join('');
        const f = [1, 3, 5].map(i => parseInt(c.slice(i, i + 2), 16) / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
      const ratio = (a, b) => { const [x, y] = [light(hex(a)), light(hex(b))].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
      return [['--text','--bg'],['--text','--card'],['--soft','--card'],['--soft','--bg'],['--accent','--card'],['--card','--accent'],
        ...['ok','warn','bad','info','idle'].map(n => ['--' + n, '--' + n + '-soft'])].map(p => [p.join(' on '), ratio(...p)]); }"""
    for theme in ("light", "dark"):
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        low = [(pair, round(value, 2)) for pair, value in page.evaluate(measure) if value < 4.5]
        assert low == [], f"{theme}: {low}"


def test_two_hundred_nodes_with_seven_days(browser, tmp_path):
    """Transferred bytes are exact and have their limit; what an interaction takes is printed (bench/console.py on a quiet machine)."""
    tool = Tool(200, HISTORY_FILE=str(tmp_path / "history.bin"))
    try:
        figures = measure(browser, tool)
        print(figures)
        assert figures["errors"] == []
        assert 50_000 < figures["first_load_bytes"] < 1_000_000, figures
        assert len(figures["input_to_paint_ms"]) == 8
        assert figures["history_points"] > 900, "seven days came from the file"
    finally:
        tool.stop()
