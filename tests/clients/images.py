"""Small images of every kind that clients meet, made without a network, and pushed to a registry.

The bytes are the same on every run with the same busybox and zlib, but not on every machine: tests ask for digests and never spell them out.
"""

import gzip
import hashlib
import http.client
import io
import json
import random
import shutil
import tarfile

OCI = {
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "index": "application/vnd.oci.image.index.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "layer": "application/vnd.oci.image.layer.v1.tar+gzip",
}
DOCKER = {
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
    "config": "application/vnd.docker.container.image.v1+json",
    "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
CREATED = "2024-01-01T00:00:00Z"
BIG_LAYER = 6 << 20


def digest_of(data):
    """The sha256 digest of some bytes, as registries write it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def noise(seed, length):
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(length)


def to_json(value):
    """Compact JSON, as bytes."""
    return json.dumps(value, separators=(",", ":")).encode()


def layer(files):
    """A layer as (compressed bytes, diff id). A value is a file's bytes, `-> target` for a link, None for a folder."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            if content is None:
                entry.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content.removeprefix("-> ")
            else:
                entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content) if isinstance(content, bytes) else None)
    return gzip.compress(raw.getvalue(), 1, mtime=0), digest_of(raw.getvalue())


def root_layer():
    """A root file system with busybox, which images need to be run."""
    with open(shutil.which("busybox") or "/bin/true", "rb") as file:
        busybox = file.read()
    files = {"bin/": None, "bin/busybox": busybox}
    files |= {f"bin/{name}": "-> busybox" for name in ("sh", "uname", "cat", "ls")}
    files |= {name: None for name in ("etc/", "proc/", "sys/", "dev/", "tmp/", "root/")}
    return layer(files | {"etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n", "old.txt": b"hidden by a later layer\n"})


