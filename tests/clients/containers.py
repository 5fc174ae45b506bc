"""podman, buildah and skopeo: the clients built on containers/image."""

import json
import shutil
import tempfile

from ground import isolated, need, need_root

# What is run in a container. Its exit status tells, because buildah loses a line of output now and then.
INSIDE = ("/bin/sh", "-c", 'test "$(uname -s)" = Linux')

# Low limits, because raising them takes a capability that containers often lack; runc, because crun refuses hybrid cgroups;
# a lock file, because the default is a piece of shared memory that all podmans of root share.
ENGINE = """\
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
tmp_dir = "{run}/libpod"
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
"""


def registries_conf(mirror, names):
    """The configuration that points these clients at a mirror by the first segment of the path. The registry itself is
    put where nobody can be, so that a pull that succeeds came through the mirror."""
    text = 'unqualified-search-registries = ["docker.io"]\n'
    for name in names:
        text += f'[[registry]]\nprefix = "{name}"\nlocation = "origin.invalid/{name}"\n'
        text += f'[[registry.mirror]]\nlocation = "{mirror}/{name}"\ninsecure = true\n'
    return text


class Containers:
    """What the three have in common."""

    def __init__(self, place, mirror, names=("docker.io", "registry.test"), registries=None):
        """`registries` is a registries.conf to take instead of one made from `mirror` and `names`."""
        need(self.name)
        self.place = place
        # podman takes no path of more than 50 characters here, and tells so only in a background process.
        run = tempfile.mkdtemp(prefix="c", dir="/run" if isolated() else place.folder)
        storage = f'[storage]\ndriver = "overlay"\nrunroot = "{run}/root"\ngraphroot = "{place.path("graph")}"\n'
        self._registries = place.write("registries.conf", registries or registries_conf(mirror, names))
        self._policy = place.write("policy.json", json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        place.write("tmp/.keep", "")
        self.env = {
            "HOME": place.path("home"), "TMPDIR": place.path("tmp"),
            "CONTAINERS_REGISTRIES_CONF": self._registries,
            "CONTAINERS_STORAGE_CONF": place.write("storage.conf", storage),
            "CONTAINERS_CONF": place.write("containers.conf", ENGINE.format(run=run)),
            "REGISTRY_AUTH_FILE": place.write("auth.json", "{}"),
        }

    def run(self, *argv):
        """Runs the client."""
        return self.place.run([self.name, *argv], self.env)

    def forget(self):
        """Drops every image, so that the next pull is whole."""
        self.run("rmi", "-af")


class Podman(Containers):
    """podman pull and run."""

    name = "podman"
    runs = ("docker.io/library/busybox:latest", "registry.test/e2e/multi:oci")
    images = (*runs, "registry.test/e2e/multi:v2s2", "registry.test/e2e/index:oci", "registry.test/e2e/index:v2s2",
              "registry.test/e2e/many:oci", "registry.test/e2e/big:oci")

    def __init__(self, *args, **more):
        need_root()
        need("runc")
        super().__init__(*args, **more)

    def pull(self, ref):
        self.run("pull", "-q", "--signature-policy", self._policy, ref)

    def start_container(self, ref):
        self.run("run", "--rm", "--network", "none", ref, *INSIDE)


class Buildah(Podman):
    """buildah pull and run."""

    name = "buildah"

    def start_container(self, ref):
        container = self.run("from", "--signature-policy", self._policy, ref).strip()
        self.run("run", "--isolation", "chroot", container, *INSIDE)
        self.run("rm", container)


class Skopeo(Containers):
    """skopeo copy, once for this platform and with --all. Old ones ignore the variable for registries.conf."""

    name = "skopeo"
    runs = ()
    images = (*Podman.images, "registry.test/e2e/artifact:v1", "registry.test/charts/demo:0.1.0")

    def pull(self, ref):
        for more in ((), ("--all",)):
            self.run("--registries-conf", self._registries, "--policy", self._policy, "copy", "-q", *more,
                     f"docker://{ref}", f"dir:{self.place.path('copy')}")

    def forget(self):
        shutil.rmtree(self.place.path("copy"), ignore_errors=True)
