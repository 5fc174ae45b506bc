"""What a new user does first: start it, point podman at it, pull, and pull again."""

import os
import re
import stat

import proxy
import upstreams
from containers import Podman
from ground import Skip, check, isolated, need_root, wait_until
from pulls import by_digest


def built_in(place, data, made):
    """Without a configuration it listens on loopback, keeps its cache in the user's cache folder, and ends when told."""
    del data, made
    if not isolated():
        raise Skip("the built-in ports may be taken on a machine that is not our own")
    env = {"HOME": place.path("home"), "XDG_CACHE_HOME": ""}
    process = place.start_split("roadstead", [proxy.Roadstead.binary(), "serve"], env)
    wait_until("it is ready", lambda: proxy.ask("http://127.0.0.1:5001/readyz")[0] == 200 or process.poll() is not None)
    status, headers, _ = proxy.ask("http://127.0.0.1:5000/v2/")
    check(status == 200, f"/v2/ was answered with {status}")
    check(headers["Docker-Distribution-Api-Version"] == "registry/2.0", "/v2/ does not name the version that old clients look for")
    cache = place.path("home", ".cache", "roadstead")
    check(stat.S_IMODE(os.stat(cache).st_mode) == 0o700, "the cache folder is open to others")
    check(place.stop(process) == 0, "it did not end well after SIGTERM")


def podman(place, data, made):
    """The README's story with a registry of one's own."""
    need_root()
    upstream = upstreams.Plain(place, data, made)
    upstream.start()
    roadstead = proxy.Roadstead(place, f'[[registry]]\nname = "registry.test"\nurls = ["{upstream.url()}"]\n'
                                       '[[registry.freshness]]\ntags = "*"\nfor = "1h"\n')
    place.run([proxy.Roadstead.binary(), "check", "--config", roadstead.config])
    roadstead.start()
    ref = "registry.test/library/busybox:latest"
    client = Podman(place, roadstead.address, names=("registry.test",))
    client.pull(ref)
    check(client.start_container(ref).strip() == "Linux", "the image does not run")
    client.forget()
    upstream.stop()
    client.pull(ref)
    check(client.start_container(ref).strip() == "Linux", "the image does not run after the second pull")
    answers(roadstead, by_digest(ref, made), made)
    roadstead.stop()


def answers(roadstead, ref, made):
    """What a curious user sees with curl: a hit, and the bytes that it saved."""
    repository, digest = ref.split("@")
    status, headers, body = proxy.ask(f"http://{roadstead.address}/v2/{repository}/manifests/{digest}")
    check(status == 200 and len(body) == made.size(digest), f"the manifest was answered with {status}, {len(body)} bytes")
    expected = {"Docker-Content-Digest": digest, "X-Cache": "hit", "Content-Length": str(len(body)), "Accept-Ranges": "bytes"}
    wrong = {name: headers[name] for name, value in expected.items() if headers[name] != value}
    check(not wrong, f"headers that are not as expected: {wrong}")
    _, _, metrics = proxy.ask(f"http://127.0.0.1:{roadstead.admin_port}/metrics")
    saved = re.search(r'^roadstead_saved_bytes_total\{registry="registry.test"\} ([1-9]\d*)', metrics.decode(), re.MULTILINE)
    check(saved, "/metrics does not show the bytes that the second pull saved")


TESTS = [("first run / built-in configuration", built_in), ("first run / podman", podman)]
