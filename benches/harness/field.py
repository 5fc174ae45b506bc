"""Servers side by side, so that a pair of measurements is made in the same minute."""

import functools

import ground
import load
from measures import interleaved, measured


class Field:
    """Servers that stand side by side before one upstream, for the time of a `with` block."""

    def __init__(self, bench, kinds, upstream, tls=None):
        self.bench, self.upstream = bench, upstream
        self.servers = [kind(bench.place, upstream, tls) for kind in kinds]

    def __enter__(self):
        try:
            for server in list(self.servers):
                self._start(server)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self, server):
        try:
            server.start()
        except ground.Skip as reason:
            print(f"\nwithout {server.name}: {reason}")
            self.servers.remove(server)

    def __exit__(self, *_):
        for server in reversed(self.servers):
            server.stop()
        self.upstream.stop()

    def warm(self, paths):
        """Has each server fetch what will be asked for."""
        for server in self.servers:
            server.warm(paths)

    def hits(self, paths, connections, **options):
        """The series of all servers under the load of so many connections."""
        def run(server):
            ask = functools.partial(load.requests, server.address, paths, connections=connections, **options)
            ask(seconds=self.bench.seconds / 8)
            return measured(server, functools.partial(ask, seconds=self.bench.seconds))
        return interleaved(self.bench.pairs, {server.name: functools.partial(run, server) for server in self.servers})
