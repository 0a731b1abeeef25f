"""Mocks of every kind of notice channel: seven over HTTP on one port, mail over SMTP with STARTTLS. Each checks what proves
that a message is genuine (a signature, a key in the address, a login over TLS) and refuses what is not."""
import base64
import email
import email.header
import hashlib
import hmac
import http.server
import json
import socketserver
import ssl
import threading
import time
import urllib.parse

SECRET = "SECdrill"
KINDS = ("dingtalk", "feishu", "webhook", "slack", "wecom", "pagerduty", "alertmanager", "mail")


def mac(key, text):
    return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()).decode()


def genuine(kind, path, headers, body):
    """Whether the service of this kind would take the message."""
    url = urllib.parse.urlparse(path)
    query = urllib.parse.parse_qs(url.query)
    document = json.loads(body)
    if kind == "dingtalk":
        stamp = query["timestamp"][0]
        return query["sign"][0] == mac(SECRET, f"{stamp}\n{SECRET}") and abs(int(stamp) / 1000 - time.time()) < 60
    if kind == "feishu":
        stamp = document["timestamp"]
        return document["sign"] == mac(f"{stamp}\n{SECRET}", "") and abs(int(stamp) - time.time()) < 60
    if kind == "webhook":
        stamp = headers["Homeport-Timestamp"]
        wanted = hmac.new(SECRET.encode(), f"{stamp}.{body}".encode(), hashlib.sha256).hexdigest()
        return headers["Homeport-Signature"] == "sha256=" + wanted and abs(int(stamp) - time.time()) < 60
    if kind == "pagerduty":
        return document["routing_key"] == SECRET and document["dedup_key"].startswith("homeport-")
    if kind == "alertmanager":
        return document["version"] == "4" and all(a["fingerprint"].startswith("homeport-") for a in document["alerts"])
    text = {"slack": lambda: document["text"], "wecom": lambda: document["text"]["content"]}[kind]()
    return query["key"] == [SECRET] and "Homeport" in text  # the key in the address is all that these have


class Channels:
    """`got` and `bad`: (monotonic time, kind, text) of what was taken and refused."""

    def __init__(self, certificate):
        self.got, self.bad, self.certificate = [], [], certificate
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                kind = urllib.parse.urlparse(self.path).path.strip("/")
                ok = genuine(kind, self.path, self.headers, body)
                outer.take(kind, body, ok)
                answer = {"dingtalk": {"errcode": 0}, "wecom": {"errcode": 0}, "feishu": {"code": 0}}.get(kind, {})
                data = json.dumps(answer if ok else {"errcode": 310000, "code": 19021}).encode()
                self.send_response(200 if ok else 403)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.smtp = Mailbox(self)
        for server in (self.http, self.smtp):
            threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()

    def take(self, kind, text, ok):
        (self.got if ok else self.bad).append((time.monotonic(), kind, text))

    def toml(self):
        base = f"http://127.0.0.1:{self.http.server_port}"
        query = {"slack": f"?key={SECRET}", "wecom": f"?key={SECRET}"}
        out = ""
        for kind in KINDS:
            url = f"smtp://127.0.0.1:{self.smtp.port}" if kind == "mail" else f"{base}/{kind}{query.get(kind, '')}"
            out += f'[[channel]]\nname = "{kind}"\nkind = "{kind}"\nurl = "{url}"\nlevel = 3\nroles = ["lead"]\n'
            out += f'language = "{"zh" if kind in ("dingtalk", "feishu", "wecom") else "en"}"\n'
            out += (f'from = "Homeport <homeport@example.org>"\nto = ["lead@example.org"]\nuser = "homeport"\npassword = "{SECRET}"\n'
                    'security = "starttls"\n') if kind == "mail" else f'secret = "{SECRET}"\n'
        return out

    def notices(self):
        """(monotonic time, notice) of all that the webhook was told."""
        return [(at, notice) for at, kind, text in list(self.got) if kind == "webhook" for notice in json.loads(text)["notices"]]

    def close(self):
        for server in (self.http, self.smtp):
            server.shutdown()
            server.server_close()


class Mailbox(socketserver.ThreadingTCPServer):
    """An SMTP server that takes a mail only after STARTTLS and the right login."""
    daemon_threads = True

    def __init__(self, channels):
        self.channels = channels
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*channels.certificate)
        super().__init__(("127.0.0.1", 0), Letter)
        self.port = self.server_address[1]

    def handle_error(self, request, client_address):
        self.channels.take("mail", "the session broke off", False)


class Letter(socketserver.StreamRequestHandler):
    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")
        self.wfile.flush()

    def handle(self):
        secure = known = False
        sender, receivers = "", []
        self.say("220 drill ESMTP")
        while line := self.rfile.readline().decode().rstrip("\r\n"):
            word = line.split(" ")[0].upper()
            if word == "EHLO":
                self.say("250-drill" if secure else "250-drill\r\n250-STARTTLS")
                self.say("250 AUTH PLAIN" if secure else "250 8BITMIME")
            elif word == "STARTTLS":
                self.say("220 go on")
                self.connection = self.server.context.wrap_socket(self.connection, server_side=True)
                self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb")
                secure = True
            elif word == "AUTH":
                known = secure and base64.b64decode(line.split(" ")[2]) == f"\0homeport\0{SECRET}".encode()
                self.say("235 welcome" if known else "535 who are you")
            elif word == "MAIL":
                sender = line
                self.say("250 ok")
            elif word == "RCPT":
                receivers.append(line)
                self.say("250 ok" if known else "530 log in first")
            elif word == "DATA":
                self.say("354 go on")
                data = b""
                while (part := self.rfile.readline()) not in (b".\r\n", b""):
                    data += part
                text, proper = self.read(data)
                ok = known and proper and "homeport@example.org" in sender and receivers == ["RCPT TO:<lead@example.org>"]
                self.server.channels.take("mail", text, ok)
                self.say("250 taken" if ok else "550 not taken")
            elif word == "QUIT":
                return self.say("221 bye")
            else:
                self.say("502 what")

    @staticmethod
    def read(data):
        mail = email.message_from_bytes(data)
        subject = str(email.header.make_header(email.header.decode_header(mail["Subject"])))
        text = mail.get_payload(decode=True).decode()
        return subject + "\n" + text, "Homeport" in subject and bool(mail["Date"]) and mail["Message-ID"].endswith("@homeport>")
