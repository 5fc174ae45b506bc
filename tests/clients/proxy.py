"""The program under test: writes its configuration, starts it, reads its access log."""

import json
import os
import urllib.error
import urllib.request

from ground import check, free_port, wait_until

USER_AGENT = "client-tests"
# What is fetched with credentials is for anonymous clients only where a statement says so.
ANYBODY = '[[policy.statement]]\nid = "anybody"\neffect = "allow"\n'


def ask(url, method="GET", headers=()):
    """One request of our own: (status, headers, body). Redirects and proxies of the environment play no part."""
    request = urllib.request.Request(url, method=method, headers={"User-Agent": USER_AGENT, **dict(headers)})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()
    except (urllib.error.URLError, OSError):
        return 0, {}, b""


class Roadstead:
    """One roadstead with a cache of its own. It can be stopped and started again on the same cache."""

    def __init__(self, place, registries, name="roadstead", max_size="2 GiB", listener="", port=None, policy=ANYBODY):
        """`registries` is the `[[registry]]` part of the configuration; its relative paths start at the place.
        `listener` is further keys of the `[[listener]]`, `policy` is who may pull."""
        self.place, self.name = place, name
        self.port, self.admin_port = port or free_port(), free_port()
        self._runs = 0
        self._process = None
        self.address = f"{place.address}:{self.port}"
        self._admin = f"{place.address}:{self.admin_port}"
        self.config = place.write(f"{name}.toml", (
            f'[cache]\ndirectory = "{place.path("cache")}"\nmax_size = "{max_size}"\n\n'
            f'[[listener]]\nname = "nodes"\naddress = "{self.address}"\n{listener}\n'
            f'[admin]\naddress = "{self._admin}"\n\n{registries}\n{policy}'))

    @staticmethod
    def binary():
        """The program, by the environment variable ROADSTEAD."""
        return os.environ["ROADSTEAD"]

    def start(self, before=(), env=None):
        """Starts it and waits until it is ready. `before` is put before the command."""
        self._runs += 1
        self._process = self.place.start_split(f"{self.name}-{self._runs}", [*before, self.binary(), "serve", "--config", self.config], env)
        wait_until("roadstead is ready", lambda: self._ready() or self._process.poll() is not None)
        check(self._process.poll() is None, f"roadstead did not start (exit code {self._process.returncode})")

    def _ready(self):
        return ask(f"http://{self._admin}/readyz")[0] == 200

    def drain(self):
        """Sends SIGTERM. A second one would end it at once, so `drained` is to follow, not `stop`."""
        self._process.terminate()

    def drained(self):
        """Waits until it has ended by itself after `drain`."""
        code = self._process.wait(30)
        check(code == 0, f"roadstead ended with {code} after SIGTERM")

    def kill(self):
        """Ends it by SIGKILL, as a crash does."""
        self._process.kill()
        self._process.wait()

    def stop(self):
        """Stops it by SIGTERM, which it must follow by a clean end."""
        code = self.place.stop(self._process)
        check(code == 0, f"roadstead ended with {code} after SIGTERM")

    def health(self):
        """What `/readyz` says: its status, and its lines, one per part."""
        status, _, body = ask(f"http://{self._admin}/readyz")
        return status, body.decode().splitlines()

    def metrics(self):
        """The lines of `/metrics`."""
        return ask(f"http://{self._admin}/metrics")[2].decode().splitlines()

    def errors(self):
        """The diagnostics of the present run."""
        with open(self.place.path(f"{self.name}-{self._runs}.log"), encoding="utf-8") as log:
            return log.read()

    def log(self):
        """The access log of the present run: what clients asked below /v2/, without our own questions."""
        with open(self.place.path(f"{self.name}-{self._runs}.out.log"), encoding="utf-8") as log:
            lines = [json.loads(line) for line in log if line.endswith("\n")]
        return [line for line in lines if line["path"].startswith("/v2/") and line["user_agent"] != USER_AGENT]
