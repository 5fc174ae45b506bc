"""Whether some clients are slow because of others."""

import functools
import os
import threading

import load
from field import Field
from measures import Row, Target, interleaved, measured
from ours import Roadstead
from peers import NginxCache, NginxStatic
from upstream import MEBIBYTE, Upstream

CONNECTIONS, SLOW = 5000, 500
# Requests per second, which no server here is at its limit with: latency is to tell of waiting, not of a full processor.
RATE = 2000


def cold_file(bench):
    """Hits on manifests while another client reads a blob whose file is not in the page cache."""
    size = bench.scaled(1024 * MEBIBYTE)
    upstream = Upstream(bench.place, blobs=[(size, 1)], manifests=16)
    with Field(bench, [Roadstead, NginxCache], upstream) as field:
        blob, manifests = upstream.blobs(size)[0], upstream.manifests_by("digest")
        field.warm([blob, *manifests])
        def run(server):
            ask = functools.partial(load.requests, server.address, manifests, connections=8, rate=RATE, seconds=bench.seconds)
            with ColdReader(server, blob, size) as reader:
                figures = measured(server, ask)
            return figures | {"disk": reader.read / bench.seconds}
        series = interleaved(bench.pairs, {server.name: functools.partial(run, server) for server in field.servers})
        yield Row(f"manifests while a cold file of {size // MEBIBYTE} MiB is read", series, [
            Target("p99", NginxCache.name, most=2.0), Target("p50", NginxCache.name)]), ("p99", "p50", "disk", "cpu_per_request")


class ColdReader:
    """Downloads a blob again and again, whose file has been dropped from the page cache each time."""

    def __init__(self, server, path, size):
        self.server, self.path, self.size, self.read = server, path, size, 0
        self._file = os.open(server.file_of(path, size), os.O_RDONLY)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def __enter__(self):
        os.fsync(self._file)
        self._before = self._read_bytes()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.read = self._read_bytes() - self._before
        self._over.set()
        self._thread.join()
        os.close(self._file)

    def _go_on(self):
        while not self._over.is_set():
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)
            load.single(self.server.address, self.path, length=self.size)

    def _read_bytes(self):
        """What the server has read from the disk so far."""
        total = 0
        for pid in self.server.pids():
            with open(f"/proc/{pid}/io", encoding="utf-8") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("read_bytes:"))
        return total


def slow_readers(bench):
    """Hits over 4,500 connections, without and with 500 others that read a big blob slowly."""
    size = 256 * MEBIBYTE
    upstream = Upstream(bench.place, blobs=[(size, 1)], manifests=16)
    with Field(bench, [Roadstead, NginxStatic], upstream) as field:
        blob, manifests = upstream.blobs(size)[0], upstream.manifests_by("digest")
        field.warm([blob, *manifests])
        def alone(server):
            ask = functools.partial(load.requests, server.address, manifests, connections=CONNECTIONS - SLOW, rate=RATE)
            ask(seconds=bench.seconds / 4)
            return measured(server, functools.partial(ask, seconds=bench.seconds))
        def beside(server):
            with load.Held("slow", server.address, blob, connections=SLOW, pace=16 << 10) as held:
                figures = alone(server)
            return figures | {"cut": held.report["ended"]}
        cases = {}
        for server in field.servers:
            cases[server.name] = functools.partial(alone, server)
            cases[f"{server.name}, slow too"] = functools.partial(beside, server)
        crowded = f"{Roadstead.name}, slow too"
        yield Row(f"{CONNECTIONS} connections, {SLOW} of them slow readers", interleaved(bench.pairs, cases), [
            Target("p50", Roadstead.name, most=1.2, ours=crowded), Target("p99", Roadstead.name, most=1.2, ours=crowded),
            Target("p99", f"{NginxStatic.name}, slow too", ours=crowded), Target("cut", most=0, ours=crowded)]), (
            "p50", "p99", "cpu_per_request", "peak", "cut")
