"""What roadstead needs of memory, its own rather than the page cache's."""

import functools
import time

import load
import processes
from field import Field
from measures import Row, Target, interleaved, measured
from ours import Roadstead
from peers import NginxStatic
from upstream import MEBIBYTE, Upstream

BIG = 256 * MEBIBYTE
CLIENTS = 64
IDLE = 1000
WAYS = ("hot, plain", "hot, TLS", "cold")


def busy(bench):
    """The most anonymous memory with 64 clients on big blobs, with 32 MiB for content in memory."""
    cold = 4 if bench.quick else 16
    upstream = Upstream(bench.place, blobs=[(BIG, 2 + cold * bench.pairs)])
    roadstead = functools.partial(Roadstead, memory="32 MiB")
    with Field(bench, [roadstead], upstream, bench.certificate()) as field:
        server, paths = field.servers[0], upstream.blobs(BIG)
        hot, fresh = paths[:2], iter(paths[2:])
        field.warm(hot)
        def plain():
            return load.requests(server.address, hot, connections=CLIENTS, seconds=bench.seconds)
        def encrypted():
            return load.h2load(server.tls_address, hot[0], CLIENTS, CLIENTS, True)
        def fill():
            return load.requests(server.address, [next(fresh) for _ in range(cold)], connections=CLIENTS, count=CLIENTS)
        ways = dict(zip(WAYS, (plain, encrypted, fill)))
        series = interleaved(bench.pairs, {way: functools.partial(measured, server, ask) for way, ask in ways.items()})
        targets = [Target("peak", most=128, ours=way) for way in WAYS]
        yield Row('anonymous memory with 64 clients on 256 MiB blobs, memory = "32 MiB"', series, targets), (
            "peak", "bytes_per_second", "cpu_per_gb")


def idle(bench):
    """What an idle connection takes, of 1,000 over which something was asked once."""
    upstream = Upstream(bench.place, manifests=1)
    tls = bench.certificate()
    try:
        for words, encrypted, most in (("plain", False, 32), ("TLS", True, 64)):
            cases = {kind.name: functools.partial(hold, bench, kind, upstream, tls, encrypted) for kind in (Roadstead, NginxStatic)}
            row = Row(f"{IDLE} idle {words} connections", interleaved(bench.pairs, cases), [Target("per_connection", most=most)])
            yield row, ("per_connection", "peak")
    finally:
        upstream.stop()


def hold(bench, kind, upstream, tls, encrypted):
    """Holds idle connections to a server that has just been started, for memory that was used once is seldom given back."""
    server = kind(bench.place, upstream, tls)
    server.start()
    try:
        path = upstream.manifests_by("digest")[0]
        server.warm([path])
        pids = server.pids()
        before = processes.anonymous(pids)
        options = {"tls": bench.authority} if encrypted else {}
        address = server.tls_address if encrypted else server.address
        with load.Held("idle", address, path, connections=IDLE, **options):
            time.sleep(1)
            after = processes.anonymous(pids)
        return {"per_connection": (after - before) / IDLE / 1024, "peak": after}
    finally:
        server.stop()
