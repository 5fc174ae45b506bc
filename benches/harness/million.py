"""Whether a cache stays as quick as it grows: a million blobs beside a few."""

import functools
import os
import re
import subprocess
import threading
import time
import urllib.request

import load
from field import Field
from ground import Failed, Skip, check, wait_until
from measures import Row, Target, interleaved, measured
from ours import Roadstead
from peers import fetch
from upstream import REGISTRY, Upstream

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
IMAGES = 1000
SMALL = 64 << 10
# New blobs per second, which at the cap each have to have room made for them.
PULLS, HITS = 200, 2000


class Filled(Roadstead):
    """roadstead with a cache that was filled beforehand, which it keeps between starts."""

    def __init__(self, place, upstream, blobs, keep):
        """`keep` is a folder in which the cache stays for the next run; without it the cache goes with the server."""
        self.name, self._starts = f"{blobs} blobs", 0
        super().__init__(place, upstream)
        self.directory = os.path.join(keep or self.folder, f"{blobs}-cache")
        self.paths = filled(self.directory, blobs)

    def launch(self):
        super().launch()
        self._starts += 1

    def settle(self):
        """Waits until it has looked through its folder, which it does beside its work and may be ended in the midst of."""
        starts = self._starts
        wait_until(f"{self.name} has swept", lambda: self._swept() == starts, 600)

    def _swept(self):
        """Which start the last sweep that came to its end belongs to."""
        number = last = 0
        with open(self.place.path(f"{self.name.replace(' ', '-')}.log"), encoding="utf-8") as log:
            for line in log:
                number += " starting " in line
                last = number if "swept the cache folder" in line else last
        return last

    def limit(self, most):
        """Starts it anew with room for so many bytes."""
        self.end()
        self.max_size = int(most)
        self.start()
        self.settle()

    def start_anew(self):
        """Starts it and returns how many seconds pass until it answers."""
        started = time.monotonic()
        self.launch()
        while True:
            try:
                fetch(f"http://{self.address}{self.paths[0]}")
                return time.monotonic() - started
            except Failed:
                check(self.alive(), f"{self.name} did not start")
                time.sleep(0.002)

    def metric(self, name):
        """The value of a metric without labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=30) as answer:
            found = re.search(rf"^{name} ([\d.e+]+)$", answer.read().decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0


def filled(folder, blobs):
    """Fills a cache folder, unless that was done by an earlier run, and returns paths of what is there."""
    record = f"{folder}.paths"
    if not os.path.exists(record):
        paths = fill(folder, blobs)
        with open(record, "w", encoding="utf-8") as file:
            file.write("\n".join(paths))
    with open(record, encoding="utf-8") as file:
        return file.read().split()


def fill(folder, blobs):
    """Fills a cache folder by the tool beside the harness; returns paths of manifests and blobs that are there."""
    tool = os.environ.get("BENCH_FILL")
    if not tool and not os.path.exists(os.path.join(ROOT, "benches", "fill.rs")):
        raise Skip("there is no benches/fill.rs to make the cache with")
    command = [tool] if tool else ["cargo", "bench", "--quiet", "--locked", "--bench", "fill", "--"]
    command += [folder, str(blobs), REGISTRY, "--paths", str(min(IMAGES, blobs // 10))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    check(done.returncode == 0, f"the cache could not be made: {done.stderr[-300:]}")
    return done.stdout.split()


def million(bench):
    """Start, hits and eviction with a million blobs."""
    many, few = (20_000, 2_000) if bench.quick else (1_000_000, 10_000)
    runs = bench.pairs * 2 + 2
    fresh = int(PULLS * (bench.seconds + 1))
    # Not those that an earlier run has left in the cache.
    upstream = Upstream(bench.place, blobs=[(SMALL, fresh * runs)], first=time.time_ns() >> 10)
    new = iter(upstream.blobs(SMALL))
    kinds = [lambda place, up, _, blobs=blobs: Filled(place, up, blobs, bench.keep) for blobs in (many, few)]
    with Field(bench, kinds, upstream) as field:
        large, small = field.servers
        yield starts(bench, large, new), ("answer",)
        yield hits(bench, field, large, small)
        yield eviction(bench, large, small, new, fresh)


def starts(bench, server, new):
    """From the start to the first answer."""
    def run(finish):
        server.warm([next(new) for _ in range(10)])
        finish()
        return {"answer": server.start_anew()}
    ways = {"after a clean end": server.end, "after kill -9": server.kill}
    series = interleaved(bench.pairs, {way: functools.partial(run, finish) for way, finish in ways.items()})
    return Row(f"from start to first answer, {server.name}", series, [Target("answer", most=2.0, ours=way) for way in ways])


def hits(bench, field, large, small):
    """Hits on many different manifests and small blobs."""
    for server in field.servers:
        server.settle()
    def run(server):
        ask = functools.partial(load.requests, server.address, server.paths, connections=64)
        ask(seconds=bench.seconds / 4)
        return measured(server, functools.partial(ask, seconds=bench.seconds))
    series = interleaved(bench.pairs, {server.name: functools.partial(run, server) for server in field.servers})
    targets = [Target("requests_per_second", small.name, least=0.9, ours=large.name),
               Target("cpu_per_request", small.name, most=1.1, ours=large.name)]
    return Row(f"hits, {large.name}", series, targets), ("requests_per_second", "p99", "cpu_per_request", "peak", "busy")


def eviction(bench, large, small, new, fresh):
    """Hits while new blobs come in, which at the cap push others out."""
    large.limit(large.metric("roadstead_store_bytes"))
    def run(server, pulls):
        evicted = server.metric("roadstead_evicted_bytes_total")
        ask = functools.partial(load.requests, server.address, server.paths[:200], connections=8, rate=HITS, seconds=bench.seconds)
        with Pulling(server, [next(new) for _ in range(fresh)] if pulls else []):
            figures = measured(server, ask)
        return figures | {"evicted": server.metric("roadstead_evicted_bytes_total") - evicted}
    full, roomy = f"{large.name}, at the cap", f"{small.name}, not at the cap"
    cases = {roomy: functools.partial(run, small, True), full: functools.partial(run, large, True),
             f"{full}, no pulls": functools.partial(run, large, False)}
    return Row(f"hits while {PULLS} blobs of 64 KiB per second are pulled", interleaved(bench.pairs, cases), [
        Target("p99", roomy, most=2.0, ours=full), Target("p99", f"{full}, no pulls", ours=full),
        Target("p50", roomy, ours=full)]), ("p99", "p50", "evicted", "cpu_per_request", "peak")


class Pulling:
    """Pulls of new blobs at a steady rate, for the time of a `with` block."""

    def __init__(self, server, paths):
        self._ask = functools.partial(load.requests, server.address, paths, connections=16, rate=PULLS, count=len(paths))
        self._thread = threading.Thread(target=self._ask) if paths else None

    def __enter__(self):
        if self._thread:
            self._thread.start()
            time.sleep(0.5)

    def __exit__(self, *_):
        if self._thread:
            self._thread.join()
