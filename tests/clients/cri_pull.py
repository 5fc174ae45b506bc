"""Pulls one image through a CRI socket: `cri_pull.py unix:///path/containerd.sock IMAGE [USER PASSWORD]`. Needs grpcio.

The request is a few strings in nested messages, PullImageRequest.image.image and .auth, so it is put together by hand
instead of carrying the whole of the CRI's definitions along.
"""

import sys

import grpc


def field(number, content):
    """A field of a protobuf message that holds these bytes (fewer than 128)."""
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def main():
    socket, image, *login = sys.argv[1:]
    request = field(1, field(1, image.encode()))
    if login:
        user, password = login
        request += field(2, field(1, user.encode()) + field(2, password.encode()))
    with grpc.insecure_channel(socket, options=[("grpc.enable_http_proxy", 0)]) as channel:
        pull = channel.unary_unary("/runtime.v1.ImageService/PullImage")
        try:
            reply = pull(request, timeout=100, wait_for_ready=True)
        except grpc.RpcError as error:
            sys.exit(f"PullImage {image}: {error.code().name}: {error.details()}")
    print(reply[2:].decode())


main()
