"""The ground a test stands on: a folder of its own, the processes it started there, and ports that nobody has."""

import fcntl
import glob
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time


class Skip(Exception):
    """The test cannot be run here, and why."""


class Failed(Exception):
    """The test ran and found a fault."""


def check(holds, message):
    """Fails the test with `message` unless `holds`."""
    if not holds:
        raise Failed(message)


def need(*programs):
    """Skips the test unless all of these programs are on the path."""
    missing = [name for name in programs if not shutil.which(name)]
    if missing:
        raise Skip(f"{', '.join(missing)} not installed")


def need_root():
    """Skips the test unless it may run daemons and containers."""
    if not isolated():
        raise Skip("needs root and namespaces of its own")


def isolated():
    """Whether `run` could put the tests into namespaces of their own, which takes root."""
    return os.environ.get("CLIENT_TESTS_ISOLATED") == "1"


_ports = set()
_ports_lock = threading.Lock()


def free_port():
    """A port of 127.0.0.1 that nobody has and that is handed out once. Below the range for outgoing connections, so
    that none of those takes it before its server does."""
    while True:
        port = random.randrange(20000, 32000)
        with _ports_lock, socket.socket() as probe:
            if port in _ports:
                continue
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _ports.add(port)
            return port


def listening(port, address="127.0.0.1"):
    """Whether somebody accepts connections on this port."""
    try:
        socket.create_connection((address, port), 1).close()
        return True
    except OSError:
        return False


def wait_until(what, condition, seconds=30):
    """Waits until `condition()` holds, asking every 20 ms."""
    end = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < end, f"waited {seconds} s in vain until {what}")
        time.sleep(0.02)


def loopback_up():
    """A new network namespace has its loopback interface down; this brings it up without the `ip` program."""
    siocsifflags, iff_up = 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, siocsifflags, struct.pack("16sh14x", b"lo", iff_up))


def isolate():
    """Finishes what `run` began: loopback comes up, and /run, /etc and /var/lib become private copies, so that nothing a
    client writes there (sockets, keys, caches) reaches the machine. `run` has made the namespaces that this happens in."""
    loopback_up()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    for number, folder in enumerate(("/etc", "/var/lib")):
        upper, work = f"/run/upper{number}", f"/run/work{number}"
        os.makedirs(upper)
        os.makedirs(work)
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={folder},upperdir={upper},workdir={work}", folder],
                       check=True)


def unmount_below(folder):
    """Unmounts what clients left mounted below a folder, the innermost first."""
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        points = [line.split()[4] for line in table]
    for point in sorted((p for p in points if p.startswith(folder + "/")), reverse=True):
        subprocess.run(["umount", "-l", point], check=False)


class Place:
    """A folder and what was started in it. Leaving the `with` block stops the processes; the folder stays. `address` is where
    servers that are started here listen."""

    address = "127.0.0.1"

    def __init__(self, folder):
        self.folder = folder
        self._started = []
        os.makedirs(folder, exist_ok=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self._started):
            self.stop(process)

    def path(self, *names):
        """A path below the folder."""
        return os.path.join(self.folder, *names)

    def write(self, name, text):
        """Writes a file and returns its path."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def inside(self, argv):
        """The command that runs `argv` where the place is."""
        return argv

    def start(self, name, argv, env=None):
        """Starts a process with its output in NAME.log (errors in the same file)."""
        return self._start(argv, env, self.path(f"{name}.log"), None)

    def start_split(self, name, argv, env=None):
        """Starts a process with standard output in NAME.out.log and errors in NAME.log."""
        return self._start(argv, env, self.path(f"{name}.out.log"), self.path(f"{name}.log"))

    def _start(self, argv, env, out, err):
        with open(out, "ab") as out_file:
            err_file = open(err, "ab") if err else subprocess.STDOUT
            process = subprocess.Popen(self.inside(argv), stdin=subprocess.DEVNULL, stdout=out_file, stderr=err_file,
                                       env={**os.environ, **(env or {})}, start_new_session=True)
        if err:
            err_file.close()
        self._started.append(process)
        return process

    def stop(self, process, seconds=30):
        """Ends a process that this place started and returns its exit code; kills it if it does not end in time."""
        if process.poll() is None:
            process.terminate()
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()

    def run(self, argv, env=None, seconds=120):
        """Runs a command to its end and returns its standard output; a failing command fails the test."""
        process = subprocess.Popen(self.inside(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}, start_new_session=True)
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            err += f"\nkilled after {seconds} s"
        with open(self.path("commands.log"), "a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(argv)} [{time.monotonic():.1f}]\n{out}{err}")
        last = (err.strip() or out.strip() or "no output").splitlines()[-1]
        check(process.returncode == 0, f"`{' '.join(argv[:6])} …` ended with {process.returncode}: {last}")
        return out

    def tails(self, lines=12):
        """The last lines of every log in the folder and its subfolders, for a person who looks for the fault."""
        text = ""
        for path in sorted(glob.glob(self.path("*.log")) + glob.glob(self.path("*", "*.log"))):
            with open(path, encoding="utf-8", errors="replace") as file:
                tail = file.readlines()[-lines:]
            text += f"--- {path}\n" + "".join(line[:400].rstrip("\n") + "\n" for line in tail)
        return text
