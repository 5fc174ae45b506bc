"""The upstream, or roadstead itself, ends in the midst of a pull and comes back: a pull succeeds wherever its client retries, and
what is pulled is right.

What a client does when its mirror breaks off is its own affair. dockerd asks for the rest of a layer after 5 s. containerd asks
for it at once, and gives up if nobody answers. podman gives up where a layer breaks off; where it is not answered at all it
begins anew after 1 s, which may be too soon. Who gives up is told to pull again, as a kubelet does by itself.
"""

import collections
import functools
import threading
import time

import line
import proxy
import pulls
from containerd import Cri, Ctr
from containers import Podman
from dockerd import Docker
from ground import Failed, check, listening, wait_until

# What may be lost with a connection that is cut, and the heads of a few answers.
LOST = 64 << 10
# So often roadstead writes down what is there of a download. What came since is fetched again after a kill.
NOTED_EVERY = 1 << 20


class Pull(threading.Thread):
    """A pull under way. `fault` says why it failed."""

    def __init__(self, client, ref):
        super().__init__(daemon=True)
        self._client, self._ref, self.fault = client, ref, None
        self.start()

    def run(self):
        try:
            self._client.pull(self._ref)
        except Failed as fault:
            self.fault = fault


class Scene:
    """A client, roadstead, and a registry at the end of a slow line: two layers of the image take long, one does not."""

    def __init__(self, place, client_class, data, made):
        self.upstream = line.Distant(place, data, made)
        self.upstream.line.slow = True
        self.upstream.start()
        self.roadstead = proxy.Roadstead(place, pulls.registries(self.upstream))
        self.roadstead.start()
        self.front = line.Line(self.roadstead.port)
        self._place, self._client_class = place, client_class
        self._client = None
        self._repository = f"{'docker.io' if client_class is Docker else 'registry.test'}/e2e/three"
        self.sizes = {digest: made.size(digest) for digest in made.layers("e2e/three:oci")}
        self.big = {digest for digest, size in self.sizes.items() if size > line.QUICK}
        self.small, = set(self.sizes) - self.big

    def pull(self, mirror=None):
        """Begins the first pull, from roadstead's own address or another one."""
        self._client = self._client_class(self._place, mirror or self.roadstead.address)
        return Pull(self._client, f"{self._repository}:oci")

    def succeed(self, pull, most):
        """The image is whole after this pull, or after so many at most, and can be run."""
        pull.join()
        for _ in range(1, most):
            if pull.fault:
                pull = Pull(self._client, f"{self._repository}:oci")
                pull.join()
        check(not pull.fault, f"the pull failed: {pull.fault}")
        self._client.start_container(f"{self._repository}:oci")

    def small_is_stored(self):
        """Waits until the small layer is answered and stored."""
        wait_until("the small layer is answered", lambda: self.answers()[self.small])
        wait_until("the small layer is stored", lambda: proxy.ask(self._url(self.small), "HEAD")[1]["X-Cache"] == "hit")

    def _quick_part_is_written(self):
        """Waits until roadstead has what the line let through at full speed, which may be on its way to it for a while. It
        answers with what it has written, and writes that down."""
        wanted = line.QUICK - LOST
        for digest in self.big:
            status, _, body = proxy.ask(self._url(digest), headers={"Range": f"bytes=0-{wanted - 1}"})
            check((status, len(body)) == (206, wanted), f"the first part of {digest}: {status}, {len(body)} bytes")

    def in_mid_layer(self):
        """Waits until both big layers are under way. At this speed neither is over soon."""
        sent = self.upstream.line.sent
        wait_until("the big layers are under way", lambda: all(sent(digest) > line.QUICK for digest in self.big))
        self._quick_part_is_written()
        self.small_is_stored()

    def upstream_returns(self):
        """The registry is started again, and from now on the line is quick."""
        self.upstream.line.slow = False
        self.upstream.start()

    def _url(self, digest):
        return f"http://{self.roadstead.address}/v2/{self._repository}/blobs/{digest}"

    def answers(self):
        """What the access log of roadstead's present run has of the client's GETs of each layer: status and length."""
        found = collections.defaultdict(list)
        for entry in self.roadstead.log():
            digest = entry["path"].rpartition("/")[2].partition("?")[0]
            if entry["method"] == "GET" and digest in self.sizes and entry["user_agent"] != proxy.USER_AGENT:
                found[digest].append((entry["status"], entry["sent"]))
        return found

    def check_unnoticed(self):
        """The client has asked once for each layer and got it whole."""
        answers, expected = self.answers(), {digest: [(200, size)] for digest, size in self.sizes.items()}
        check(answers == expected, f"the client was answered {dict(answers)}, not {expected}")

    def check_upstream(self, again=0):
        """Every layer left the upstream once, but for so many bytes of the big ones."""
        for digest, size in self.sizes.items():
            sent, most = self.upstream.line.sent(digest), size * 1.02 + LOST + (again if digest in self.big else 0)
            check(size <= sent <= most, f"{sent} bytes left the upstream for {digest} of {size}")


