"""One client pulls through roadstead from one kind of upstream: cold, then with the upstream gone, then after a restart."""

import re

import proxy
from artifacts import Oras
from containerd import Cri, Ctr
from containers import Buildah, Podman, Skopeo
from dockerd import Docker
from ground import check

CLIENTS = [Ctr, Cri, Podman, Buildah, Skopeo, Docker, Oras]

FRESHNESS = '[[registry.freshness]]\ntags = "*"\nfor = "1h"\n\n'


def registries(upstream):
    """docker.io as the default registry, and registry.test beside it, both with the same origin."""
    text = ""
    for name, more in (("docker.io", "default = true\n"), ("registry.test", "")):
        text += f'[[registry]]\nname = "{name}"\nurls = ["{upstream.url()}"]\n{more}{upstream.keys(name)}{FRESHNESS}'
    return text


def repository_and_tag(ref):
    """`registry.test/e2e/multi:oci` → `e2e/multi:oci`."""
    return ref.partition("/")[2]


def by_digest(ref, images):
    """The same image by its digest."""
    return f"{ref.rpartition(':')[0]}@{images.digest(repository_and_tag(ref))}"


def pulls(place, variant, client_class, data, images):
    """The whole story of one client and one kind of upstream."""
    upstream = variant(place, data, images)
    upstream.start()
    roadstead = proxy.Roadstead(place, registries(upstream))
    roadstead.start()
    client = client_class(place, roadstead.address)
    cold(client, roadstead)
    upstream.stop()
    check_upstream(upstream, client, images)
    client.forget()
    warm(client, client.images)
    never_seen(roadstead)
    roadstead.stop()
    check_log(roadstead.log(), {"miss", "hit", "joined", "revalidated"})
    roadstead.start()
    client.forget()
    warm(client, [by_digest(ref, images) for ref in client.images])
    roadstead.stop()
    check_log(roadstead.log(), {"hit"})


def cold(client, roadstead):
    """Every image is pulled for the first time, and some are run."""
    for ref in client.images:
        client.pull(ref)
        if ref in client.runs:
            client.start_container(ref)
    check(any(line["cache"] == "miss" for line in roadstead.log()), "the pull did not come through roadstead: no miss in its access log")


def warm(client, refs):
    """Every image is pulled again with an empty storage."""
    for ref in refs:
        client.pull(ref)


def check_upstream(upstream, client, images):
    """The upstream sent every blob once and whole."""
    sends = upstream.sends()
    wrong = {digest: lengths for digest, lengths in sends.items() if lengths != [images.size(digest)]}
    check(sends, "the upstream's log shows no download of a blob")
    check(not wrong, f"{len(wrong)} blobs left the upstream other than once and whole: {dict(list(wrong.items())[:3])}")
    upstream.verify({ref.partition("/")[0] for ref in client.images})


def never_seen(roadstead):
    """With the upstream gone, what was never asked for is a gateway's fault and no 404."""
    status, _, _ = proxy.ask(f"http://{roadstead.address}/v2/registry.test/never/seen/manifests/v1")
    check(status in (502, 503, 504), f"with the upstream gone, an unknown image was answered with {status}")


def check_log(lines, words):
    """Every manifest and blob was answered in full, in one of these ways. Newer clients also look for signatures and
    attestations by a tag made of a digest; what they are told about that is not meant here."""
    asked = [line for line in lines if re.search(r"/(manifests|blobs)/(?!sha256-)", line["path"])]
    check(asked, "the access log shows no request")
    for line in asked:
        told = f"{line['method']} {line['path']}: {line['status']} {line['cache']} {line.get('reason', '')}"
        check(line["status"] in (200, 206) and line["cache"] in words, f"not as it should be: {told}")
