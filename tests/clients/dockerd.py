"""dockerd with registry-mirrors."""

import json
import os

from containers import INSIDE, Podman
from ground import check, need, need_root, wait_until


class Docker:
    """A dockerd of its own, without bridge and firewall rules. It asks mirrors for docker.io names only, and names no registry."""

    name = "docker"
    images = tuple(ref.replace("registry.test/", "docker.io/") for ref in Podman.images)
    runs = images[:2]

    def __init__(self, place, mirror, settings=None):
        """`settings` is part of a daemon.json to take instead of one made from `mirror`."""
        need_root()
        need("dockerd", "docker", "containerd", "runc")
        self.place = place
        self._socket = place.path("docker.sock")
        self.env = {"DOCKER_HOST": f"unix://{self._socket}", "DOCKER_CONFIG": place.path("client")}
        config = place.write("daemon.json", json.dumps((settings or {"registry-mirrors": [f"http://{mirror}"]}) | {
            "data-root": place.path("root"), "exec-root": place.path("exec"),
            "pidfile": place.path("docker.pid"), "hosts": [f"unix://{self._socket}"],
            "iptables": False, "ip6tables": False, "bridge": "none",
        }))
        daemon = place.start("dockerd", ["dockerd", "--config-file", config])
        wait_until("dockerd answers", lambda: self._answers() or daemon.poll() is not None)
        check(daemon.poll() is None, "dockerd did not start")

    def _answers(self):
        return os.path.exists(self._socket) and os.system(f"docker -H unix://{self._socket} version >/dev/null 2>&1") == 0

    def run(self, *argv):
        """Runs docker."""
        return self.place.run(["docker", *argv], self.env)

    def pull(self, ref):
        self.run("pull", "-q", ref)

    def start_container(self, ref):
        self.run("run", "--rm", "--network", "none", ref, *INSIDE)

    def forget(self):
        """Drops every image and its layers."""
        self.run("rmi", "-f", *set(self.run("images", "-q").split()))
        check(not self.run("images", "-q").split(), "docker still holds images")
