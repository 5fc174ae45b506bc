"""The built-in registries under their real names, played by one server: API, token realm and blob store by the name asked for.

The names lead to a loopback address by a private /etc/hosts, their certificates come from an authority of our own. What is
known of each registry is in the table; a real one may differ, and no test here can show that.
"""

import json
import re
import secrets
import ssl

import images
import proxy
import servers
from certificates import Authority
from containers import Skopeo
from ground import check, need, need_root

ADDRESS = "127.0.0.2"


class Known:
    """One well-known registry."""

    def __init__(self, name, realm=None, service=None, blobs=None, api=None, manifests=None, repository="e2e/small"):
        self.name, self.realm, self.service = name, realm, service
        self.image = f"{repository}:latest"
        self.api = api or name
        self.blobs = blobs  # host of the store that blobs are redirected to; None: they come from the API's host
        self.manifests = manifests  # host that manifests are redirected to

    def hosts(self):
        """Every host that belongs to it."""
        realm = self.realm.split("/")[2] if self.realm else None
        return {host for host in (self.api, realm, self.blobs, self.manifests) if host}


KNOWN = [
    Known("docker.io", "https://auth.docker.io/token", "registry.docker.io", "production.cloudflare.docker.com",
          api="registry-1.docker.io", repository="library/busybox"),
    Known("ghcr.io", "https://ghcr.io/token", "ghcr.io", "pkg-containers.githubusercontent.com"),
    Known("quay.io", "https://quay.io/v2/auth", "quay.io", "cdn03.quay.io"),
    Known("registry.k8s.io", blobs="prod-registry-k8s-io-us-east-1.s3.dualstack.us-east-1.amazonaws.com",
          manifests="us-central1-docker.pkg.dev"),
    Known("gcr.io", "https://gcr.io/v2/token", "gcr.io"),
    Known("europe-docker.pkg.dev", "https://europe-docker.pkg.dev/v2/token", "europe-docker.pkg.dev"),
    Known("public.ecr.aws", "https://public.ecr.aws/token/", "public.ecr.aws", "d2glxqk2uabbnd.cloudfront.net"),
    Known("mcr.microsoft.com", blobs="eastus.data.mcr.microsoft.com"),
    Known("nvcr.io", "https://nvcr.io/proxy_auth", "nvcr.io", "layers.nvcr.io"),
    Known("registry.gitlab.com", "https://gitlab.com/jwt/auth", "container_registry", "storage.googleapis.com"),
]


def image_of(known, seed):
    """Each registry has content of its own, so that no download is saved by what another one sent."""
    made = images.Images()
    made.add_small(known.image, seed)
    return made


class StandIn(servers.Server):
    """Plays all of them on one address."""

    def __init__(self, tls):
        self._images = {known.name: image_of(known, seed) for seed, known in enumerate(KNOWN)}
        self._tokens = {}
        self._links = set()
        super().__init__((ADDRESS, 443), tls)

    def get(self, request):
        path = request.url.path
        for known in KNOWN:
            if known.realm == f"https://{request.host()}{path}":
                return self._token(request, known)
            if request.host() == known.api and path.startswith("/v2/"):
                return self._api(request, known)
            if request.host() in (known.blobs, known.manifests) and path in self._links:
                return self._store(request, known)
        return request.answer(404)

    def _token(self, request, known):
        scope = request.query.get("scope", "")
        if request.query.get("service") != known.service or not scope.startswith("repository:"):
            return request.answer_json(400, {"details": "wrong service or scope"})
        token = secrets.token_urlsafe(24)
        self._tokens[token] = (known.name, scope.split(":")[1])
        return request.answer_json(200, {"token": token, "expires_in": 300})

    def _api(self, request, known):
        match = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/([^/]+)", request.url.path)
        repository, kind, reference = match.groups() if match else ("", "", "")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        allowed = scheme.lower() == "bearer" and self._tokens.get(token) == (known.name, repository)
        if known.realm and not allowed:
            challenge = f'Bearer realm="{known.realm}",service="{known.service}",scope="repository:{repository}:pull"'
            return request.answer_json(401, {"errors": [{"code": "UNAUTHORIZED"}]}, [("WWW-Authenticate", challenge)])
        if not match:
            return request.answer_json(200, {})
        made = self._images[known.name]
        digest = made.tags.get(f"{repository}:{reference}", {}).get("digest", reference)
        other = known.manifests if kind == "manifests" else known.blobs
        if digest not in made.contents:
            return request.answer_json(404, {"errors": [{"code": "MANIFEST_UNKNOWN"}]})
        if not other:
            return self._send(request, known, digest)
        link = f"/{secrets.token_urlsafe(8)}/{digest}"
        self._links.add(link)
        return request.answer(307, b"", [("Location", f"https://{other}{link}")])

    def _store(self, request, known):
        if request.headers.get("Authorization") is not None:
            return request.answer(400, b"<Code>InvalidArgument</Code>Only one auth mechanism allowed")
        return self._send(request, known, request.url.path.rpartition("/")[2])

    def _send(self, request, known, digest):
        data, media_type = self._images[known.name].contents[digest]
        return servers.send_content(request, data, media_type, [("Docker-Content-Digest", digest)])


def well_known(place, data, made):
    """Pulls from every one of them, then again with all of them gone."""
    del data, made
    need_root()
    need("unshare")
    hosts = sorted(set().union(*(known.hosts() for known in KNOWN)))
    authority = Authority(place)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*authority.issue("server", [f"DNS:{host}" for host in hosts]))
    stand_in = StandIn(tls)
    roadstead = proxy.Roadstead(place, "".join(registry(known) for known in KNOWN))
    hosts_file = place.write("hosts", f"127.0.0.1 localhost\n{ADDRESS} {' '.join(hosts)}\n")
    under_their_names = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts_file]
    roadstead.start(under_their_names, {"SSL_CERT_FILE": authority.certificate, "SSL_CERT_DIR": place.path("no-certificates")})
    client = Skopeo(place, roadstead.address, [known.name for known in KNOWN])
    faults = pull_each(client)
    place.write("asked.log", "".join(json.dumps(record) + "\n" for record in stand_in.records))
    check(not faults, "; ".join(faults))
    for known in KNOWN:
        asked = {record["host"] for record in stand_in.records if record["status"] in (200, 206, 307)}
        check(known.hosts() <= asked, f"{known.name}: {known.hosts() - asked} never gave an answer")
    stand_in.stop()
    faults = pull_each(client)
    check(not faults, "with the upstreams gone: " + "; ".join(faults))
    roadstead.stop()


def registry(known):
    """A `[[registry]]` that leaves to the program all that it knows by the name."""
    name = "*.pkg.dev" if known.name.endswith(".pkg.dev") else known.name
    return (f'[[registry]]\nname = "{name}"\naddresses = ["127.0.0.0/8"]\n{"default = true" if name == "docker.io" else ""}\n'
            '[[registry.freshness]]\ntags = "*"\nfor = "1h"\n\n')


def pull_each(client):
    """Pulls from every registry; returns what went wrong."""
    faults = []
    for known in KNOWN:
        try:
            client.pull(f"{known.name}/{known.image}")
            client.forget()
        except Exception as error:  # the other registries are worth knowing about, too
            faults.append(f"{known.name}: {error}")
    return faults


TESTS = [("well-known registries", well_known)]
