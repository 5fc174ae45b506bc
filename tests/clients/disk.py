"""The cache folder's disk is small, full, read-only or emptied by somebody: clients notice nothing, and when it is well again, so is
the cache. Each test has a file system of its own, and an upstream that says when it goes on."""

import contextlib
import dataclasses
import errno
import hashlib
import http.client
import os
import re
import shutil
import subprocess
import threading
import time

import proxy
from ground import Skip, check, need, need_root, wait_until
from origin import Origin

MIB = 1 << 20
# Who comes while no more than this was sent came together with the first.
EARLY = 64 << 10


@dataclasses.dataclass
class Pull:
    """How a client fared."""

    status: int = 0
    cache: str = ""
    got: int = 0
    whole: bool = False
    right: bool = False
    error: str = ""

    def well(self):
        """Whether it has what it wanted."""
        return self.status == 200 and self.whole and self.right


class Ground:
    """A roadstead before an origin, with its cache folder on a file system made for it."""

    def __init__(self, place, make_disk, max_size="1 GiB"):
        need_root()
        self.cache = place.path("cache")
        os.makedirs(self.cache)
        make_disk(place, self.cache)
        self.origin = Origin()
        self.roadstead = proxy.Roadstead(place, self.origin.registry("docker.io"), max_size=max_size)
        self.roadstead.start()

    def pull(self, blob, told=lambda: None):
        """One client pulls a blob; `told` is called when it has the head of its answer."""
        pull = Pull()
        connection = http.client.HTTPConnection("127.0.0.1", self.roadstead.port, timeout=60)
        try:
            connection.request("GET", blob.path, headers={"User-Agent": proxy.USER_AGENT})
            response = connection.getresponse()
            pull.status, pull.cache = response.status, response.headers.get("X-Cache", "")
            told()
            hasher = hashlib.sha256()
            while piece := response.read(MIB):
                pull.got += len(piece)
                hasher.update(piece)
            pull.whole = pull.got == int(response.headers.get("Content-Length", pull.got))
            pull.right = f"sha256:{hasher.hexdigest()}" == blob.digest
        except (OSError, http.client.HTTPException) as error:
            pull.error = repr(error)
        finally:
            connection.close()
        return pull

    def pull_all(self, blobs, when_all_told=lambda: None):
        """A client for each of these, at once; the pulls in that order. `when_all_told` is called when all have their heads."""
        told = threading.Semaphore(0)
        pulls = [None] * len(blobs)

        def client(number, blob):
            pulls[number] = self.pull(blob, told.release)

        clients = [threading.Thread(target=client, args=pair, daemon=True) for pair in enumerate(blobs)]
        for thread in clients:
            thread.start()
        all_told = [told.acquire(timeout=20) for _ in clients]
        when_all_told()
        for thread in clients:
            thread.join()
        check(all(all_told), f"{all_told.count(False)} of {len(clients)} clients had no head after 20 s: {pulls}")
        return pulls

    def until_hit(self, blob, seconds=30):
        """Pulls until the answer comes from the cache, which is to happen by itself. Every pull on the way must be right."""
        end = time.monotonic() + seconds
        while True:
            pull = self.pull(blob)
            check_well([pull])
            if pull.cache == "hit":
                return
            check(time.monotonic() < end, f"pulled for {seconds} s, and it was never a hit; last {pull}; {self.roadstead.health()}")
            time.sleep(0.1)

    def well_again(self):
        """Waits until the disk is said to be well."""
        wait_until("the disk is said to be well", lambda: "disk: ok" in self.roadstead.health()[1])
        check('roadstead_healthy{part="disk"} 1' in self.roadstead.metrics(), "/metrics does not say that the disk is well")


def check_well(pulls):
    """Every client has what it wanted."""
    bad = [pull for pull in pulls if not pull.well()]
    check(not bad, f"{len(bad)} of {len(pulls)} clients did not get their blob: {bad[:3]}")


def check_once(blobs):
    """Each left the upstream once. What was on its way when a transfer was given up counts, and is little."""
    for blob in blobs:
        size = len(blob.data)
        check(blob.sent() <= size * 1.02 + MIB, f"{size} bytes were sent as {blob.sends}")


@contextlib.contextmanager
def watched(ground, in_trouble=True):
    """The proxy is ready all the time, and says in metrics and log that the disk is in trouble, where it is."""
    stop, seen, not_ready = threading.Event(), set(), []

    def watch():
        while not stop.wait(0.05):
            status, lines = ground.roadstead.health()
            if status != 200:
                not_ready.append((status, lines))
            seen.update(line for line in ground.roadstead.metrics() if line.startswith(("roadstead_healthy", "roadstead_store_errors")))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        time.sleep(0.1)
        stop.set()
        watcher.join()
    check(not not_ready, f"/readyz was not ready: {not_ready[:3]}")
    if in_trouble:
        told = 'roadstead_healthy{part="disk"} 0' in seen or any(re.match(r"roadstead_store_errors_total.* [1-9]", line) for line in seen)
        check(told, f"/metrics never said that the disk is in trouble: {sorted(seen)}")
        check(re.search(r"WARN.*in trouble.*disk", ground.roadstead.errors()), "the log does not say that the disk is in trouble")


