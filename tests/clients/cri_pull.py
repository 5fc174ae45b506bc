"""Pulls one image through a CRI socket: `cri_pull.py unix:///path/containerd.sock IMAGE`. Needs grpcio.

The request is one string in two nested messages, PullImageRequest.image.image, so it is put together by hand instead of
carrying the whole of the CRI's definitions along.
"""

import sys

import grpc


def message(content):
    """A protobuf message whose field 1 holds these bytes (fewer than 128)."""
    assert len(content) < 128
    return bytes([0x0A, len(content)]) + content


def main():
    socket, image = sys.argv[1:]
    with grpc.insecure_channel(socket, options=[("grpc.enable_http_proxy", 0)]) as channel:
        pull = channel.unary_unary("/runtime.v1.ImageService/PullImage")
        try:
            reply = pull(message(message(image.encode())), timeout=100, wait_for_ready=True)
        except grpc.RpcError as error:
            sys.exit(f"PullImage {image}: {error.code().name}: {error.details()}")
    print(reply[2:].decode())


main()
