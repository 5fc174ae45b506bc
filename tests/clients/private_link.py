"""Who may pull what over which private link: hosts with addresses of their own, a load balancer that says by PROXY protocol
where connections come from and by which cloud's endpoint, and real clients.

    node-a, node-b ─── balancer ─── roadstead ─── registry
           └───────────────────────────┘

Every client goes through the same table. Whether it gets its image is one half of each case; the other is what the audit log
says of it, and at the end that it says nothing else.
"""

import dataclasses
import functools
import json
import os
import sys

import balancer
import proxy
import pulls
import upstreams
from certificates import Authority
from doors import ByCri, ByCtr, ByPodman, Door, Keys, curl
from ground import Failed, Skip, check, need, wait_until
from network import Network

HOSTS = ("registry", "roadstead", "balancer", "node-a", "node-b")
IMAGE = "registry.test/e2e/multi:oci"
# What nobody may pull.
SECRET = "registry.test/e2e/three:oci"
AWS, AWS_BOTH, AWS_STRANGE = "aws:vpce-08d2bf15fac5001c9", "aws:vpce-0b07b07b07b07b07b", "aws:vpce-0123456789abcdef0"
AZURE, GCP, GCP_GONE = "azure:536873660", "gcp:43686719580552292", "gcp:18446744072646845442"
BUILDER, VISITOR = "spiffe://roadstead.test/build/1", "spiffe://roadstead.test/visitor"
CI, GUEST, PASSWORD = "user:ci", "user:guest", "correct horse"

LISTENERS = """\
[[listener]]
name = "link"
address = "{roadstead.address}:5001"
proxy_protocol = {{ from = ["{balancer.address}/32"] }}

[[listener]]
name = "guarded"
address = "{roadstead.address}:5002"
proxy_protocol = {{ from = ["{balancer.address}/32"] }}
tls = {{ certificate = "server.pem", key = "server.key", client_ca = "ca.pem", client_auth = "require" }}

[[listener]]
name = "people"
address = "{roadstead.address}:5003"
tls = {{ certificate = "server.pem", key = "server.key" }}
users = {{ file = "users", mode = "require" }}

"""
LISTENER_V6 = """\
[[listener]]
name = "nodes6"
address = "[{roadstead.v6}]:5004"

"""
# All endpoints of Google's are allowed but one. What is in no list here is for nobody.
POLICY = f"""\
[audit]
output = "audit.log"

[policy]
default = "deny"

[[policy.statement]]
id = "secret"
effect = "deny"
resources = ["{SECRET}"]

[[policy.statement]]
id = "clouds"
effect = "allow"
endpoints = ["{AWS}", "azure:*", "gcp:*"]
resources = ["registry.test/**"]

[[policy.statement]]
id = "gcp-gone"
effect = "deny"
endpoints = ["{GCP_GONE}"]

[[policy.statement]]
id = "nodes"
effect = "allow"
endpoints = ["nodes", "nodes6"]
sources = ["{{net.v4}}", "{{net.v6}}"]
except = ["{{node_b.address}}", "{{node_b.v6}}"]
resources = ["registry.test/**"]

[[policy.statement]]
id = "builders"
effect = "allow"
endpoints = ["guarded"]
principals = ["spiffe://roadstead.test/build/*"]
resources = ["registry.test/**"]

[[policy.statement]]
id = "both"
effect = "allow"
endpoints = ["{AWS_BOTH}"]
principals = ["spiffe://roadstead.test/build/*"]
resources = ["registry.test/**"]

[[policy.statement]]
id = "users"
effect = "allow"
endpoints = ["people"]
principals = ["{CI}"]
resources = ["registry.test/**"]

"""


# The balancer's ports, whereto they lead on roadstead, and what is said there of the connections.
ROUTES = [(6001, 5001, AWS), (6002, 5001, AWS_STRANGE), (6003, 5001, AZURE), (6004, 5001, GCP), (6005, 5001, GCP_GONE),
          (6006, 5002, AWS_BOTH), (6007, 5002, AWS_STRANGE), (6008, 5001, "client"), (6009, 5001, "check"), (6010, 5001, "-")]
