"""roadstead itself, among the others."""

import os
import signal

from ground import free_port, listening, wait_until
from peers import Peer
from upstream import REGISTRY

CONFIG = """\
[cache]
directory = "{directory}"
max_size = {max_size}
memory = "{memory}"

[[listener]]
address = "127.0.0.1:{port}"
{tls}
[admin]
address = "127.0.0.1:{admin_port}"

[[registry]]
name = "{registry}"
urls = ["http://{upstream}"]
default = true
"""
TLS = """
[[listener]]
name = "tls"
address = "127.0.0.1:{tls_port}"
tls = {{ certificate = "{certificate}", key = "{key}" }}
"""


class Roadstead(Peer):
    """The program that the environment variable ROADSTEAD names, with its access log in a file."""

    name = "roadstead"

    def __init__(self, place, upstream, tls=None, memory="256 MiB", max_size=30 << 30):
        super().__init__(place, upstream, tls)
        self.admin_port, self.memory, self.max_size = free_port(), memory, max_size
        self.directory = f"{self.folder}/cache"

    def command(self):
        values = {"directory": self.directory, "port": self.port, "tls_port": self.tls_port, "admin_port": self.admin_port,
                  "memory": self.memory, "max_size": self.max_size, "registry": REGISTRY, "upstream": self.upstream.address,
                  "certificate": self.tls[0], "key": self.tls[1]}
        tls = TLS.format(**values) if self.tls[0] else ""
        return [os.environ["ROADSTEAD"], "serve", "--config", self._write("roadstead.toml", CONFIG.format(**values | {"tls": tls}))]

    def start(self):
        super().start()
        wait_until("roadstead's admin listens", lambda: listening(self.admin_port))

    def kill(self):
        """Ends it as a crash does; its cache stays."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def end(self):
        """Stops it by SIGTERM; its cache stays."""
        self.place.stop(self._process)

    def file_of(self, path, size):
        digest = path.rsplit(":", 1)[1]
        return f"{self.directory}/blobs/sha256/{digest[:2]}/{digest}"
