"""Runs the measurements. Start it by `run`, which builds what is needed and makes the namespaces.

    run                     all of them, five pairs each
    run --only manifest     those whose name holds this text
    run --quick             two short pairs: whether all works, not how fast it is
    run --list              their names
    run --keep FOLDER       the cache of a million blobs is made there once
    run --json FILE         writes all figures to a file as well

Exit status 1 if a measurement failed; a target that is not reached is no failure.
"""

import argparse
import os
import platform
import resource
import shutil
import signal
import sys
import tempfile
import traceback

import cold
import congestion
import crowd
import ground
import hot
import memory
import million
import report
from certificates import Authority

SCENARIOS = {
    "manifests": hot.manifests,
    "big blobs": hot.big_blobs,
    "small blobs": hot.small_blobs,
    "tls": hot.tls,
    "cold blob": cold.one,
    "cold blob for many": cold.many,
    "memory": memory.busy,
    "idle connections": memory.idle,
    "cold file": crowd.cold_file,
    "slow readers": crowd.slow_readers,
    "million blobs": million.million,
}


class Bench:
    """What a scenario needs to know: where it may write, how long and how often it measures."""

    def __init__(self, place, pairs, quick, keep):
        self.place, self.quick, self.keep = place, quick, keep
        self.pairs = pairs
        self.seconds = 1.0 if quick else 4.0
        # How many downloads of 256 MiB make a measurement, where these are counted.
        self.downloads = 16 if quick else 48

    def scaled(self, size):
        """The size of something cold, which is smaller where the measurement is only tried."""
        return size // 8 if self.quick else size

    def certificate(self):
        """A certificate for 127.0.0.1 and its key."""
        return Authority(self.place).issue("server", ["IP:127.0.0.1"])

    @property
    def authority(self):
        """The authority that `certificate` has issued it by."""
        return self.place.path("ca.pem")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="run the measurements whose name holds this text")
    parser.add_argument("--pairs", type=int, help="how often each is made (default 5, with --quick 2)")
    parser.add_argument("--quick", action="store_true", help="short ones")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--folder", help="where caches are made; on a disk, not in memory (default: the temporary folder)")
    parser.add_argument("--keep", metavar="FOLDER", help="where the cache of a million blobs stays for the next run")
    parser.add_argument("--list", action="store_true", help="list the names")
    return parser.parse_args()


def run(name, scenario, bench, rows):
    """Runs one scenario in a folder of its own and tells whether it worked."""
    folder = os.path.join(bench.folder, name.replace(" ", "-"))
    try:
        with ground.Place(folder) as place:
            try:
                for row, figures in scenario(Bench(place, bench.pairs, bench.quick, bench.keep)):
                    report.show(row, figures)
                    rows.append(row)
            except ground.Failed:
                print(place.tails())
                raise
        return True
    except ground.Skip as reason:
        print(f"\n{name}: skipped, {reason}")
        return True
    except Exception as error:  # the other measurements go on
        print(f"\n{name}: FAILED, {error}")
        if not isinstance(error, ground.Failed):
            traceback.print_exc()
        return False
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    options = arguments()
    chosen = {name: scenario for name, scenario in SCENARIOS.items() if options.only in name}
    if options.list:
        print("\n".join(chosen))
        return 0
    options.pairs = options.pairs or (2 if options.quick else 5)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    control = congestion.prepare()
    about = {"congestion_control": control, "processors": os.cpu_count(), "kernel": platform.release(), "pairs": options.pairs,
             "quick": options.quick}
    print(f"congestion control {control}, {os.cpu_count()} processors, kernel {platform.release()}, {options.pairs} pairs")
    options.folder = tempfile.mkdtemp(prefix="roadstead-bench-", dir=options.folder)
    rows, worked = [], True
    try:
        for name, scenario in chosen.items():
            worked = run(name, scenario, options, rows) and worked
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)
        report.summary(rows)
        if options.json:
            report.write(options.json, about, rows)
    return 0 if worked else 1


if __name__ == "__main__":
    sys.exit(main())