BY_AWS, BY_STRANGER = Door("balancer:6001", AWS), Door("balancer:6002", AWS_STRANGE)
BY_AZURE, BY_GCP, BY_GCP_GONE = Door("balancer:6003", AZURE), Door("balancer:6004", GCP), Door("balancer:6005", GCP_GONE)
BY_BOTH, BY_OTHER = Door("balancer:6006", AWS_BOTH, True), Door("balancer:6007", AWS_STRANGE, True)
BY_NOBODY, LINK = Door("balancer:6008", "link"), Door("roadstead:5001", "link")
NODES, GUARDED, PEOPLE = Door("roadstead:5000", "nodes"), Door("roadstead:5002", "guarded", True), Door("roadstead:5003", "people", True)
NODES6, BY_AWS6 = Door("roadstead6:5004", "nodes6"), Door("balancer6:6001", AWS)


@dataclasses.dataclass(frozen=True)
class Case:
    """A client on a host pulls through a door, with a certificate or as a user where it has an identity. Which statement decides,
    or why nobody gets as far as that: `refusal` is the word for a connection that is refused, or the status of an answer."""

    title: str
    host: str
    door: Door
    statement: str = "default"
    refusal: str = ""
    image: str = IMAGE
    identity: str = ""
    password: str = PASSWORD
    is_allowed: bool = False


def allowed(title, host, door, statement, **more):
    """A case in which the client gets the image."""
    return Case(title, host, door, statement, is_allowed=True, **more)


CASES = [
    allowed("AWS endpoint", "node-a", BY_AWS, "clouds"),
    Case("AWS endpoint that is not named", "node-a", BY_STRANGER),
    Case("image for nobody", "node-a", BY_AWS, "secret", image=SECRET),
    allowed("Azure endpoint", "node-b", BY_AZURE, "clouds"),
    allowed("GCP endpoint", "node-a", BY_GCP, "clouds"),
    Case("GCP endpoint that is denied", "node-a", BY_GCP_GONE, "gcp-gone"),
    Case("balancer that names no endpoint", "node-a", BY_NOBODY),
    Case("node before a balancer's listener", "node-a", LINK),
    allowed("source", "node-a", NODES, "nodes"),
    Case("source that is excepted", "node-b", NODES),
    allowed("certificate", "node-a", GUARDED, "builders", identity=BUILDER),
    Case("certificate of another", "node-a", GUARDED, identity=VISITOR),
    Case("no certificate", "node-a", GUARDED, refusal="no_certificate"),
    allowed("endpoint and certificate", "node-b", BY_BOTH, "both", identity=BUILDER),
    Case("endpoint and certificate of another", "node-b", BY_BOTH, identity=VISITOR),
    Case("certificate by another endpoint", "node-b", BY_OTHER, identity=BUILDER),
    allowed("user", "node-a", PEOPLE, "users", identity=CI),
    Case("user whom no statement names", "node-a", PEOPLE, identity=GUEST),
    Case("user with a wrong password", "node-a", PEOPLE, refusal="401", identity=CI, password="guess"),
    Case("no user", "node-a", PEOPLE, refusal="401"),
]
CASES_V6 = [
    allowed("IPv6 source", "node-a", NODES6, "nodes"),
    Case("IPv6 source that is excepted", "node-b", NODES6),
    allowed("IPv6 to the balancer", "node-b", BY_AWS6, "clouds"),
]


class Registry(upstreams.Plain):
    """A registry that is known by a name, and whose network roadstead may enter."""

    def __init__(self, network, data, made):
        super().__init__(network["registry"], data, made)
        self._network = network.v4

    def url(self):
        return f"http://{self.place.name}:{self.port}"

    def keys(self, registry):
        return f'addresses = ["{self._network}"]\n'


