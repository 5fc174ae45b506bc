"""What the processes of a server cost: processor time and anonymous memory, from /proc."""

import os
import threading

TICKS = os.sysconf("SC_CLK_TCK")


def family(root):
    """A process and all that descend from it."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(name)
            if fields:
                children.setdefault(int(fields[1]), []).append(int(name))
    found, todo = [], [root]
    while todo:
        found.append(todo.pop())
        todo.extend(children.get(found[-1], []))
    return found


def _stat(pid):
    """The fields of /proc/PID/stat from the state on, or nothing where the process has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None


def cpu_seconds(pids):
    """Seconds of processor time of these processes so far, user and system."""
    return sum(int(fields[11]) + int(fields[12]) for fields in map(_stat, pids) if fields) / TICKS


def anonymous(pids):
    """Bytes of anonymous memory of these processes now."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status", encoding="utf-8") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("RssAnon:")) * 1024
        except OSError:
            pass  # it has ended
    return total


class Watch:
    """The most anonymous memory that processes have within a `with` block, looked at every 20 ms."""

    def __init__(self, pids):
        self.pids, self.peak = pids, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _look(self):
        while True:
            self.peak = max(self.peak, anonymous(self.pids))
            if self._over.wait(0.02):
                return
