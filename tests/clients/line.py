"""A line to a server: it can be slow, it can be cut, and it knows what was asked for over it and how much of it came."""

import collections
import re
import socket
import struct
import threading
import time

import upstreams
from ground import free_port

# So much of an answer comes at full speed even where the line is slow.
QUICK = 3 << 20
# What a slow line brings at a time, and how long that takes: about 160 KiB/s, so that another 3 MiB take 19 s.
SIP, PAUSE = 8 << 10, 0.05


class Line:
    """Carries connections to a port of this machine. Its own port refuses them while it is down, as it is at first.

    Set `slow` for answers that crawl, and `lost` to digests that no question is carried about. `asked` has the digests of
    all content that was asked for."""

    def __init__(self, to):
        self.port, self._to = free_port(), to
        self.slow, self.lost, self.asked = False, frozenset(), set()
        self._listener = None
        self._connections = []
        self._sent = collections.Counter()
        self._lock = threading.Lock()

    def up(self):
        """Takes connections from now on."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def down(self):
        """Takes no more connections and cuts those that are open: every other one by a reset, the rest by an end."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        connections, self._connections = self._connections, []
        for number, connection in enumerate(connections):
            connection.cut(reset=number % 2 == 0)

    def sent(self, digest):
        """The bytes that came in answers to GETs of this content, their heads included."""
        return self._sent[digest]

    def came(self, digest, length):
        """Counts bytes of an answer."""
        with self._lock:
            self._sent[digest] += length

    def _accept(self, listener):
        while True:
            try:
                near = listener.accept()[0]
            except OSError:
                return  # down
            try:
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                near.close()
                continue
            connection = _Connection(self, near, far)
            self._connections.append(connection)
            for carry in (connection.questions, connection.answers):
                threading.Thread(target=carry, daemon=True).start()


class _Connection:
    """A connection from somebody near to somebody far. One question at a time, as HTTP/1.1 has it without pipelining."""

    def __init__(self, line, near, far):
        self._line, self._near, self._far = line, near, far
        self._digest, self._answered = None, 0

    def questions(self):
        """Carries what near asks, and notes what it is about."""
        try:
            while data := self._near.recv(64 << 10):
                found = re.match(rb"GET \S+/blobs/(sha256:[0-9a-f]{64})", data)
                self._digest, self._answered = found and found[1].decode(), 0
                self._line.asked.add(self._digest)
                if self._digest not in self._line.lost:
                    self._far.sendall(data)
        except OSError:
            pass  # cut
        _end(self._far)

    def answers(self):
        """Carries what far answers, and counts it."""
        try:
            while data := self._far.recv(SIP):
                if self._line.slow and self._answered >= QUICK:
                    time.sleep(PAUSE)
                self._near.sendall(data)
                self._answered += len(data)
                self._line.came(self._digest, len(data))
        except OSError:
            pass  # cut
        _end(self._near)

    def cut(self, reset):
        """Ends it at once on both sides."""
        if reset:
            self._near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Wakes the thread that reads, without the ordinary end that shutting down the other half would send.
            _end(self._near, socket.SHUT_RD)
            self._near.close()
        else:
            _end(self._near)
        _end(self._far)


def _end(connection, how=socket.SHUT_RDWR):
    try:
        connection.shutdown(how)
    except OSError:
        pass  # it has ended already


class Distant(upstreams.Plain):
    """A real registry at the end of a line. `kill` and `start` it as often as need be."""

    name = "distant"

    def __init__(self, *args):
        super().__init__(*args)
        self.line = Line(self.port)

    def start(self):
        super().start()
        self.line.up()

    def kill(self):
        """Ends the registry by SIGKILL, and all connections to it with it."""
        self.line.down()
        self._process.kill()
        self._process.wait()

    def url(self):
        return f"http://127.0.0.1:{self.line.port}"
