"""The registry that all pull from: as slow as told, and it counts what leaves it."""

import json
import os
import subprocess
import urllib.request

PROGRAMS = os.environ.get("BENCH_PROGRAMS", "")
REPOSITORY = "bench/app"
REGISTRY = "registry.test"
MEBIBYTE = 1 << 20
# What container clients send; docker-registry shows no manifest to those who do not.
ACCEPT = ", ".join([
    "application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json", "*/*"])


class Upstream:
    """An upstream of blobs, as (size, count), and manifests. Without `latency_ms` and a rate it is as fast as it can be. Another
    number `first` makes other blobs."""

    def __init__(self, place, blobs=(), manifests=0, latency_ms=0, rate=None, total_rate=None, first=0):
        command = [os.path.join(PROGRAMS, "upstream"), "--manifests", str(manifests), "--latency-ms", str(latency_ms),
                   "--first", str(first)]
        command += [f"--blob={size}x{count}" for size, count in blobs]
        command += [f"--rate={rate}"] if rate else []
        command += [f"--total-rate={total_rate}"] if total_rate else []
        self._place = place
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        catalogue = json.loads(self._process.stdout.readline())
        self.address = catalogue["address"]
        self._blobs, self.manifests = catalogue["blobs"], catalogue["manifests"]

    def blobs(self, size):
        """Paths of all blobs of this size."""
        return [blob_path(entry["digest"]) for entry in self._blobs if entry["size"] == size]

    def manifests_by(self, key):
        """Paths of all manifests by `digest` or by `tag`."""
        return [f"/v2/{REPOSITORY}/manifests/{entry[key]}" for entry in self.manifests]

    def sent(self, path):
        """How many bytes of what this path names have left."""
        return self._counts().get(path.rsplit("/", 1)[1], 0)

    def _counts(self):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{self.address}/counts", timeout=30) as answer:
            return json.load(answer)

    def stop(self):
        """Ends it."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def blob_path(digest):
    """Where a registry has this blob."""
    return f"/v2/{REPOSITORY}/blobs/{digest}"
