"""The servers that roadstead is measured beside: how each is configured, started and stopped."""

import glob
import os
import shutil
import urllib.error
import urllib.request

import processes
from ground import Failed, check, free_port, listening, need, wait_until
from upstream import ACCEPT

LOG = "access_log {folder}/access.log combined buffer=64k flush=1s;"
NGINX = """\
user root;
worker_processes auto;
worker_rlimit_nofile 20000;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 16384; }}
http {{
  {log}
  client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp; fastcgi_temp_path {folder}/tmp;
  uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp;
  sendfile on;
  tcp_nopush {nopush};
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  open_file_cache max=10000;
  ssl_certificate {certificate};
  ssl_certificate_key {key};
  {http}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    listen 127.0.0.1:{tls_port} ssl http2 backlog=4096;
    {server}
  }}
}}
"""
CACHED = """\
proxy_cache_path {folder}/cache levels=1:2 keys_zone=bench:64m use_temp_path=off;"""
PROXY = """\
location / {{ proxy_pass http://{upstream}; proxy_cache bench; proxy_cache_valid 200 1h; proxy_cache_lock on; }}"""
VCL = """\
vcl 4.1;
backend default {{ .host = "{host}"; .port = "{port}"; }}
sub vcl_backend_response {{ set beresp.ttl = 1h; }}
"""
REGISTRY = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {folder}/data}}
http:
  addr: 127.0.0.1:{port}
proxy:
  remoteurl: http://{upstream}
"""


class Peer:
    """A server in a folder of its own. `tls` is its certificate and key."""

    name = ""

    def __init__(self, place, upstream, tls=None):
        self.upstream, self.tls = upstream, tls or ("", "")
        self.folder = place.path(self.name.replace(" ", "-"))
        os.makedirs(self.folder, exist_ok=True)
        self.place = place
        self.port, self.tls_port = free_port(), free_port()
        self._process = None

    @property
    def address(self):
        """Where it speaks plain HTTP."""
        return f"127.0.0.1:{self.port}"

    @property
    def tls_address(self):
        """Where it speaks TLS."""
        return f"127.0.0.1:{self.tls_port}"

    def command(self):
        """Writes its configuration and returns its command line."""
        raise NotImplementedError

    def start(self):
        """Starts it and waits until it listens."""
        self.launch()
        wait_until(f"{self.name} listens", lambda: listening(self.port) or not self.alive())
        check(self.alive(), f"{self.name} did not start")

    def launch(self):
        """Starts it."""
        command = self.command()
        need(command[0])
        self._process = self.place.start_split(self.name.replace(" ", "-"), command)

    def alive(self):
        """Whether it has not ended."""
        return self._process.poll() is None

    def stop(self):
        """Stops it and deletes its folder."""
        if self._process:
            self.place.stop(self._process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def pids(self):
        """Its processes."""
        return processes.family(self._process.pid)

    def warm(self, paths):
        """Asks for each path once, to the end."""
        for path in paths:
            fetch(f"http://{self.address}{path}")

    def file_of(self, path, size):
        """The file in which it has the content of a path, which is of this size and the largest that it has."""
        del path
        found = [name for name in glob.glob(f"{self.folder}/**", recursive=True) if os.path.isfile(name)]
        largest = max(found, key=os.path.getsize)
        check(os.path.getsize(largest) >= size, f"{self.name} has no file of {size} bytes")
        return largest

    def _write(self, name, text):
        return self.place.write(os.path.join(self.folder, name), text)


class NginxStatic(Peer):
    """nginx with files of its own, by sendfile."""

    name = "nginx static"
    _http, _server, _nopush = "", "root {folder}/www; default_type application/octet-stream;", "on"

    def command(self):
        values = {"folder": self.folder, "port": self.port, "tls_port": self.tls_port, "upstream": self.upstream.address,
                  "certificate": self.tls[0], "key": self.tls[1], "nopush": self._nopush}
        text = NGINX if self.tls[0] else "\n".join(line for line in NGINX.splitlines() if "ssl" not in line)
        pieces = {"log": LOG, "http": self._http, "server": self._server}
        pieces = {key: piece.format(**values) for key, piece in pieces.items()}
        return ["nginx", "-p", self.folder, "-c", self._write("nginx.conf", text.format(**values, **pieces))]

    def warm(self, paths):
        for path in paths:
            name = f"{self.folder}/www{path}"
            os.makedirs(os.path.dirname(name), exist_ok=True)
            fetch(f"http://{self.upstream.address}{path}", name)
        super().warm(paths)


class NginxCache(NginxStatic):
    """nginx's proxy_cache."""

    name = "nginx proxy_cache"
    _http, _server = CACHED, PROXY

    def warm(self, paths):
        Peer.warm(self, paths)


class NginxCachePushing(NginxCache):
    """The same for answers of a few segments: with tcp_nopush their last one waits 40 ms for an acknowledgement."""

    _nopush = "off"


class Varnish(Peer):
    """varnish with its default storage, memory."""

    name = "varnish"

    def command(self):
        host, port = self.upstream.address.split(":")
        vcl = self._write("bench.vcl", VCL.format(host=host, port=port))
        return ["varnishd", "-j", "none", "-F", "-n", self.folder + "/run", "-a", self.address, "-f", vcl, "-s", "malloc,4g"]


class Registry(Peer):
    """docker-registry as a pull-through cache, without an access log."""

    name = "docker-registry"

    def command(self):
        values = {"folder": self.folder, "port": self.port, "upstream": self.upstream.address}
        return ["docker-registry", "serve", self._write("registry.yml", REGISTRY.format(**values))]


def fetch(url, into=os.devnull):
    """Downloads to a file."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, headers={"Accept": ACCEPT}), timeout=120) as answer, open(into, "wb") as file:
            shutil.copyfileobj(answer, file, 1 << 20)
    except urllib.error.URLError as error:
        raise Failed(f"{url}: {error}") from error
