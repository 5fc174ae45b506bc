"""Small HTTP servers that play a part beside the real registry. Each runs in threads of this process and keeps a record of what it was asked."""

import base64
import hashlib
import hmac
import http.client
import http.server
import json
import re
import secrets
import socket
import subprocess
import threading
import time
import urllib.parse


class Server:
    """An HTTP server. Subclasses answer in `get(request)`; `stop` also ends the connections that are open."""

    def __init__(self, address=("127.0.0.1", 0), tls=None):
        self.records = []
        self._connections = set()
        handler = type("Handler", (_Handler,), {"owner": self})
        http.server.ThreadingHTTPServer.request_queue_size = 128
        self._server = http.server.ThreadingHTTPServer(address, handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        """Stops listening and closes every connection."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def get(self, request):
        """Answers a GET or HEAD by `request.answer`."""
        raise NotImplementedError


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner = None

    def setup(self):
        super().setup()
        self.owner._connections.add(self.connection)

    def finish(self):
        self.owner._connections.discard(self.connection)
        super().finish()

    def handle(self):
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.url = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(self.url.query))
        self.owner.get(self)

    do_HEAD = do_GET

    def host(self):
        return self.headers.get("Host", "").split(":")[0]

    def answer(self, status, body=b"", headers=(), length=None):
        """Sends an answer and keeps a record of it."""
        self.owner.records.append({
            "method": self.command, "host": self.host(), "path": self.url.path, "query": self.query, "status": status,
            "sent": len(body) if self.command == "GET" else 0, "authorization": self.headers.get("Authorization"),
        })
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def answer_json(self, status, value, headers=()):
        self.answer(status, json.dumps(value).encode(), [("Content-Type", "application/json"), *headers])

    def basic(self):
        """The name and password of Basic authorization, or None."""
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        name, _, password = base64.b64decode(value).decode().partition(":")
        return name, password


def parse_scopes(text):
    """`repository:NAME:pull,push …` as the `access` claim of a registry token, for reading only."""
    access = []
    for scope in text.split():
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        access.append({"type": kind, "name": name, "actions": [a for a in actions.split(",") if a == "pull"]})
    return access


class TokenServer(Server):
    """Hands out registry tokens (RS256, with the signer's certificate in `x5c`) to one user and to nobody in particular.
    A wrong password is refused. Everybody may read."""

    def __init__(self, key, certificate, user, password):
        super().__init__()
        self.key, self.user, self.password = key, user, password
        with open(certificate, encoding="ascii") as file:
            self.x5c = "".join(line.strip() for line in file if "-----" not in line)

    def get(self, request):
        who = request.basic()
        if request.url.path != "/token" or who not in (None, (self.user, self.password)):
            return request.answer_json(404 if request.url.path != "/token" else 401, {"errors": [{"code": "UNAUTHORIZED"}]})
        token = self._token(who[0] if who else "", request.query.get("service", ""), request.query.get("scope", ""))
        return request.answer_json(200, {"token": token, "expires_in": 300})

    def grants(self):
        """Who was given tokens: user names, "" for nobody in particular."""
        names = {record["authorization"] is not None for record in self.records if record["status"] == 200}
        return {self.user if known else "" for known in names}

    def _token(self, subject, service, scope):
        now = int(time.time())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [self.x5c]}
        claims = {"iss": "e2e-issuer", "sub": subject, "aud": service, "iat": now, "nbf": now - 10, "exp": now + 300,
                  "jti": secrets.token_hex(8), "access": parse_scopes(scope)}
        body = _base64url(json.dumps(head).encode()) + "." + _base64url(json.dumps(claims).encode())
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=body.encode(),
                                   stdout=subprocess.PIPE, check=True).stdout
        return body + "." + _base64url(signature)


def _base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class SignedStore(Server):
    """A blob store as cloud registries have them: a link is signed for one method and a short time, and a request that
    shows any Authorization is refused with 400, as S3 does."""

    def __init__(self, contents, address=("127.0.0.1", 0)):
        super().__init__(address)
        self.contents = contents
        self._secret = secrets.token_bytes(16)

    def link(self, method, digest):
        """Path and query of a signed link."""
        expires = str(int(time.time()) + 60)
        return f"/store/{digest}?expires={expires}&signature={self._sign(method, digest, expires)}"

    def _sign(self, method, digest, expires):
        return hmac.new(self._secret, f"{method} {digest} {expires}".encode(), hashlib.sha256).hexdigest()

    def get(self, request):
        if request.headers.get("Authorization") is not None:
            return request.answer(400, b"<Code>InvalidArgument</Code>Only one auth mechanism allowed")
        digest, expires = request.url.path.rpartition("/")[2], request.query.get("expires", "0")
        signed = hmac.compare_digest(request.query.get("signature", ""), self._sign(request.command, digest, expires))
        if not signed or int(expires) < time.time():
            return request.answer(403, b"<Code>SignatureDoesNotMatch</Code>")
        if digest not in self.contents:
            return request.answer(404)
        return send_content(request, self.contents[digest][0], "application/octet-stream")


def send_content(request, data, media_type, headers=()):
    """Answers with a content, or with the one range of it that was asked for."""
    headers = [("Content-Type", media_type), ("Accept-Ranges", "bytes"), *headers]
    span = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if not span:
        return request.answer(200, data, headers, length=len(data))
    first, last = int(span[1]), min(int(span[2] or len(data) - 1), len(data) - 1)
    if first > last:
        return request.answer(416, b"", [("Content-Range", f"bytes */{len(data)}")])
    part = data[first:last + 1]
    return request.answer(206, part, [*headers, ("Content-Range", f"bytes {first}-{last}/{len(data)}")], length=len(part))


class RedirectFront(Server):
    """Stands before a real registry and passes everything on, except that an allowed GET or HEAD of a blob is sent to the store by 307."""

    def __init__(self, registry_port, store):
        super().__init__()
        self.registry_port, self.store = registry_port, store

    def get(self, request):
        blob = re.fullmatch(r"/v2/.+/blobs/(sha256:[0-9a-f]{64})", request.url.path)
        method = "HEAD" if blob else request.command
        status, headers, body = self._ask(method, request)
        if blob and status == 200:
            where = f"http://127.0.0.1:{self.store.port}{self.store.link(request.command, blob[1])}"
            return request.answer(307, b"", [("Location", where)])
        length = int(headers.pop("Content-Length", len(body)))
        return request.answer(status, body, headers.items(), length=length if request.command == "HEAD" else None)

    def _ask(self, method, request):
        connection = http.client.HTTPConnection("127.0.0.1", self.registry_port, timeout=30)
        skip = ("host", "connection")
        try:
            connection.putrequest(method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name.lower() not in skip:
                    connection.putheader(name, value)
            connection.putheader("Host", request.headers["Host"])
            connection.endheaders()
            response = connection.getresponse()
            headers = {k: v for k, v in response.getheaders() if k.lower() not in ("connection", "date", "transfer-encoding")}
            return response.status, headers, response.read()
        except OSError:
            return 502, {}, b""
        finally:
            connection.close()
