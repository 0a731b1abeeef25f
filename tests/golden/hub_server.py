"""A hub for tests: Hugging Face's and ModelScope's API over http or https on this machine, with faults on demand."""

import hashlib
import http.server
import json
import re
import ssl
import subprocess
import threading
import urllib.parse

TREE = re.compile(r"/api/models/([^/]+/[^/]+)/tree/main")
RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/main/(.+)")


def git_sha(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class HubServer:
    """files: path -> bytes. Faults: cut_after bytes per answer, so often; wrong_hash paths; token; content_server:
    another server that file requests are redirected to; slow_after: so many bytes of an answer at once and the rest drop by
    drop, until `hurry` is set. `slow` is set when a first answer has come to that."""

    def __init__(self, files, folder=None, **faults):
        self.files, self.faults, self.requests = files, faults, []
        self.cuts = faults.get("cuts", 0)
        self.lock, self.slow, self.hurry = threading.Lock(), threading.Event(), threading.Event()
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                hub.answer(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        if folder is not None:  # https with a certificate of its own
            self.scheme, self.certificate = "https", folder / "cert.pem"
            key = folder / "key.pem"
            command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout {key} -out {self.certificate}"
            subprocess.run(command.split(), check=True, capture_output=True)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate, key)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"{self.scheme}://localhost:{self.server.server_address[1]}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def entry(self, path, data):
        size = self.faults.get("claim_size", {}).get(path, len(data))
        digest = hashlib.sha256(data if path not in self.faults.get("wrong_hash", ()) else data + b"x").hexdigest()
        if path.endswith((".safetensors", ".gguf")):
            return {"type": "file", "path": path, "size": size, "oid": "0" * 40, "lfs": {"oid": digest, "size": size}}
        return {"type": "file", "path": path, "size": size, "oid": git_sha(data)}

    def answer(self, h):
        with self.lock:
            self.requests.append((h.path, dict(h.headers)))
        url = urllib.parse.urlsplit(h.path)
        token = self.faults.get("token")
        cdn = url.path.startswith("/cdn/")
        if token and not cdn and h.headers.get("Authorization") != f"Bearer {token}":
            return self.plain(h, 401, b"no")
        if cdn:
            return self.bytes_of(h, urllib.parse.unquote(url.path[5:]))
        if m := TREE.fullmatch(url.path):
            return self.tree(h, m[1], urllib.parse.parse_qs(url.query))
        if m := RESOLVE.fullmatch(url.path):
            path = urllib.parse.unquote(m[2])
            if server := self.faults.get("content_server"):
                return self.plain(h, 302, b"", {"Location": f"{server}/cdn/{urllib.parse.quote(path)}"})
            return self.bytes_of(h, path)
        if url.path == "/api/v1/models/org/model/repo/files":
            rows = [
                {"Type": "blob", "Path": p, "Size": len(d), "Sha256": hashlib.sha256(d).hexdigest()}
                for p, d in self.files.items()
            ]
            return self.plain(h, 200, json.dumps({"Code": 200, "Data": {"Files": rows}}).encode())
        if url.path == "/api/v1/models/org/model/repo":
            return self.bytes_of(h, urllib.parse.parse_qs(url.query)["FilePath"][0])
        return self.plain(h, 404, b"not here")

    def tree(self, h, repository, query):
        if repository != "org/model":
            return self.plain(h, 404, b"not here")
        rows = [{"type": "directory", "path": "sub"}] + [self.entry(p, d) for p, d in self.files.items()]
        page = int(query.get("cursor", ["0"])[0])
        headers = {}
        if len(rows) > 2 * (page + 1):
            headers["Link"] = f'<{self.url}{h.path.split("&cursor")[0]}&cursor={page + 1}>; rel="next"'
        return self.plain(h, 200, json.dumps(rows[2 * page : 2 * page + 2]).encode(), headers)

    def plain(self, h, status, body, headers=None):
        h.send_response(status)
        for name, value in (headers or {}).items():
            h.send_header(name, value)
        h.send_header("Content-Length", str(len(body)))
        h.end_headers()
        h.wfile.write(body)

    def bytes_of(self, h, path):
        if path not in self.files:
            return self.plain(h, 404, b"not here")
        data, wanted = self.files[path], h.headers.get("Range")
        begin, end = 0, len(data)
        if wanted and not self.faults.get("no_ranges"):
            first, last = wanted.removeprefix("bytes=").split("-")
            begin, end = int(first), int(last) + 1
            h.send_response(206)
            h.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        else:
            h.send_response(200)
        part = data[begin:end]
        h.send_header("Content-Length", str(len(part)))
        h.end_headers()
        with self.lock:
            cut = self.cuts > 0 and len(part) > self.faults.get("cut_after", 0)
            self.cuts -= cut
        try:
            at_once = self.faults.get("slow_after", len(part))
            h.wfile.write(part[: self.faults["cut_after"]] if cut else part[:at_once])
            while at_once < len(part) and not cut:
                self.slow.set()
                step = len(part) if self.hurry.wait(0.05) else 1024
                h.wfile.write(part[at_once : at_once + step])
                at_once += step
        except OSError:
            return
        if cut:
            h.wfile.flush()
            h.close_connection = True
            h.connection.close()
