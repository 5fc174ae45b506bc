"""The network that everything is measured in: loopback of a namespace of its own, with the congestion control that servers
on the internet mostly have. Some machines pace what they send (bbr), which on loopback turns the order of servers upside down."""

import os
import socket
import subprocess

import ground

WANTED = "cubic"
SYSCTL = "/proc/sys/net/ipv4/tcp_congestion_control"


def prepare():
    """Brings up loopback with the wanted congestion control where the namespace is ours. Says what is then in force."""
    if os.environ.get("BENCH_ISOLATED") == "1":
        ground.loopback_up()
        by_sysctl() or by_route()
    return in_force()


def by_sysctl():
    """The namespace's own setting. Only what the machine allows to everybody can be set there."""
    try:
        with open(SYSCTL, "w", encoding="ascii") as file:
            file.write(WANTED)
        return True
    except OSError:
        return False


def by_route():
    """Root may name any congestion control for a route, and loopback has routes too."""
    for route in ("127.0.0.0/8", "127.0.0.1"):
        command = ["ip", "route", "replace", "table", "local", "local", route, "dev", "lo", "proto", "kernel", "scope", "host",
                   "src", "127.0.0.1", "congctl", WANTED]
        try:
            subprocess.run(command, check=False, stderr=subprocess.DEVNULL)
        except FileNotFoundError:
            return


def in_force():
    """What a connection over loopback has, at the end that accepted it."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        accepted, _ = server.accept()
        with accepted:
            return accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()
