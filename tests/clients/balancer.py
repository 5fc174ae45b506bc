"""A load balancer of TCP connections that says by PROXY protocol version 2 whose they are, as those of the clouds do.

`balancer.py ROUTE…` takes connections on all addresses until it is ended; it prints a line when it does. A route is
`PORT=ADDRESS:PORT=WHAT`: where connections come in, where they go, and what is said of them there:
    aws:vpce-…, azure:NUMBER, gcp:NUMBER   where they come from, and by which private endpoint
    client                                 where they come from
    check                                  nothing: LOCAL, as for the balancer's own health checks
    -                                      nothing, and there is no header either
"""

import asyncio
import ipaddress
import struct
import sys

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, TCP6 = 0x00, 0x11, 0x21
CRC32C = 0x03
CRC_LENGTH = 4


def crc32c(data):
    """The CRC with Castagnoli's polynomial."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def tlv(kind, value):
    """One of the fields behind the addresses."""
    return struct.pack("!BH", kind, len(value)) + value


def endpoint(text):
    """The field that names a private endpoint, as its cloud writes it."""
    cloud, _, name = text.partition(":")
    if cloud == "aws":
        return tlv(0xEA, b"\x01" + name.encode())
    if cloud == "azure":
        return tlv(0xEE, b"\x01" + struct.pack("<I", int(name)))
    return tlv(0xE0, struct.pack("!Q", int(name)))


def header(what, source=None, destination=None):
    """The header of a connection from `source` to `destination`, each an (address, port)."""
    if what == "check":
        return sealed(LOCAL, UNSPEC, b"", b"")
    (client, sport), (server, dport) = source, destination
    client, server = ipaddress.ip_address(client), ipaddress.ip_address(server)
    addresses = client.packed + server.packed + struct.pack("!HH", sport, dport)
    return sealed(PROXY, TCP4 if client.version == 4 else TCP6, addresses, b"" if what == "client" else endpoint(what))


def sealed(command, family, addresses, fields):
    """A header with its CRC, which is that of the whole with zeros in its own place."""
    length = len(addresses) + len(tlv(CRC32C, bytes(CRC_LENGTH))) + len(fields)
    start = SIGNATURE + struct.pack("!BBH", command, family, length) + addresses
    crc = crc32c(start + tlv(CRC32C, bytes(CRC_LENGTH)) + fields)
    return start + tlv(CRC32C, struct.pack("!I", crc)) + fields


async def copy(reader, writer):
    """Passes on what comes one way, and its end, be it good or bad."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


def taker(address, port, what):
    """What is done with each connection of a route."""
    async def take(client_reader, client):
        try:
            server_reader, server = await asyncio.open_connection(address, port)
        except OSError:
            client.close()
            return
        if what != "-":
            server.write(header(what, client.get_extra_info("peername")[:2], client.get_extra_info("sockname")[:2]))
        await asyncio.gather(copy(client_reader, server), copy(server_reader, client))
        for writer in (client, server):
            writer.close()
    return take


async def main(routes):
    for route in routes:
        listen, target, what = route.split("=")
        address, _, port = target.rpartition(":")
        await asyncio.start_server(taker(address, int(port), what), port=int(listen))
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