def tmpfs(megabytes):
    """A file system in memory."""
    def make(place, folder):
        place.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder])
    return make


def ext4(place, folder):
    """A file system in a file. It becomes read-only when it is told that it is broken, whatever is open on it."""
    need("mkfs.ext4", "losetup")
    image = place.path("disk.img")
    place.run(["truncate", "-s", "64M", image])
    place.run(["mkfs.ext4", "-q", "-F", "-m", "0", image])
    mounted = subprocess.run(["mount", "-o", "loop,errors=remount-ro", image, folder], capture_output=True, text=True, check=False)
    if mounted.returncode:
        raise Skip(f"no loop device to be had: {mounted.stderr.strip()}")


def break_ext4(folder):
    """Its file system is read-only from now on, for good."""
    device = subprocess.run(["findmnt", "-no", "SOURCE", folder], capture_output=True, text=True, check=True).stdout.strip()
    with open(f"/sys/fs/ext4/{os.path.basename(device)}/trigger_fs_error", "w", encoding="ascii") as trigger:
        trigger.write("1")


def fill(folder):
    """Takes all the room that is left with a file, and returns it."""
    path = os.path.join(folder, "ballast")
    with open(path, "wb", buffering=0) as file:
        for size in (MIB, 4096):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
    return path


def larger_than_the_disk(place, data, made):
    """Many clients want a blob at once that is larger than the file system."""
    del data, made
    ground = Ground(place, tmpfs(24))
    blob = ground.origin.add(1, 64 * MIB, hold=EARLY)
    with watched(ground):
        check_well(ground.pull_all([blob] * 8, blob.hold.lift))
        check_once([blob])
        check_well([ground.pull(blob)])
    small = ground.origin.add(2, MIB)
    ground.until_hit(small)
    ground.well_again()
    ground.roadstead.stop()


def many_at_once(place, data, made):
    """Blobs of which only some have room are wanted at once, and again."""
    del data, made
    ground = Ground(place, tmpfs(24))
    blobs = [ground.origin.add(seed, 10 * MIB, hold=EARLY) for seed in range(6)]

    def lift():
        for blob in blobs:
            blob.hold.lift()

    with watched(ground, in_trouble=False):
        check_well(ground.pull_all(blobs, lift))
        check_once(blobs)
        check_well(ground.pull_all(blobs + blobs))
        for blob in blobs:
            ground.until_hit(blob)
    ground.well_again()
    ground.roadstead.stop()


def length_unknown(place, data, made):
    """A blob of untold length outgrows the file system in the middle of its download."""
    del data, made
    ground = Ground(place, tmpfs(24))
    blob = ground.origin.add(1, 40 * MIB, chunked=True, hold=EARLY)
    with watched(ground):
        check_well(ground.pull_all([blob] * 4, blob.hold.lift))
        check_once([blob])
    small = ground.origin.add(2, MIB)
    ground.until_hit(small)
    ground.well_again()
    ground.roadstead.stop()


def full_for_a_while(place, data, made):
    """Something else fills the disk during downloads, and later goes."""
    del data, made
    ground = Ground(place, tmpfs(24))
    told, untold = ground.origin.add(1, 6 * MIB, hold=2 * MIB), ground.origin.add(2, 6 * MIB, chunked=True, hold=2 * MIB)
    later, kept = ground.origin.add(3, 4 * MIB), ground.origin.add(4, MIB)
    ground.until_hit(kept)
    ballast = []

    def fill_up():
        ballast.append(fill(ground.cache))
        told.hold.lift()
        untold.hold.lift()

    with watched(ground):
        check_well(ground.pull_all([told, untold] * 4, fill_up))
        check_once([told, untold])
        check_well(ground.pull_all([told, untold, later, kept] * 2))
    os.remove(ballast[0])
    for blob in (later, told, untold, kept):
        ground.until_hit(blob)
    ground.well_again()
    ground.roadstead.stop()
    ground.roadstead.start()
    # What was learned after the disk had been full is on it: nobody else can be asked.
    ground.origin.stop()
    for blob in (later, told, untold, kept):
        pull = ground.pull(blob)
        check(pull.well() and pull.cache == "hit", f"after a restart: {pull}")
    ground.roadstead.stop()


