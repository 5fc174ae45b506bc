"""What is stored, and asked for again and again."""

import functools

import load
from field import Field
from measures import Row, Target, interleaved, measured
from ours import Roadstead
from peers import NginxCache, NginxCachePushing, NginxStatic, Registry, Varnish
from upstream import MEBIBYTE, Upstream

BIG = 256 * MEBIBYTE
SMALL = 64 << 10
BYTES = ("bytes_per_second", "cpu_per_gb", "peak", "busy")
REQUESTS = ("requests_per_second", "p50", "p99", "cpu_per_request", "peak", "busy")


def manifests(bench):
    """Hot manifests of 4 KiB by digest and by tag, 64 connections."""
    with Field(bench, [Roadstead, NginxCache, Varnish, Registry], Upstream(bench.place, manifests=16)) as field:
        for key in ("digest", "tag"):
            paths = field.upstream.manifests_by(key)
            field.warm(paths)
            row = Row(f"hot 4 KiB manifest by {key}, 64 connections", field.hits(paths, 64), [
                Target("requests_per_second", NginxCache.name, least=1.0), Target("p99", NginxCache.name, most=1.0),
                Target("cpu_per_request", NginxCache.name), Target("requests_per_second", Varnish.name),
                Target("requests_per_second", Registry.name)])
            yield row, REQUESTS


def big_blobs(bench):
    """A hot blob of 256 MiB over plain HTTP/1.1, 8 and 64 clients."""
    kinds = [Roadstead, NginxStatic, NginxCache, Varnish, Registry]
    with Field(bench, kinds, Upstream(bench.place, blobs=[(BIG, 1)])) as field:
        paths = field.upstream.blobs(BIG)
        field.warm(paths)
        for clients in (8, 64):
            row = Row(f"hot 256 MiB blob, plain HTTP/1.1, {clients} clients", field.hits(paths, clients, length=BIG), [
                Target("bytes_per_second", NginxStatic.name, least=0.95), Target("cpu_per_gb", NginxStatic.name, most=1.25),
                Target("bytes_per_second", NginxCache.name), Target("bytes_per_second", Varnish.name),
                Target("bytes_per_second", Registry.name)])
            yield row, BYTES


def small_blobs(bench):
    """Hot blobs of 64 KiB, 64 connections."""
    with Field(bench, [Roadstead, NginxCachePushing, Varnish, Registry], Upstream(bench.place, blobs=[(SMALL, 200)])) as field:
        paths = field.upstream.blobs(SMALL)
        field.warm(paths)
        row = Row("hot 64 KiB blobs, 64 connections", field.hits(paths, 64, length=SMALL), [
            Target("requests_per_second", NginxCache.name, least=1.0), Target("cpu_per_request", NginxCache.name),
            Target("requests_per_second", Varnish.name), Target("requests_per_second", Registry.name)])
        yield row, REQUESTS


def tls(bench):
    """A hot blob of 256 MiB over TLS, 8 clients, HTTP/1.1 and h2."""
    upstream = Upstream(bench.place, blobs=[(BIG, 1)])
    with Field(bench, [Roadstead, NginxStatic, NginxCache], upstream, bench.certificate()) as field:
        path = upstream.blobs(BIG)[0]
        field.warm([path])
        for words, http1, least in (("HTTP/1.1", True, 1.1), ("h2", False, 0.9)):
            def run(server, http1=http1):
                return measured(server, lambda: load.h2load(server.tls_address, path, 8, bench.downloads, http1))
            series = interleaved(bench.pairs, {server.name: functools.partial(run, server) for server in field.servers})
            row = Row(f"hot 256 MiB blob, TLS, {words}, 8 clients", series, [
                Target("bytes_per_second", NginxStatic.name, least=least), Target("cpu_per_gb", NginxStatic.name),
                Target("bytes_per_second", NginxCache.name)])
            yield row, BYTES
