"""Runs the client tests. Start it by `run`, which prepares Python and the namespaces.

    run                     all tests
    run --only bearer       those whose name holds this text
    run --list              their names
    run --jobs 1            one at a time (default: one per processor)

The environment variable ROADSTEAD names the program under test. Exit status 1 if a test failed.
"""

import argparse
import concurrent.futures
import functools
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback

import disk
import first_run
import ground
import images
import private_link
import pulls
import restarts
import upstreams
import users
import well_known


class Runner:
    """Runs tests, each in a folder of its own, and tells how they went."""

    def __init__(self, folder):
        self.folder = folder
        self.counts = {"pass": 0, "FAIL": 0, "skip": 0}
        self._lock = threading.Lock()

    def run(self, name, function):
        """Runs one test. The folder of a test that failed is kept."""
        folder = os.path.join(self.folder, name.replace(" / ", "-").replace(" ", "-"))
        started, word, remark, detail = time.monotonic(), "pass", "", ""
        try:
            with ground.Place(folder) as place:
                try:
                    function(place)
                except ground.Failed:
                    detail = place.tails()
                    raise
        except ground.Skip as reason:
            word, remark = "skip", f": {reason}"
        except ground.Failed as reason:
            word, remark = "FAIL", f": {reason}"
        except Exception as error:  # a fault of the test itself is a failed test, and the others go on
            word, remark, detail = "FAIL", f": {error}", traceback.format_exc()
        if word != "FAIL":
            ground.unmount_below(folder)
            shutil.rmtree(folder)
        with self._lock:
            self.counts[word] += 1
            print(f"{word}  {name} ({time.monotonic() - started:.1f} s){remark}\n{detail}", end="", flush=True)


def prepare(folder):
    """Makes the images and pushes them to a real registry; returns them and that registry's folder of data."""
    made = images.Images()
    made.add_standard()
    with ground.Place(os.path.join(folder, "push")) as place:
        registry = upstreams.Plain(place, os.path.join(folder, "data"), made, readonly=False)
        registry.start()
        images.Pusher(made, registry.port).push_all()
    return made, os.path.join(folder, "data")


def all_tests():
    """Name and function of every test; a function takes (place, data, images)."""
    tests = []
    for variant in upstreams.VARIANTS:
        for client in pulls.CLIENTS:
            function = functools.partial(run_pulls, variant, client)
            tests.append((f"{variant.name} / {client.name}", function))
    own = first_run.TESTS + well_known.TESTS + disk.TESTS + restarts.TESTS + users.TESTS + private_link.TESTS
    return tests + own


def run_pulls(variant, client, place, data, made):
    pulls.pulls(place, variant, client, data, made)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="run the tests whose name holds this text")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many at a time")
    parser.add_argument("--list", action="store_true", help="list the names")
    return parser.parse_args()


def main():
    options = arguments()
    chosen = [(name, function) for name, function in all_tests() if options.only in name]
    if options.list:
        print("\n".join(name for name, _ in chosen))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if ground.isolated():
        ground.isolate()
    folder = tempfile.mkdtemp(prefix="roadstead-clients-")
    runner = Runner(folder)
    try:
        made, data = prepare(folder)
    except ground.Skip as reason:
        os.rmdir(folder)
        print(f"no client test can run: {reason}\nclient tests: passed 0, failed 0, skipped {len(chosen)}")
        return 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for name, function in chosen:
            pool.submit(runner.run, name, functools.partial(function, data=data, made=made))
    counts = runner.counts
    if counts["FAIL"]:
        print(f"the folders of what failed are in {folder}")
    else:
        ground.unmount_below(folder)
        shutil.rmtree(folder)
    print(f"client tests: passed {counts['pass']}, failed {counts['FAIL']}, skipped {counts['skip']}")
    return 1 if counts["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
