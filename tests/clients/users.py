"""Clients log in to a listener that asks for users, each in its own way, and pull.

What they do with it: podman and skopeo learn from `/v2/` that they need a token and fetch it with the login for the
mirror's own host. containerd fetches one when it is refused, and so shows no login where everybody may pull; it posts the
secret of the pull first, and asks by GET when that is not offered. dockerd shows a mirror the login for Docker Hub, and no other; a login for the mirror's own
name counts where the mirror itself is named in the image. A header in hosts.toml is shown as it is, without any token.
"""

import base64
import functools
import json

import proxy
import upstreams
from containerd import Cri, Ctr
from containers import Podman, Skopeo
from dockerd import Docker
from ground import Failed, check
from pulls import registries

USER, PASSWORD = "ci", "correct horse"
IMAGE = "docker.io/library/busybox:latest"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
HEADER_HOSTS = """\
server = "http://origin.invalid"
[host."http://{mirror}"]
  capabilities = ["pull", "resolve"]
  [host."http://{mirror}".header]
    authorization = "Basic {secret}"
"""


class Containers:
    """podman and skopeo: `login`, then as always."""

    unasked = True

    def __init__(self, make, place, mirror):
        self.client, self.mirror = make(place, mirror), mirror

    def pull(self, password=None):
        if password:
            self.client.run("login", "--tls-verify=false", "--username", USER, "--password", password, self.mirror)
        self.client.pull(IMAGE)
        self.client.forget()


class ByCtr:
    """ctr: the login is said with the pull."""

    unasked = False

    def __init__(self, place, mirror):
        self.client = Ctr(place, mirror)

    def pull(self, password=None):
        login = ("--user", f"{USER}:{password}") if password else ()
        self.client.run("images", "pull", "--hosts-dir", self.client.place.path("hosts"), *login, IMAGE)
        self.client.forget()


class ByHeader:
    """containerd with the login in hosts.toml. It is read for each pull."""

    unasked = True

    def __init__(self, place, mirror):
        self.client, self.mirror = Ctr(place, mirror), mirror

    def pull(self, password=None):
        if password:
            secret = base64.b64encode(f"{USER}:{password}".encode()).decode()
            self.client.place.write("hosts/_default/hosts.toml", HEADER_HOSTS.format(mirror=self.mirror, secret=secret))
        self.client.pull(IMAGE)
        self.client.forget()


class ByCri:
    """containerd by CRI: the image pull secret."""

    unasked = False

    def __init__(self, place, mirror):
        self.client = Cri(place, mirror)

    def pull(self, password=None):
        self.client.pull(IMAGE, *((USER, password) if password else ()))
        self.client.forget()


class DockerMirror:
    """dockerd with a mirror: the login for Docker Hub, as `docker login` without a host would have left it."""

    unasked = True

    def __init__(self, place, mirror):
        self.client = Docker(place, mirror)

    def pull(self, password=None):
        if password:
            auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
            logins = {"auths": {"https://index.docker.io/v1/": {"auth": auth}}}
            self.client.place.write("client/config.json", json.dumps(logins))
        self.client.pull(IMAGE)
        self.client.forget()


class DockerDirect:
    """docker with the mirror's own name in the image, and a login for it."""

    unasked = True

    def __init__(self, place, mirror):
        self.client, self.mirror = Docker(place, mirror, settings={}), mirror

    def pull(self, password=None):
        if password:
            self.client.run("login", "--username", USER, "--password", password, self.mirror)
        self.client.pull(f"{self.mirror}/{IMAGE}")
        self.client.forget()


CLIENTS = {
    "podman": functools.partial(Containers, Podman),
    "skopeo": functools.partial(Containers, Skopeo),
    "containerd-ctr": ByCtr,
    "containerd-header": ByHeader,
    "containerd-cri": ByCri,
    "docker-mirror": DockerMirror,
    "docker-direct": DockerDirect,
}


def users(make, place, data, made):
    """Nobody is served without a login where one is required; with `optional` everybody is, and whoever logs in is known."""
    upstream = upstreams.Plain(place, data, made)
    upstream.start()
    place.run(["htpasswd", "-Bbc", place.path("users"), USER, PASSWORD])
    roadstead = proxy.Roadstead(place, registries(upstream), listener='users = { file = "users", mode = "require" }\n')
    roadstead.start()
    client = make(place, roadstead.address)
    refused(client)
    refused(client, "wrong")
    check(all(line["status"] in (401, 405) for line in roadstead.log()), "somebody was served without a login")
    pulled(client, roadstead, PASSWORD)
    # Tokens end with the process; clients fetch new ones.
    roadstead.stop()
    roadstead.start()
    pulled(client, roadstead, PASSWORD)
    upstream.stop()
    roadstead.stop()
    check(all(line["cache"] != "miss" for line in roadstead.log()), "the second pull was no hit")
    told_no_secret(place)


def optional(make, place, data, made):
    """With `optional` nobody needs a login, and it is known who has one."""
    upstream = upstreams.Plain(place, data, made)
    upstream.start()
    place.run(["htpasswd", "-Bbc", place.path("users"), USER, PASSWORD])
    roadstead = proxy.Roadstead(place, registries(upstream), listener='users = { file = "users", mode = "optional" }\n')
    roadstead.start()
    client = make(place, roadstead.address)
    client.pull()
    check(any(line["status"] == 200 for line in roadstead.log()), "the pull did not come through roadstead")
    check(not logins(roadstead, "ok"), "a login came from nowhere")
    if not client.unasked:
        # Who is refused is asked to log in; that this user may not pull either shows that the login arrived.
        roadstead.stop()
        with open(roadstead.config, encoding="utf-8") as config:
            text = config.read()
        with open(roadstead.config, "w", encoding="utf-8") as config:
            config.write(text.replace('effect = "allow"', 'effect = "deny"'))
        roadstead.start()
    refused(client, "wrong")
    check(not logins(roadstead, "ok"), "a wrong login was taken")
    if client.unasked:
        client.pull(PASSWORD)
    else:
        refused(client, PASSWORD)
    check(logins(roadstead, "ok"), "nobody logged in")
    upstream.stop()
    roadstead.stop()
    told_no_secret(place)


def refused(client, password=None):
    """Tries to pull, which must fail."""
    try:
        client.pull(password)
    except Failed:
        return
    raise Failed(f"pulled with {'a wrong password' if password else 'no login'}")


def pulled(client, roadstead, password):
    """Pulls through roadstead with a login."""
    before = logins(roadstead, "ok")
    client.pull(password)
    check(logins(roadstead, "ok") > before, "nobody logged in")
    check(any(line["status"] == 200 and "/blobs/" in line["path"] for line in roadstead.log()), "no blob came through roadstead")


def logins(roadstead, result):
    """How many logins came to this."""
    label = f'roadstead_logins_total{{listener="nodes",result="{result}"}} '
    return sum(int(line.removeprefix(label)) for line in roadstead.metrics() if line.startswith(label))


def told_no_secret(place):
    """What roadstead wrote has no password in it."""
    for run in ("1", "2"):
        for end in (".log", ".out.log"):
            try:
                with open(place.path(f"roadstead-{run}{end}"), encoding="utf-8") as log:
                    text = log.read()
            except FileNotFoundError:
                continue
            check(PASSWORD not in text and BASIC not in text, f"a password stands in roadstead-{run}{end}")


TESTS = [(f"users / {mode} / {name}", functools.partial(story, make))
         for name, make in CLIENTS.items() for mode, story in (("require", users), ("optional", optional))]
