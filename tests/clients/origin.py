"""A registry of blobs only: it can keep a blob's length to itself, stop half-way, and counts what it sends."""

import dataclasses
import re
import threading

import servers
from images import digest_of, noise

REPOSITORY = "e2e/disk"
PIECE = 64 << 10


class Hold:
    """A point in a blob beyond which nothing is sent until it is lifted."""

    def __init__(self, offset):
        self.offset = offset
        self._lifted = threading.Event()

    def lift(self):
        """Lets all through that wait here, and all that come."""
        self._lifted.set()

    def wait(self):
        self._lifted.wait(60)


@dataclasses.dataclass(eq=False)
class Blob:
    """A blob, and what was asked for of it."""

    data: bytes
    chunked: bool
    hold: Hold | None
    digest: str = ""
    heads: int = 0
    sends: list = dataclasses.field(default_factory=list)

    def __post_init__(self):
        self.digest = digest_of(self.data)

    @property
    def path(self):
        """Where it is, at any registry that has it."""
        return f"/v2/{REPOSITORY}/blobs/{self.digest}"

    def sent(self):
        """How many bytes of it were sent in all."""
        return sum(self.sends)


class Origin(servers.Server):
    """The upstream."""

    def __init__(self):
        self._blobs = {}
        super().__init__()

    def add(self, seed, length, chunked=False, hold=None):
        """A blob of its own for each seed. `chunked`: its length is not told. `hold`: where it stops."""
        blob = Blob(noise(seed, length), chunked, Hold(hold) if hold else None)
        self._blobs[blob.path] = blob
        return blob

    def registry(self, name):
        """The `[[registry]]` that leads here."""
        return f'[[registry]]\nname = "{name}"\nurls = ["http://127.0.0.1:{self.port}"]\ndefault = true\n'

    def get(self, request):
        blob = self._blobs.get(request.url.path)
        if not blob:
            return request.answer_json(404, {"errors": [{"code": "BLOB_UNKNOWN"}]})
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        size = len(blob.data)
        first, end = (int(span[1]), min(int(span[2] or size - 1) + 1, size)) if span and not blob.chunked else (0, size)
        request.send_response(206 if span and not blob.chunked else 200)
        request.send_header("Content-Type", "application/octet-stream")
        if span and not blob.chunked:
            request.send_header("Content-Range", f"bytes {first}-{end - 1}/{size}")
        if blob.chunked:
            request.send_header("Transfer-Encoding", "chunked")
        else:
            request.send_header("Content-Length", str(end - first))
        request.end_headers()
        if request.command == "HEAD":
            blob.heads += 1
            return None
        return self._send(request, blob, first, end)

    def _send(self, request, blob, first, end):
        blob.sends.append(0)
        number = len(blob.sends) - 1
        for at in range(first, end, PIECE):
            if blob.hold and at >= blob.hold.offset:
                blob.hold.wait()
            piece = blob.data[at:min(at + PIECE, end)]
            request.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if blob.chunked else piece)
            blob.sends[number] += len(piece)
        if blob.chunked:
            request.wfile.write(b"0\r\n\r\n")
