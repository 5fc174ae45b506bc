"""The clients: our own load client, and h2load for what goes over TLS."""

import json
import os
import re
import resource
import subprocess
import tempfile
import time

from ground import check, need
from upstream import ACCEPT, PROGRAMS

UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def _argv(verb, address, paths, options):
    argv = [os.path.join(PROGRAMS, "load"), verb, "--address", address, "--header", f"Accept: {ACCEPT}"]
    for key, value in options.items():
        if value is not None:
            argv += [f"--{key.replace('_', '-')}", str(value)]
    return argv + [word for path in paths for word in ("--path", path)]


def requests(address, paths, **options):
    """Asks until the time is over or the answers are counted, and returns what the client saw. Any answer that
    was not as expected is an error of the measurement."""
    if len(paths) > 100:
        with tempfile.NamedTemporaryFile("w", suffix=".paths") as file:
            file.write("\n".join(paths))
            file.flush()
            return _measured(_argv("requests", address, [], {**options, "paths": file.name}))
    return _measured(_argv("requests", address, paths, options))


def _measured(argv):
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.communicate(timeout=600)
    check(process.returncode == 0, f"the load client failed: {err.strip()[-300:]}")
    seen = json.loads(out)
    check(seen["errors"] == 0, f"{seen['errors']} wrong answers, the first: {seen['first_error']}")
    return seen


def single(address, path, **options):
    """One download by one client: what `requests` returns."""
    return requests(address, [path], connections=1, count=1, **options)


class Held:
    """Connections that are held for the time of a `with` block: `idle` or `slow`. What became of slow readers is in `report`
    after it."""

    def __init__(self, verb, address, path, **options):
        self._argv, self._verb, self._process, self.report = _argv(verb, address, [path], options), verb, None, None

    def __enter__(self):
        self._process = subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._verb == "idle":
            check(self._process.stdout.readline(), "idle connections could not be made")
        else:
            time.sleep(1)  # until the readers have filled what lies between them and the server
        return self

    def __exit__(self, *_):
        out, _ = self._process.communicate(timeout=60)
        self.report = json.loads(out) if out.strip() else None


def h2load(address, path, clients, count, http1):
    """Downloads over TLS by h2load, each client on a connection of its own: what `requests` tells of them, less."""
    need("h2load")
    argv = ["h2load", "-n", str(count), "-c", str(clients), "-m", "1", "-w", "30", "-W", "30", "-t", "1"]
    argv += ["--h1"] if http1 else []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.run([*argv, f"https://{address}{path}"], capture_output=True, text=True, check=False, timeout=600)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    check(f"{count} succeeded, 0 failed" in process.stdout, f"h2load failed: {process.stdout[-400:]}{process.stderr[-200:]}")
    taken = re.search(r"finished in ([\d.]+)(us|ms|s),", process.stdout)
    size = int(re.search(r"traffic: .*?\((\d+)\) total", process.stdout)[1])
    seconds = float(taken[1]) * UNITS[taken[2]]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"bytes": size, "seconds": seconds, "bytes_per_second": size / seconds, "requests": count, "cpu_seconds": cpu}
