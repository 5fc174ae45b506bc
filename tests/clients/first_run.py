"""What a new user does first, with the words of README.md: start it, point the clients at it, pull, and pull again."""

import json
import os
import re
import stat
import threading

import proxy
import upstreams
from containerd import Ctr
from containers import Podman
from dockerd import Docker
from ground import Place, Skip, check, isolated, need_root, wait_until
from pulls import FRESHNESS

README = os.path.join(os.path.dirname(__file__), "..", "..", "README.md")
BUSYBOX = "docker.io/library/busybox:latest"
# Only one test at a time can have the ports that a new user gets.
own_ports = threading.Lock()


def readme_block(before):
    """The block that follows the line with this text in README.md."""
    with open(README, encoding="utf-8") as file:
        text = file.read()
    found = re.search(re.escape(before) + r"(?:[^\n]*\n)+?\n((?: {4}[^\n]*\n)+)", text)
    check(found, f"README.md has no block after {before!r}")
    return re.sub(r"^ {4}", "", found[1], flags=re.MULTILINE)


def start(place, *arguments):
    """Starts roadstead on its own ports, with its home in the place."""
    env = {"HOME": place.path("home"), "XDG_CACHE_HOME": ""}
    process = place.start_split("roadstead", [proxy.Roadstead.binary(), "serve", *arguments], env)
    wait_until("it is ready", lambda: proxy.ask("http://127.0.0.1:5001/readyz")[0] == 200 or process.poll() is not None)
    check(process.poll() is None, "roadstead did not start")
    return process


def built_in(place, data, made):
    """Without a configuration it listens on loopback, keeps its cache in the user's cache folder, and ends when told."""
    del data, made
    if not isolated():
        raise Skip("the ports 5000 and 5001 may be taken on a machine that is not our own")
    with own_ports:
        process = start(place)
        status, headers, _ = proxy.ask("http://127.0.0.1:5000/v2/")
        check(status == 200, f"/v2/ was answered with {status}")
        check(headers["Docker-Distribution-Api-Version"] == "registry/2.0", "/v2/ lacks the version that old clients look for")
        cache = place.path("home", ".cache", "roadstead")
        check(stat.S_IMODE(os.stat(cache).st_mode) == 0o700, "the cache folder is open to others")
        check(place.stop(process) == 0, "it did not end well after SIGTERM")


def readme(place, data, made):
    """The clients are configured by README.md's own blocks. Docker Hub is a registry of ours, and later nobody."""
    need_root()
    upstream = upstreams.Plain(place, data, made)
    upstream.start()
    config = place.write("mirror.toml", f'[[registry]]\nname = "docker.io"\nurls = ["{upstream.url()}"]\ndefault = true\n{FRESHNESS}')
    place.run([proxy.Roadstead.binary(), "check", "--config", config], {"HOME": place.path("home")})
    with own_ports:
        process = start(place, "--config", config)
        for number in (1, 2):
            pull_and_run(place, f"podman-{number}",
                         lambda at: Podman(at, None, registries=readme_block("registries.conf.d/roadstead.conf")))
            upstream.stop()
        pull_and_run(place, "containerd", lambda at: Ctr(at, None, hosts=readme_block("_default/hosts.toml")))
        pull_and_run(place, "docker", lambda at: Docker(at, None, settings=json.loads(readme_block("/etc/docker/daemon.json"))))
        curious(made)
        check(place.stop(process) == 0, "it did not end well after SIGTERM")


def pull_and_run(place, name, make):
    """One client's first pull, in a storage of its own."""
    with Place(place.path(name)) as at:
        client = make(at)
        client.pull(BUSYBOX)
        client.start_container(BUSYBOX)


def curious(made):
    """What a curious user sees with curl: a hit, and the bytes that it saved."""
    status, headers, _ = proxy.ask("http://127.0.0.1:5000/v2/library/busybox/manifests/latest", "HEAD")
    digest = made.digest("library/busybox:latest")
    check(status == 200, f"the manifest was answered with {status}")
    expected = {"Docker-Content-Digest": digest, "X-Cache": "hit", "Content-Length": str(made.size(digest)), "Accept-Ranges": "bytes"}
    wrong = {name: headers[name] for name, value in expected.items() if headers[name] != value}
    check(not wrong, f"headers that are not as expected: {wrong}")
    _, _, metrics = proxy.ask("http://127.0.0.1:5001/metrics")
    saved = re.search(r'^roadstead_saved_bytes_total\{registry="docker.io"\} ([1-9]\d*)', metrics.decode(), re.MULTILINE)
    check(saved, "/metrics does not show the bytes that the second pull saved")


TESTS = [("first run / built-in configuration", built_in), ("first run / README", readme)]
