"""Hosts with addresses of their own: network namespaces on one bridge, which our own namespace is on as well, so that a test
can ask every host. Nothing leads out of it.

A host is a place: what is started there runs on it, with the names of all hosts in its /etc/hosts, and with an
/etc/containers of its own.
"""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import threading

from ground import Failed, Place, Skip, need, need_root

_numbers = itertools.count(1)
# The first namespace makes ready the folder that all are in.
_making = threading.Lock()


class Host(Place):
    """One host. Its name stands for its `address`, its name with a `6` for the one of IPv6, `v6`."""

    def __init__(self, folder, name, space, v4, v6):
        super().__init__(folder)
        self.name, self.space, self.address, self.v6 = name, space, v4, v6

    def inside(self, argv):
        return ["ip", "netns", "exec", self.space, *argv]

    def etc(self, name):
        """The path of a file of its own that it sees as /etc/containers/NAME."""
        path = os.path.join("/etc/netns", self.space, "containers", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path


class Network:
    """The hosts by name, from entering the `with` block until leaving it, which ends whatever runs on them. The test is
    skipped where the kernel has no namespaces, bridges or pairs of interfaces for us. Where it only has no IPv6,
    `without_v6` says why."""

    def __init__(self, place, names):
        need_root()
        need("ip")
        self.place, number = place, next(_numbers)
        self.v4, self.v6 = f"10.77.{number}.0/24", f"fd77:0:0:{number:x}::/64"
        self._bridge = f"br{number}"
        self.without_v6 = ""
        self.hosts = {name: Host(place.path(name), name, f"n{number}-{name}", f"10.77.{number}.{at}", f"fd77:0:0:{number:x}::{at}")
                      for at, name in enumerate(names, 2)}

    def __getitem__(self, name):
        return self.hosts[name]

    def __enter__(self):
        with contextlib.ExitStack() as undo:
            undo.callback(self._remove)
            with _making:
                self._make()
            undo.pop_all()
        return self

    def __exit__(self, *_):
        for host in self.hosts.values():
            host.__exit__()
        self._remove()

    def _make(self):
        try:
            self._ip("link", "add", self._bridge, "type", "bridge")
            for at, host in enumerate(self.hosts.values()):
                self._ip("netns", "add", host.space)
                self._ip("link", "add", f"{self._bridge}-{at}", "type", "veth", "peer", "name", "eth0", "netns", host.space)
                self._ip("link", "set", f"{self._bridge}-{at}", "master", self._bridge, "up")
        except Failed as refusal:
            raise Skip(f"no networks to be had: {refusal}") from refusal
        self._ip("link", "set", self._bridge, "up")
        for host in self.hosts.values():
            self._ip("-n", host.space, "link", "set", "lo", "up")
            self._ip("-n", host.space, "link", "set", "eth0", "up")
            self._files(host)
        self._addresses()

    def _ip(self, *argv):
        self.place.run(["ip", *argv])

    def _addresses(self):
        ours = (), self._bridge, self.v4.replace(".0/", ".1/"), self.v6.replace("::/", "::1/")
        theirs = [(("-n", host.space), "eth0", f"{host.address}/24", f"{host.v6}/64") for host in self.hosts.values()]
        for where, interface, v4, v6 in (ours, *theirs):
            self._ip(*where, "address", "add", v4, "dev", interface)
            try:
                self._ip(*where, "address", "add", v6, "dev", interface, "nodad")
            except Failed as refusal:
                self.without_v6 = str(refusal)

    def _files(self, host):
        """What stands in for files and folders of /etc there."""
        os.makedirs("/etc/containers", exist_ok=True)
        host.etc("")
        folder = os.path.join("/etc/netns", host.space)
        with open(os.path.join(folder, "hosts"), "w", encoding="utf-8") as hosts:
            hosts.write("127.0.0.1 localhost\n")
            for other in self.hosts.values():
                hosts.write(f"{other.address} {other.name}\n{other.v6} {other.name}6\n")
        with open(os.path.join(folder, "resolv.conf"), "w", encoding="utf-8"):
            pass

    def _remove(self):
        """Takes away what there is of it, also when it was never whole."""
        def ip(*argv):
            return subprocess.run(["ip", *argv], capture_output=True, text=True, check=False).stdout

        for host in self.hosts.values():
            for process in ip("netns", "pids", host.space).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            ip("netns", "delete", host.space)
            shutil.rmtree(os.path.join("/etc/netns", host.space), ignore_errors=True)
        ip("link", "delete", self._bridge)
