"""Upstream registries in every way that a registry guards its content. All serve the same folder, read-only."""

import collections
import re

import servers
from certificates import Authority
from ground import check, free_port, listening, need, wait_until

USER, PASSWORD = "alice", "correct horse"
ACCESS_LINE = re.compile(r'"(GET|HEAD) (/v2/\S+) HTTP/[\d.]+" (\d{3}) (\d+)')
BLOB_PATH = re.compile(r"/v2/.+/blobs/(sha256:[0-9a-f]{64})")
CONFIG = """\
version: 0.1
log: {{level: info, accesslog: {{disabled: false}}}}
storage:
  filesystem: {{rootdirectory: {data}}}
  maintenance: {{readonly: {{enabled: {readonly}}}}}
http:
  addr: {address}:{port}
"""


class Plain:
    """A real registry that anybody may read over plain HTTP, and what the others are built from."""

    name = "anonymous"
    scheme = "http"

    def __init__(self, place, data, images, readonly=True):
        need("docker-registry")
        self.place, self.images = place, images
        self.port = free_port()
        self._process = None
        config = CONFIG.format(data=data, address=place.address, port=self.port, readonly=str(readonly).lower()) + self.more_http()
        self._config = place.write("registry.yml", config + self.auth())

    def more_http(self):
        """More lines of the section `http`."""
        return ""

    def auth(self):
        """The section `auth`."""
        return ""

    def start(self):
        """Starts it and waits until it answers."""
        self._process = self.place.start("registry", ["docker-registry", "serve", self._config])
        wait_until("the registry listens", lambda: listening(self.port, self.place.address) or self._process.poll() is not None)
        check(self._process.poll() is None, "the registry did not start")

    def stop(self):
        """Stops it, and whatever belongs to it: from now on nobody answers."""
        self.place.stop(self._process)

    def url(self):
        """Where roadstead is to reach it."""
        return f"{self.scheme}://{self.place.address}:{self.port}"

    def keys(self, registry):
        """Keys of this upstream's `[[registry]]`; `registry` is the name that clients use."""
        del registry
        return ""

    def sends(self):
        """The lengths in which content left this upstream, by digest. One byte is a question, not a download."""
        with open(self.place.path("registry.log"), encoding="utf-8", errors="replace") as log:
            lines = [match.groups() for match in map(ACCESS_LINE.search, log) if match]
        return collect((path, int(sent)) for method, path, status, sent in lines
                       if method == "GET" and status in ("200", "206"))

    def verify(self, registries):
        """What else must hold after cold pulls through these registry names."""


def collect(sends):
    """Groups (path of a blob, bytes) by the digest in the path."""
    found = collections.defaultdict(list)
    for path, sent in sends:
        digest = re.search(r"sha256:[0-9a-f]{64}", path)
        if digest and sent > 1 and "/manifests/" not in path:
            found[digest[0]].append(sent)
    return found


class Basic(Plain):
    """Every request needs a name and a password."""

    name = "basic"

    def auth(self):
        need("htpasswd")
        users = self.place.path("htpasswd")
        self.place.run(["htpasswd", "-Bbc", users, USER, PASSWORD])
        self.place.write("password", PASSWORD + "\n")
        return f"auth: {{htpasswd: {{realm: e2e, path: {users}}}}}\n"

    def keys(self, registry):
        return f'credentials = {{ kind = "basic", username = "{USER}", password = {{ file = "password" }} }}\n'


class Bearer(Plain):
    """Every request needs a token. docker.io asks for it without a name, registry.test with one."""

    name = "bearer"

    def auth(self):
        need("openssl")
        key, certificate = self.place.path("token.key"), self.place.path("token.pem")
        self.place.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=token signer",
                        "-keyout", key, "-out", certificate])
        self.place.write("password", PASSWORD + "\n")
        self._tokens = servers.TokenServer(key, certificate, USER, PASSWORD)
        self._realm = f"http://127.0.0.1:{self._tokens.port}/token"
        return (f"auth: {{token: {{realm: '{self._realm}', service: e2e-registry, issuer: e2e-issuer, "
                f"rootcertbundle: {certificate}}}}}\n")

    def keys(self, registry):
        lines = f'realm = "{self._realm}"\n'
        if registry != "docker.io":
            lines += f'credentials = {{ kind = "basic", username = "{USER}", password = {{ file = "password" }} }}\n'
        return lines

    def stop(self):
        super().stop()
        self._tokens.stop()

    def verify(self, registries):
        expected = {"" if name == "docker.io" else USER for name in registries}
        check(self._tokens.grants() == expected, f"tokens went to {self._tokens.grants()}, not to {expected}")


class Tls(Plain):
    """HTTPS with a certificate of an authority that only the configuration knows."""

    name = "tls"
    scheme = "https"

    def more_http(self):
        certificate, key = Authority(self.place).issue("server", ["IP:127.0.0.1"])
        return f"  tls: {{certificate: {certificate}, key: {key}}}\n"

    def keys(self, registry):
        return 'ca = "ca.pem"\n'


class Redirect(Basic):
    """Needs a name and a password, and sends every blob by 307 to a signed link of a store on another port, which refuses
    whoever brings the password along."""

    name = "redirect"

    def start(self):
        super().start()
        self._store = servers.SignedStore(self.images.contents)
        self._front = servers.RedirectFront(self.port, self._store)

    def stop(self):
        super().stop()
        self._front.stop()
        self._store.stop()

    def url(self):
        return f"http://127.0.0.1:{self._front.port}"

    def keys(self, registry):
        return super().keys(registry) + f'blob_hosts = ["127.0.0.1:{self._store.port}"]\n'

    def sends(self):
        return collect((record["path"], record["sent"]) for record in self._store.records if record["status"] in (200, 206))

    def verify(self, registries):
        refused = [record for record in self._store.records if record["status"] >= 400]
        check(not refused, f"the store refused {len(refused)} requests, the first with {refused[:1]}")


VARIANTS = [Plain, Basic, Bearer, Tls, Redirect]
