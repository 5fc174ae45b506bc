"""containerd, driven by `ctr` and by CRI as a kubelet does."""

import os
import sys

from containers import INSIDE, Podman
from ground import Skip, check, need, need_root, wait_until

# Version 2 of the format is read by containerd 1.x and 2.x alike.
CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{folder}/hosts"
[plugins."io.containerd.grpc.v1.cri".cni]
  conf_dir = "{folder}/cni"
"""
# `server` is put where nobody can be, so that a pull that succeeds came through the mirror.
HOSTS = """\
server = "http://origin.invalid"
[host."http://{mirror}"]
  capabilities = ["pull", "resolve"]
"""


class Ctr:
    """A containerd of its own and `ctr images pull` with a hosts.toml."""

    name = "containerd-ctr"
    namespace = "default"
    runs = Podman.runs
    images = Podman.images
    fetches = ("registry.test/e2e/artifact:v1", "registry.test/charts/demo:0.1.0")

    def __init__(self, place, mirror, hosts=None):
        """`hosts` is a hosts.toml to take instead of one made from `mirror`."""
        need_root()
        need("containerd", "ctr", "runc")
        self.place = place
        self._socket = place.path("containerd.sock")
        place.write("hosts/_default/hosts.toml", hosts or HOSTS.format(mirror=mirror))
        config = place.write("containerd.toml", CONFIG.format(folder=place.folder))
        daemon = place.start("containerd", ["containerd", "--config", config])
        wait_until("containerd answers", lambda: self._answers() or daemon.poll() is not None)
        check(daemon.poll() is None, "containerd did not start")

    def _answers(self):
        return os.path.exists(self._socket) and os.system(f"ctr -a {self._socket} version >/dev/null 2>&1") == 0

    def run(self, *argv):
        """Runs ctr."""
        return self.place.run(["ctr", "-a", self._socket, "-n", self.namespace, *argv])

    def pull(self, ref):
        """Pulls; an index also for another platform. What is no image is fetched without being unpacked."""
        hosts = ("--hosts-dir", self.place.path("hosts"))
        if "/artifact" in ref or "/charts/" in ref:
            self.run("content", "fetch", *hosts, ref)
            return
        self.run("images", "pull", *hosts, ref)
        if "/index" in ref:
            self.run("images", "pull", *hosts, "--platform", "linux/arm64", ref)

    def start_container(self, ref):
        self.run("run", "--rm", ref, "e2e", *INSIDE)

    def forget(self):
        """Drops every image and waits for the garbage collector."""
        refs = self.run("images", "ls", "-q").split()
        self.run("images", "rm", "--sync", *refs)
        check(not self.run("content", "ls", "-q").split(), "containerd still holds content")


Ctr.images = (*Ctr.images, *Ctr.fetches)


class Cri(Ctr):
    """The same, by PullImage of the CRI: the way of every Kubernetes node."""

    name = "containerd-cri"
    namespace = "k8s.io"
    runs = ()
    images = Podman.images

    def __init__(self, *args, **more):
        if os.system(f"{sys.executable} -c 'import grpc' 2>/dev/null") != 0:
            raise Skip("no Python module grpc (pip could not install grpcio)")
        super().__init__(*args, **more)

    def pull(self, ref, *login):
        """`login` is a name and a password, as an image pull secret has them."""
        script = os.path.join(os.path.dirname(__file__), "cri_pull.py")
        self.place.run([sys.executable, script, f"unix://{self._socket}", ref, *login])
