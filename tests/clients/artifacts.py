"""oras-py, which fetches artifacts. It knows no mirrors, so it asks the proxy by the proxy's own name."""

import os
import shutil
import sys

from ground import Skip

PULL = """
import sys, oras.client
client = oras.client.OrasClient(hostname=sys.argv[1].split("/")[0], insecure=True)
for file in client.pull(target=sys.argv[1], outdir=sys.argv[2], overwrite=True): print(file)
"""


class Oras:
    """Pulls an artifact by a path that begins with the registry's name."""

    name = "oras"
    runs = ()
    images = ("registry.test/e2e/artifact:v1",)

    def __init__(self, place, mirror):
        if os.system(f"{sys.executable} -c 'import oras.client' 2>/dev/null") != 0:
            raise Skip("no Python module oras (pip could not install it)")
        self.place, self._mirror = place, mirror

    def pull(self, ref):
        self.place.run([sys.executable, "-c", PULL, f"{self._mirror}/{ref}", self.place.path("out")],
                       {"DOCKER_CONFIG": self.place.path("client"), "NO_PROXY": "*"})

    def forget(self):
        shutil.rmtree(self.place.path("out"), ignore_errors=True)