class Site:
    """What runs on the hosts that are not the clients'; it ends with the network."""

    def __init__(self, network, data, made):
        need("htpasswd")
        self.network = network
        self.registry = Registry(network, data, made)
        self.registry.start()
        here = network["roadstead"]
        authority = Authority(here)
        authority.issue("server", ["DNS:roadstead", "DNS:balancer"])
        self.ca, self.certificates = authority.certificate, {
            BUILDER: authority.issue("builder", [f"URI:{BUILDER}"], "clientAuth"),
            VISITOR: authority.issue("visitor", [f"URI:{VISITOR}"], "clientAuth"),
        }
        for flags, user in (("-Bbc", CI), ("-Bb", GUEST)):
            here.run(["htpasswd", flags, here.path("users"), user.removeprefix("user:"), PASSWORD])
        hosts = {name.replace("-", "_"): host for name, host in network.hosts.items()}
        listeners = LISTENERS + ("" if network.without_v6 else LISTENER_V6)
        self.roadstead = proxy.Roadstead(here, listeners.format(**hosts) + pulls.registries(self.registry), port=5000,
                                         policy=POLICY.format(net=network, **hosts))
        self.roadstead.start()
        self.balance(network["balancer"], ROUTES)

    def balance(self, host, routes):
        """Has a balancer run on a host."""
        address = self.network["roadstead"].address
        host.start("balancer", [sys.executable, balancer.__file__, *(f"{at}={address}:{port}={said}" for at, port, said in routes)])
        wait_until("the balancer is ready", lambda: os.path.getsize(host.path("balancer.log")) > 0)

    def keys(self, case):
        """What the client of a case has with it."""
        kind, _, name = case.identity.partition(":")
        return Keys(self.ca, self.certificates.get(case.identity, ()), (name, case.password) if kind == "user" else ())

    def audit(self, start=0):
        """The records of the audit log from a number on."""
        with open(self._audit_log(), encoding="utf-8") as log:
            lines = [json.loads(line) for line in log if line.endswith("\n")]
        return [line for line in lines if "event" in line][start:]

    def _audit_log(self):
        return self.network["roadstead"].path("audit.log")

    def end(self):
        """Stops roadstead. What its audit log tells is chained, and nobody was served without a decision."""
        self.roadstead.stop()
        self.network["roadstead"].run([self.roadstead.binary(), "audit", "verify", "--strict", self._audit_log()])
        served = [record for record in self.audit() if record.get("bytes") and "repository" in record
                  and record["status"] < 400 and record.get("decision") != "allow"]
        check(not served, f"served without a decision: {served[:3]}")


def cases(kind, table, place, data, made):
    """Every case of a table with one kind of client, one client on each host."""
    with Network(place, HOSTS) as network:
        if network.without_v6 and any(case.door.is_v6() for case in table):
            raise Skip(f"no IPv6 to be had: {network.without_v6}")
        site = Site(network, data, made)
        client_on = functools.cache(lambda name: kind(network[name]))
        faults = []
        for case in table:
            try:
                judge(case, client_on(case.host), site)
            except Failed as fault:
                faults.append(f"{case.title}: {fault}")
        check(not faults, "; ".join(faults))
        site.end()
        decisions = {what for what in map(told, site.audit()) if what[0] == "decision"}
        others = decisions - {record_of(case, network) for case in table}
        check(not others, f"the audit log tells of what nobody did: {others}")
        check_upstream(site)


def judge(case, client, site):
    """The client gets its image or does not, and the audit log says why."""
    start, expected = len(site.audit()), record_of(case, site.network)
    try:
        client.pull(case.image, case.door, site.keys(case))
        pulled = True
    except Failed as failure:
        if case.is_allowed:
            raise
        pulled = False
    check(pulled == case.is_allowed, "the image was pulled")
    wait_until(f"the audit log tells of {expected}", lambda: expected in map(told, site.audit(start)), 5)
    if pulled:
        client.forget()


def record_of(case, network):
    """What the audit log is to say of a case, in the words of `told`."""
    host = network[case.host]
    address = host.v6 if case.door.is_v6() else host.address
    if case.refusal == "401":
        return "answer", case.door.endpoint, address, 401
    if case.refusal:
        return "connection", case.door.endpoint, address, case.refusal
    return "decision", case.door.endpoint, address, case.identity, "allow" if case.is_allowed else "deny", case.statement


def told(record):
    """What a record says that cases are about: a decision, a refused connection, or an answer that had no decision."""
    endpoint, address = record.get("endpoint", {"id": ""}), record.get("client_ip")
    name = ":".join(filter(None, (endpoint.get("cloud"), endpoint["id"])))
    if record["event"] == "connection":
        return "connection", name, address, record["error_code"]
    if "decision" in record:
        return "decision", name, address, record.get("identity", [""])[0], record["decision"], record["statement"]
    return "answer", name, address, record["status"]


def check_upstream(site):
    """What clients were refused was not asked for, and what they got left the registry once."""
    with open(site.registry.place.path("registry.log"), encoding="utf-8") as log:
        check(SECRET.partition("/")[2].partition(":")[0] not in log.read(), "the registry was asked for what nobody may have")
    sends = site.registry.sends()
    check(sends and all(len(lengths) == 1 for lengths in sends.values()), f"not every blob left the registry once: {dict(sends)}")


