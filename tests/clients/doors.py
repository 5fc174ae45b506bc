"""Clients on hosts of their own that pull through one door or another, with what each of them keeps certificates and logins in."""

import base64
import dataclasses
import json
import shutil

from containerd import Cri, Ctr
from containers import Podman
from ground import Failed


@dataclasses.dataclass(frozen=True)
class Door:
    """Where a client connects: the balancer or roadstead itself, by name and port. `endpoint` is by what it is then known."""

    server: str
    endpoint: str
    tls: bool = False

    def is_v6(self):
        """Whether it is reached by IPv6, as names that end in 6 are."""
        return self.server.partition(":")[0].endswith("6")


@dataclasses.dataclass(frozen=True)
class Keys:
    """What a client has with it: the authority that it trusts, its own certificate and key, its name and password."""

    ca: str
    certificate: tuple = ()
    user: tuple = ()


class ByCtr:
    """containerd by ctr, which is told of the login with the pull."""

    kind = Ctr

    def __init__(self, host):
        self.host = host
        self.client = self.kind(host, None, hosts="# nothing yet\n")
        self.forget = self.client.forget

    def pull(self, image, door, keys):
        """Pulls an image through a door."""
        self.host.write("hosts/_default/hosts.toml", hosts_toml(door, keys))
        self._pull(image, keys.user)

    def _pull(self, image, user):
        more = ("--user", ":".join(user)) if user else ()
        self.client.run("images", "pull", "--hosts-dir", self.host.path("hosts"), *more, image)


class ByCri(ByCtr):
    """containerd by CRI, which is told of the login as a kubelet tells it of an image pull secret."""

    kind = Cri

    def _pull(self, image, user):
        self.client.pull(image, *user)


class ByPodman:
    """podman, with certificates in certs.d and the login where `podman login` puts it."""

    def __init__(self, host):
        self.host = host
        self.client = Podman(host, None, registries="")
        self.forget = self.client.forget

    def pull(self, image, door, keys):
        """Pulls an image through a door."""
        name = image.partition("/")[0]
        self.host.write("registries.conf", f'[[registry]]\nprefix = "{name}"\nlocation = "{door.server}/{name}"\n'
                                           f"insecure = {str(not door.tls).lower()}\n")
        secret = base64.b64encode(":".join(keys.user).encode()).decode()
        self.host.write("auth.json", json.dumps({"auths": {door.server: {"auth": secret}} if keys.user else {}}))
        shutil.rmtree(self.host.etc("certs.d"), ignore_errors=True)
        for file, source in (("ca.crt", keys.ca), *zip(("client.cert", "client.key"), keys.certificate)):
            shutil.copy(source, self.host.etc(f"certs.d/{door.server}/{file}"))
        self.client.pull(image)


def hosts_toml(door, keys):
    """containerd's configuration. The registry itself is put where nobody can be, so that a pull that succeeds came through
    the door."""
    scheme = "https" if door.tls else "http"
    text = f'server = "http://origin.invalid"\n[host."{scheme}://{door.server}"]\ncapabilities = ["pull", "resolve"]\n'
    if door.tls:
        text += f"ca = {json.dumps(keys.ca)}\n"
    if keys.certificate:
        text += f"client = [{json.dumps(keys.certificate)}]\n"
    return text


def curl(host, *argv):
    """The status of the answer; 0 where there is none."""
    try:
        return int(host.run(["curl", "-sS", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}", *argv]))
    except Failed:
        return 0