class Images:
    """Contents by digest, and tagged manifests by `repository:tag`. None at first."""

    def __init__(self):
        self.contents = {}
        self.tags = {}

    def add_small(self, name, seed):
        """An image of one small layer, different for each seed."""
        self._tag(name, self._image(OCI, [layer({"noise": noise(seed, 200 << 10)})]))

    def add_standard(self):
        """One image of every kind."""
        base, top = root_layer(), layer({".wh.old.txt": b"", "hello.txt": b"hello from the top layer\n"})
        self._tag("library/busybox:latest", self._image(DOCKER, [base]))
        self._tag("library/busybox:1.35", self._image(DOCKER, [base]))
        words = layer({"words.txt": b"a text that packs well\n" * 30000})
        self._tag("e2e/multi:oci", self._image(OCI, [base, words, layer({"noise": noise(1, 3 << 20)}), top]))
        self._tag("e2e/multi:v2s2", self._image(DOCKER, [base, words, layer({"noise": noise(1, 3 << 20)}), top]))
        for tag, kind in (("oci", OCI), ("v2s2", DOCKER)):
            self._tag(f"e2e/index:{tag}", self._index(kind, base, top))
        bigs = [layer({f"big{n}": noise(100 + n, BIG_LAYER)}) for n in range(4)]
        self._tag("e2e/big:oci", self._image(OCI, [base, *bigs]))
        # No more layers than any client fetches at once.
        self._tag("e2e/three:oci", self._image(OCI, [base, *bigs[:2]]))
        empty = layer({})
        small = [layer({f"file{n}": noise(200 + n, 64 << 10)}) for n in range(30)]
        self._tag("e2e/many:oci", self._image(OCI, [base, empty, *small, empty]))
        self._artifact()
        self._chart()

    def digest(self, name):
        """The digest of a tagged manifest; `name` is `repository:tag`."""
        return self.tags[name]["digest"]

    def layers(self, name):
        """The digests of the layers of a tagged image."""
        return [layer["digest"] for layer in json.loads(self.contents[self.digest(name)][0])["layers"]]

    def size(self, digest):
        """The length of a content."""
        return len(self.contents[digest][0])

    def _put(self, data, media_type, **more):
        self.contents[digest_of(data)] = (data, media_type)
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}

    def _tag(self, name, descriptor):
        self.tags[name] = descriptor

    def _image(self, kind, layers, architecture="amd64", **more):
        system = "unknown" if architecture == "unknown" else "linux"
        config = to_json({
            "created": CREATED, "architecture": architecture, "os": system,
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
            "history": [{"created": CREATED, "created_by": f"layer {n}"} for n in range(len(layers))],
        })
        return self._put(to_json({
            "schemaVersion": 2, "mediaType": kind["manifest"], "config": self._put(config, kind["config"]),
            "layers": [self._put(data, kind["layer"]) for data, _ in layers],
        }), kind["manifest"], **more)

    def _index(self, kind, base, top):
        """Two platforms, and in an OCI index the attestation that BuildKit adds."""
        arm = layer({"bin/": None, "bin/arch": b"a stand-in for an arm64 root\n" + noise(2, 30000)})
        entries = [
            self._image(kind, [base, top], platform={"architecture": "amd64", "os": "linux"}),
            self._image(kind, [arm], "arm64", platform={"architecture": "arm64", "os": "linux", "variant": "v8"}),
        ]
        if kind is OCI:
            entries.append(self._attestation(entries[0]["digest"]))
        return self._put(to_json({"schemaVersion": 2, "mediaType": kind["index"], "manifests": entries}), kind["index"])

    def _attestation(self, subject):
        statement = self._put(to_json({"_type": "https://in-toto.io/Statement/v0.1", "subject": []}), "application/vnd.in-toto+json")
        config = self._put(to_json({"architecture": "unknown", "os": "unknown", "config": {},
                                    "rootfs": {"type": "layers", "diff_ids": [statement["digest"]]}}), OCI["config"])
        manifest = {"schemaVersion": 2, "mediaType": OCI["manifest"], "config": config, "layers": [statement]}
        return self._put(to_json(manifest), OCI["manifest"], platform={"architecture": "unknown", "os": "unknown"},
                         annotations={"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": subject})

    def _artifact(self):
        files = (("weights.bin", noise(3, 1 << 20)), ("README.md", b"# a model\n"))
        self._tag("e2e/artifact:v1", self._put(to_json({
            "schemaVersion": 2, "mediaType": OCI["manifest"], "artifactType": "application/vnd.e2e.model",
            "config": self._put(b"{}", "application/vnd.oci.empty.v1+json"),
            "layers": [self._put(data, "application/octet-stream", annotations={"org.opencontainers.image.title": name})
                       for name, data in files],
        }), OCI["manifest"]))

    def _chart(self):
        """What `helm push` makes."""
        archive, _ = layer({"demo/Chart.yaml": b"apiVersion: v2\nname: demo\nversion: 0.1.0\n"})
        meta = to_json({"name": "demo", "version": "0.1.0", "apiVersion": "v2"})
        self._tag("charts/demo:0.1.0", self._put(to_json({
            "schemaVersion": 2, "config": self._put(meta, "application/vnd.cncf.helm.config.v1+json"),
            "layers": [self._put(archive, "application/vnd.cncf.helm.chart.content.v1.tar+gzip")],
        }), OCI["manifest"]))


class Pusher:
    """Pushes images to a registry that lets anybody write."""

    def __init__(self, images, port):
        self.images = images
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def push_all(self):
        """Pushes every tag."""
        for name, descriptor in self.images.tags.items():
            repository, tag = name.split(":")
            self._manifest(repository, descriptor, tag)

    def _manifest(self, repository, descriptor, reference):
        data = self.images.contents[descriptor["digest"]][0]
        manifest = json.loads(data)
        for child in manifest.get("manifests", []):
            self._manifest(repository, child, child["digest"])
        for blob in [manifest[key] for key in ("config",) if key in manifest] + manifest.get("layers", []):
            self._blob(repository, blob["digest"])
        self._call(201, "PUT", f"/v2/{repository}/manifests/{reference}", data, descriptor["mediaType"])

    def _blob(self, repository, digest):
        response = self._call(202, "POST", f"/v2/{repository}/blobs/uploads/")
        where = response.headers["Location"]
        where += ("&" if "?" in where else "?") + "digest=" + digest
        self._call(201, "PUT", where, self.images.contents[digest][0], "application/octet-stream")

    def _call(self, expected, method, path, body=b"", media_type=None):
        self.connection.request(method, path, body, {"Content-Type": media_type} if media_type else {})
        response = self.connection.getresponse()
        text = response.read()
        if response.status != expected:
            raise RuntimeError(f"{method} {path}: {response.status} {text[:300]!r}")
        return response