def read_only(place, data, made):
    """The file system is found broken during a download, and takes no byte any more."""
    del data, made
    ground = Ground(place, ext4)
    kept, late = ground.origin.add(1, MIB), ground.origin.add(2, 6 * MIB, hold=2 * MIB)
    fresh = [ground.origin.add(seed, 2 * MIB) for seed in (3, 4)]
    ground.until_hit(kept)

    def breaks():
        break_ext4(ground.cache)
        late.hold.lift()

    with watched(ground):
        check_well(ground.pull_all([late] * 4, breaks))
        check_once([late])
        check_well(ground.pull_all([late, kept, *fresh] * 2))
        pull = ground.pull(kept)
        check(pull.well() and pull.cache == "hit", f"what is stored can still be read: {pull}")


def read_only_for_a_while(place, data, made):
    """Nothing can be made or moved in the cache folder, until it can."""
    del data, made
    ground = Ground(place, tmpfs(24))
    kept, late = ground.origin.add(1, MIB), ground.origin.add(2, 6 * MIB, hold=2 * MIB)
    fresh = [ground.origin.add(seed, 2 * MIB) for seed in (3, 4)]
    ground.until_hit(kept)

    def close():
        # A file system that has files open for writing cannot be made read-only, but a mount of it that covers it is.
        aside = place.path("aside")
        os.makedirs(aside)
        place.run(["mount", "--bind", ground.cache, aside])
        place.run(["mount", "-o", "remount,bind,ro", aside])
        place.run(["mount", "--bind", aside, ground.cache])
        late.hold.lift()

    with watched(ground):
        check_well(ground.pull_all([late] * 4, close))
        check_once([late])
        check_well(ground.pull_all([late, kept, *fresh] * 2))
    place.run(["umount", "-l", ground.cache])
    for blob in (late, kept, *fresh):
        ground.until_hit(blob)
    ground.well_again()
    ground.roadstead.stop()


def emptied(place, data, made):
    """Somebody deletes everything in the cache folder."""
    del data, made
    ground = Ground(place, tmpfs(64))
    stored, late = ground.origin.add(1, 2 * MIB), ground.origin.add(2, 6 * MIB, hold=2 * MIB)
    fresh = ground.origin.add(3, 2 * MIB)
    ground.until_hit(stored)

    def empty():
        for name in os.listdir(ground.cache):
            path = os.path.join(ground.cache, name)
            remove_folder(path) if os.path.isdir(path) else os.remove(path)
        late.hold.lift()

    with watched(ground, in_trouble=False):
        check_well(ground.pull_all([late] * 4, empty))
        check_well(ground.pull_all([stored, late, fresh] * 2))
        for blob in (fresh, late, stored):
            ground.until_hit(blob)
    ground.well_again()
    missing = [blob.digest for blob in (fresh, late) if not os.path.exists(file_of(ground, blob))]
    check(not missing, f"these are hits and have no file: {missing}")
    ground.roadstead.stop()
    ground.roadstead.start()
    for blob in (fresh, late):
        ground.until_hit(blob)
    check_once([fresh])
    ground.roadstead.stop()


def remove_folder(path):
    """Removes a folder in use: what is put there, or taken away, meanwhile does not end it."""
    while os.path.isdir(path):
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise


def file_of(ground, blob):
    """Where a stored blob lies."""
    algorithm, _, name = blob.digest.partition(":")
    return os.path.join(ground.cache, "blobs", algorithm, name[:2], name)


def truncate(path):
    os.truncate(path, os.path.getsize(path) // 2)


def overwrite(path):
    """Other bytes, the same length, and another time of change."""
    with open(path, "r+b") as file:
        file.seek(MIB)
        file.write(b"other bytes")


def spoiled(place, data, made):
    """A stored blob's file is shortened, deleted or changed after it was served."""
    del data, made
    ground = Ground(place, tmpfs(64))
    faults = []
    for seed, spoil in enumerate((truncate, os.remove, overwrite)):
        blob = ground.origin.add(seed, 2 * MIB)
        ground.until_hit(blob)
        spoil(file_of(ground, blob))
        pulls = [ground.pull(blob) for _ in range(3)]
        if any(pull.whole and not pull.right for pull in pulls):
            faults.append(f"{spoil.__name__}: whole and wrong: {pulls}")
        if not pulls[-1].well() or blob.sent() != 2 * len(blob.data):
            faults.append(f"{spoil.__name__}: not fetched again: {pulls}, sent {blob.sends}")
    check(not faults, "; ".join(faults))
    ground.roadstead.stop()


TESTS = [
    ("disk / blob larger than it", larger_than_the_disk),
    ("disk / more blobs than it has room for", many_at_once),
    ("disk / blob of unknown length outgrows it", length_unknown),
    ("disk / full for a while", full_for_a_while),
    ("disk / read-only for good", read_only),
    ("disk / read-only for a while", read_only_for_a_while),
    ("disk / emptied", emptied),
    ("disk / stored blobs spoiled", spoiled),
]
