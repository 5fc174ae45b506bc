"""What is measured, and how two series of figures are compared."""

import dataclasses
import statistics
import time

import processes

# How each figure is shown: its unit, what it is multiplied by for that, and the digits after the point.
FIGURES = {
    "bytes_per_second": ("GB/s", 1e-9, 2),
    "requests_per_second": ("req/s", 1, 0),
    "seconds": ("s", 1, 3),
    "first_byte": ("first byte ms", 1e-3, 1),
    "p50": ("p50 ms", 1e-3, 3),
    "p99": ("p99 ms", 1e-3, 3),
    "cpu_per_gb": ("CPU s/GB", 1, 3),
    "cpu_per_request": ("CPU us/req", 1, 1),
    "peak": ("anon MiB", 1 / (1 << 20), 1),
    "per_connection": ("KiB/conn", 1, 1),
    "upstream": ("upstream x", 1, 3),
    "answer": ("answer s", 1, 3),
    "disk": ("disk MB/s", 1e-6, 0),
    "evicted": ("evicted MB", 1e-6, 1),
    "cut": ("readers cut", 1, 0),
    "busy": ("client busy", 1, 2),
}


@dataclasses.dataclass
class Target:
    """What `ours` has to be like in one figure: at least or at most so many times `theirs` in the same pair, or so much if
    there are no `theirs`."""

    figure: str
    theirs: str = ""
    least: float = None
    most: float = None
    ours: str = "roadstead"

    def values(self, series):
        """The figure of each pair, as a ratio where it is one."""
        ours = [run[self.figure] for run in series[self.ours]]
        if not self.theirs:
            return [value * FIGURES[self.figure][1] for value in ours]
        return [mine / (run[self.figure] or float("nan")) for mine, run in zip(ours, series[self.theirs])]

    def reached(self, value):
        """Whether a value is as it should be; nothing where there is only something to be known."""
        if self.least is None and self.most is None:
            return None
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


@dataclasses.dataclass
class Row:
    """A row of the table: each server's figures in each pair, and what they should come to."""

    title: str
    series: dict
    targets: list


def measured(server, function):
    """Runs `function`, which makes load, and adds to what the client saw what it cost the server."""
    pids = server.pids()
    before = processes.cpu_seconds(pids)
    with processes.Watch(pids) as watch:
        seen = function()
    cpu = processes.cpu_seconds(pids) - before
    figures = {"bytes_per_second": seen["bytes_per_second"], "requests_per_second": seen["requests"] / seen["seconds"],
               "seconds": seen["seconds"], "cpu_per_gb": cpu / max(seen["bytes"], 1) * 1e9, "peak": watch.peak,
               "cpu_per_request": cpu / max(seen["requests"], 1) * 1e6, "busy": seen["cpu_seconds"] / seen["seconds"]}
    if "latency_us" in seen:
        figures |= {"p50": seen["latency_us"]["p50"], "p99": seen["latency_us"]["p99"], "first_byte": seen["first_byte_us"]["p50"]}
    return figures


def interleaved(pairs, cases):
    """Runs each case, a function by name, once per pair, every second pair in the opposite order; returns the series."""
    series = {name: [] for name in cases}
    for number in range(pairs):
        names = list(cases)
        for name in names if number % 2 == 0 else reversed(names):
            time.sleep(0.3)  # what the one before has left to do
            series[name].append(cases[name]())
    return series


def middle(values):
    """The median with the spread around it."""
    return statistics.median(values), min(values), max(values)
