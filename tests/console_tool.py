"""A console over a made-up cluster as a process (tests/tools/console_main.cpp), and the requests that need no browser."""
import json
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "build" / "dev" / "console_tool"
KEY = "correct-horse-battery"
EVIL = "</script><img src=x onerror=\"document.title='owned'\">"


class Tool:
    def __init__(self, nodes, port=0, program=TOOL, **environment):
        self.process = subprocess.Popen([program, str(port), KEY, str(nodes)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env={**os.environ, "ODD_NAME": EVIL, **environment})
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def ask(self, path, method="GET", body=None, **headers):
        """Status, headers and body; headers as keyword arguments with _ for -."""
        request = urllib.request.Request(self.url + path, method=method, data=body.encode() if body is not None else None,
                                         headers={k.replace("_", "-"): v for k, v in headers.items()})
        opener = urllib.request.build_opener(NoRedirect)
        try:
            with opener.open(request, timeout=120) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def login(self, key=KEY):
        token = json.loads(self.ask("/console/api/session")[2])["csrf"]
        return self.ask("/console/api/login", "POST", json.dumps({"key": key}), X_CSRF_Token=token, Content_Type="application/json")

    def session(self, key=KEY):
        status, headers, body = self.login(key)
        assert status == 200, body
        return {"Cookie": headers["Set-Cookie"].split(";")[0]}, json.loads(body)["csrf"]

    def stop(self):
        self.process.terminate()
        self.log = self.process.communicate(timeout=120)[1]


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None