def upstream_back(scene, _most):
    """The upstream is killed in mid-layer and comes back after 2 s: roadstead goes on, and the client does not notice."""
    pull = scene.pull()
    scene.in_mid_layer()
    scene.upstream.kill()
    time.sleep(2)
    scene.upstream_returns()
    scene.succeed(pull, 1)
    scene.check_unnoticed()
    scene.check_upstream()


def upstream_gone(scene, most):
    """The upstream is killed in mid-layer and comes back when roadstead has given up and told the client so. What had come by
    then is used when the client pulls again."""
    pull = scene.pull()
    scene.in_mid_layer()
    scene.upstream.kill()
    wait_until("roadstead has given up", lambda: all(scene.answers()[digest] for digest in scene.big))
    scene.upstream_returns()
    scene.succeed(pull, most)
    scene.check_upstream()


def killed(scene, most):
    """roadstead is killed in mid-layer and comes back after 1 s. What it had noted by then is used."""
    pull = scene.pull()
    scene.in_mid_layer()
    scene.roadstead.kill()
    time.sleep(1)
    scene.upstream.line.slow = False
    scene.roadstead.start()
    scene.succeed(pull, most)
    scene.check_upstream(again=NOTED_EVERY)


def killed_between(scene, most):
    """roadstead is killed when it has answered for one layer, and before it is asked for the next: that question gets lost on
    a line between it and the client. It comes back after 1 s."""
    scene.upstream.line.slow = False
    scene.front.lost = scene.big
    scene.front.up()
    pull = scene.pull(f"127.0.0.1:{scene.front.port}")
    wait_until("the client asks for the next layers", lambda: scene.front.asked >= scene.big)
    scene.small_is_stored()
    wait_until("the client has the first layer", lambda: scene.front.sent(scene.small) > scene.sizes[scene.small])
    check(not set(scene.answers()) & scene.big, "roadstead has been asked for the next layer")
    scene.roadstead.kill()
    scene.front.down()
    time.sleep(1)
    scene.front.lost = set()
    scene.roadstead.start()
    scene.front.up()
    scene.succeed(pull, most)
    scene.check_upstream()


def drained(scene, _most):
    """roadstead gets SIGTERM in mid-layer: it ends well what it has begun, and the client does not notice."""
    pull = scene.pull()
    scene.in_mid_layer()
    scene.roadstead.drain()
    wait_until("roadstead drains", lambda: not listening(scene.roadstead.port))
    scene.upstream.line.slow = False
    scene.roadstead.drained()
    scene.check_unnoticed()
    scene.roadstead.start()
    scene.succeed(pull, 1)
    scene.check_upstream()


def act(story, client_class, place, data, made):
    """One story with one client. Of these only dockerd is sure to retry for so long that one pull does."""
    story(Scene(place, client_class, data, made), 1 if client_class is Docker else 2)


STORIES = (upstream_back, upstream_gone, killed, killed_between, drained)
CLIENTS = (Ctr, Cri, Podman, Docker)
TESTS = [(f"restarts / {story.__name__.replace('_', ' ')} / {client.name}", functools.partial(act, story, client))
         for story in STORIES for client in CLIENTS]
