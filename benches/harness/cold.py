"""What has to come from the upstream first."""

import functools

import load
from field import Field
from measures import Row, Target, interleaved, measured
from ours import Roadstead
from peers import NginxCache, Varnish
from upstream import MEBIBYTE, Upstream

DIRECT = "direct"


class Direct:
    """The upstream itself, asked without anybody between."""

    def __init__(self, upstream):
        self.name, self.address = DIRECT, upstream.address

    def pids(self):
        """It is nobody's cost."""
        return []


def one(bench):
    """A cold blob of 512 MiB for one client, from an upstream of 20 ms and 256 MiB/s."""
    size = bench.scaled(512 * MEBIBYTE)
    upstream = Upstream(bench.place, blobs=[(size, bench.pairs)], latency_ms=20, total_rate=256 * MEBIBYTE)
    with Field(bench, [Roadstead, NginxCache, Varnish], upstream) as field:
        series = pulls(field.servers + [Direct(upstream)], upstream, size, bench.pairs, 1)
        row = Row(f"cold {size // MEBIBYTE} MiB blob, upstream 20 ms and 256 MiB/s", series, [
            Target("seconds", DIRECT, most=1.02), Target("first_byte", DIRECT, most=1.2), Target("seconds", Varnish.name)])
        yield row, ("seconds", "first_byte", "upstream", "cpu_per_gb", "peak")


def many(bench):
    """A cold blob of 256 MiB for 32 clients at once, from an upstream of 20 ms and 512 MiB/s."""
    size = bench.scaled(256 * MEBIBYTE)
    upstream = Upstream(bench.place, blobs=[(size, bench.pairs)], latency_ms=20, total_rate=512 * MEBIBYTE)
    with Field(bench, [Roadstead, Varnish], upstream) as field:
        series = pulls(field.servers, upstream, size, bench.pairs, 32)
        row = Row(f"32 clients on one cold {size // MEBIBYTE} MiB blob, upstream 20 ms and 512 MiB/s", series, [
            Target("upstream", most=1.0), Target("seconds", Varnish.name, most=1.0), Target("first_byte", Varnish.name)])
        yield row, ("seconds", "first_byte", "upstream", "cpu_per_gb", "peak")


def pulls(servers, upstream, size, pairs, clients):
    """The series of servers that each pull one blob per pair, which none of them has had before."""
    def run(server, paths):
        path = next(paths)
        before = upstream.sent(path)
        ask = functools.partial(load.requests, server.address, [path], connections=clients, count=clients, length=size)
        figures = measured(server, ask)
        return figures | {"upstream": (upstream.sent(path) - before) / size}
    paths = {server.name: iter(upstream.blobs(size)) for server in servers}
    return interleaved(pairs, {server.name: functools.partial(run, server, paths[server.name]) for server in servers})