# Connections that end before a request: host, what curl is told, the listener that refuses, whose connection it is and by which
# endpoint as far as that is known, and why.
TLS = ["--cacert", "{ca}"]
FORGED = ["--cert", "{forged[0]}", "--key", "{forged[1]}"]
CLAIM = ["--haproxy-protocol"]
REFUSALS = {
    "balancer sends no header": ("node-a", ["http://balancer:6010"], "link", "balancer", "link", "proxy_header"),
    "node sends a header": ("node-a", [*CLAIM, "http://roadstead:5001"], "link", "node-a", "link", "proxy_stranger"),
    "node sends a header to all": ("node-a", [*CLAIM, "http://roadstead:5000"], "nodes", "node-a", "nodes", "proxy_stranger"),
    "node plays the balancer": ("node-b", ["http://node-b:6001"], "link", "node-b", "link", "proxy_stranger"),
    "node's header behind the balancer's": ("node-a", [*CLAIM, "http://balancer:6001"], "link", "node-a", AWS, "proxy_header"),
    "no certificate": ("node-a", [*TLS, "https://roadstead:5002"], "guarded", "node-a", "guarded", "no_certificate"),
    "no certificate by an endpoint": ("node-a", [*TLS, "https://balancer:6006"], "guarded", "node-a", AWS_BOTH, "no_certificate"),
    "forged certificate": ("node-a", [*TLS, *FORGED, "https://roadstead:5002"], "guarded", "node-a", "guarded", "certificate"),
}


def refusals(place, data, made):
    """Connections that end before a request, by curl: each is recorded and counted, and nothing is asked for on its behalf."""
    need("curl")
    with Network(place, HOSTS) as network:
        site = Site(network, data, made)
        site.balance(site.network["node-b"], [(6001, 5001, AWS)])
        forged = Authority(site.network["node-a"]).issue("forged", [f"URI:{BUILDER}"], "clientAuth")
        faults = []
        for title, (name, argv, listener, whose, endpoint, reason) in REFUSALS.items():
            counter = f'roadstead_refused_connections_total{{endpoint="{listener}",reason="{reason}"}}'
            argv = [argument.format(ca=site.ca, forged=forged) for argument in argv]
            start, counted = len(site.audit()), count(site, counter)
            try:
                status = curl(site.network[name], *argv[:-1], argv[-1] + "/v2/registry.test/e2e/multi/manifests/oci")
                check(status == 0, f"answered with {status}")
                expected = ("connection", endpoint, network[whose].address, reason)
                wait_until(f"the audit log tells of {expected}", lambda: expected in map(told, site.audit(start)), 5)
                check(count(site, counter) == counted + 1, f"{counter} is {count(site, counter)} and was {counted}")
            except Failed as fault:
                faults.append(f"{title}: {fault}")
        check(not faults, "; ".join(faults))
        health_check(site)
        site.end()
        probes = {record["client_ip"] for record in site.audit() if record.get("probe")}
        check(probes == {network["balancer"].address}, f"the audit log tells of health checks from {probes}")
        check(not site.registry.sends(), "something was fetched for nobody")


def health_check(site):
    """The balancer's own connections learn whether roadstead is ready, and nothing else."""
    node = site.network["node-a"]
    ready = curl(node, "http://balancer:6009/readyz")
    check(ready == 200, f"the balancer's health check was answered with {ready}")
    served = curl(node, "http://balancer:6009/v2/registry.test/e2e/multi/manifests/oci")
    check(served == 403, f"a health check asked for an image and was answered with {served}")
    asked = curl(node, "http://balancer:6001/readyz")
    check(asked in (403, 404), f"a client asked for /readyz and was answered with {asked}")


def count(site, counter):
    """What a counter stands at."""
    return sum(int(line.rpartition(" ")[2]) for line in site.roadstead.metrics() if line.startswith(counter))


def headers(place, data, made):
    """The balancer writes what the clouds write: headers recorded or worked out elsewhere."""
    del place, data, made
    source, destination = ("10.1.2.3", 40000), ("10.9.8.7", 443)
    for what, rest in {
        "azure:536873660": "2111001b0a0102030a0908079c4001bb0300043d644a45ee000501bc0a0020",
        "gcp:18446744072646845442": "2111001e0a0102030a0908079c4001bb030004ce005b27e00008ffffffffc0a86402",
        "check": "20000007030004a9b87e8f",
    }.items():
        made_here = balancer.header(what, source, destination).hex()
        check(made_here == "0d0a0d0a000d0a515549540a" + rest, f"the header for {what} is {made_here}")


TESTS = [
    ("private link / headers", headers),
    ("private link / refused connections", refusals),
    *((f"private link / {name}", functools.partial(cases, kind, CASES))
      for name, kind in (("containerd-ctr", ByCtr), ("containerd-cri", ByCri), ("podman", ByPodman))),
    ("private link / IPv6", functools.partial(cases, ByPodman, CASES_V6)),
]
