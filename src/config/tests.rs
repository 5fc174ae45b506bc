mod limits;
mod listeners;
mod policy;
mod users;

use std::path::Path;

use super::*;

const FILES: &[(&str, &str)] = &[
    ("tls.crt", "-----BEGIN CERTIFICATE-----\n"),
    ("tls.key", "-----BEGIN PRIVATE KEY-----\n"),
    ("client.crt", "-----BEGIN CERTIFICATE-----\n"),
    ("client.key", "-----BEGIN EC PRIVATE KEY-----\n"),
    ("corp-ca.pem", "# ours\n-----BEGIN CERTIFICATE-----\n"),
    ("hub-token", "hunter2\n"),
    ("users.htpasswd", "# nobody yet\n"),
    ("empty", "\n"),
];

fn environment(name: &str) -> Option<String> {
    match name {
        "HOME" => Some("/home/u".to_owned()),
        "CORP_REGISTRY_PASSWORD" => Some("hunter3".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

/// A folder with the files that the tests' configurations name.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in FILES {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn read(text: &str, folder: &Path) -> Result<(Config, Vec<Warning>), Faults> {
    Config::parse(text, &folder.join("roadstead.toml"), &environment)
}

fn good(text: &str) -> Config {
    let folder = folder();
    match read(text, folder.path()) {
        Ok((config, _)) => config,
        Err(faults) => panic!("{faults}"),
    }
}

/// The faults of `text` as they are printed, with the folder's name left out.
fn faults(text: &str) -> String {
    let folder = folder();
    let faults = read(text, folder.path()).expect_err(text).to_string();
    faults.replace(&format!("{}/", folder.path().display()), "")
}

fn warnings(text: &str) -> Vec<String> {
    let folder = folder();
    let (_, warnings) = read(text, folder.path()).unwrap();
    warnings.iter().map(|warning| warning.to_string().replace(&format!("{}/", folder.path().display()), "")).collect()
}

/// A registry section with one more line, which is line 4.
fn registry_with(line: &str) -> String {
    format!("[[registry]]\nname = 'a.example'\nurls = ['https://a.example']\n{line}\n")
}

const PEM_REMEDY: &str = "name a file that the user running roadstead can read \
                          (relative paths start at the configuration file's folder)";

/// A text, the line and key of its one fault, and what is told of it.
type Case<'a> = (&'a str, &'a str, &'a str);

fn each(cases: &[Case<'_>]) {
    for (text, place, told) in cases {
        assert_eq!(faults(text), format!("roadstead.toml:{place} {told}"));
    }
}

#[test]
fn keys_that_do_not_fit_are_told() {
    each(&[
        ("[cache]\nmax_size = 1 GiB", "2:", "not TOML: string values must be quoted; correct the line as toml.io describes"),
        ("\n[cach]\n", "2: cach:", "unknown key; did you mean cache?"),
        ("[cache]\nmaxsize = 1\n", "2: cache.maxsize:", "unknown key; did you mean max_size?"),
        ("[cache]\nzzz = 1\n", "2: cache.zzz:", "unknown key; the keys here are directory, max_size, memory"),
        ("[cache]\n\"a\\nb\" = 1\n", "2: cache.a\\nb:", "unknown key; the keys here are directory, max_size, memory"),
        ("[[cache]]\n", "1: cache:", "expected a table, found array; write it once, as [cache]"),
        ("[listener]\n", "1: listener:", "expected a list of tables, found table; write [[listener]], with two brackets"),
        ("cache = 1", "1: cache:", "expected a table, found integer; write { … }"),
        ("[cache]\ndirectory = 1\n", "2: cache.directory:", "expected text, found integer; write it in quotes"),
        (
            "[[registry]]\nname = 'a'\nurls = 'https://a'\n",
            "3: registry.urls:",
            "expected a list, found string; write it in brackets: [\"…\"]",
        ),
        ("[cache]\ndirectory = ' '\n", "2: cache.directory:", "empty; write a value or leave the key out"),
    ]);
}

#[test]
fn values_that_mean_nothing_are_told() {
    each(&[
        ("[cache]\nmax_size = '5 gib'\n", "2: cache.max_size:", "\"gib\" is not a unit of size; did you mean \"5 GiB\"?"),
        ("[cache]\nmemory = 0\n", "2: cache.memory:", "zero; write a size such as \"1 GiB\""),
    ]);
}

#[test]
fn addresses_that_cannot_be_opened_are_told() {
    each(&[
        (
            "[[listener]]\nname = 'x'\n",
            "1: listener.address:",
            "missing; write where it listens, such as address = \"127.0.0.1:5000\"",
        ),
        (
            "[admin]\naddress = 'localhost:1'\n",
            "2: admin.address:",
            "\"localhost:1\" is not an address with a port; write ip:port, such as \"127.0.0.1:5000\", \"0.0.0.0:5000\" or \"[::]:5000\"",
        ),
        (
            "[admin]\naddress = '127.0.0.1:5000'\n",
            "2: admin.address:",
            "127.0.0.1:5000 clashes with 127.0.0.1:5000, the default of [[listener]]; choose another port",
        ),
        (
            "[[listener]]\naddress = '127.0.0.1:5001'\n",
            "2: listener.address:",
            "127.0.0.1:5001 clashes with 127.0.0.1:5001, the default of [admin]; choose another port",
        ),
        (
            "[[listener]]\naddress = '127.0.0.1:1'\n[[listener]]\nname = 'b'\naddress = '0.0.0.0:1'\n[policy]\ndefault = 'allow'\n",
            "5: listener.address:",
            "0.0.0.0:1 clashes with 127.0.0.1:1 of listener.address on line 2; choose another port",
        ),
        (
            "[[listener]]\naddress = '127.0.0.1:1'\n[[listener]]\naddress = '127.0.0.1:2'\n",
            "4: listener.address:",
            "another listener is named \"default\", first on line 2; give each listener a name of its own",
        ),
        (
            "[[listener]]\naddress = '127.0.0.1:1'\nname = 'a b'\n",
            "3: listener.name:",
            "\"a b\" is not a name; use at most 64 letters, digits, '.', '_' and '-'",
        ),
        (
            "[[listener]]\naddress = '127.0.0.1:1'\nmax_connections = 0\n",
            "3: listener.max_connections:",
            "0 is not a number of 1 or more; write a larger number",
        ),
        (
            "[[listener]]\naddress = '127.0.0.1:1'\ntls = { certificate = 'tls.crt' }\n",
            "3: listener.tls.key:",
            "missing; name the PEM file with the private key",
        ),
        (
            "[[listener]]\naddress = '127.0.0.1:1'\ntls = { certificate = 'tls.key', key = 'tls.key' }\n",
            "3: listener.tls.certificate:",
            "tls.key holds no PEM block of a CERTIFICATE; name the right file",
        ),
    ]);
}

#[test]
fn port_0_finds_a_free_one_and_clashes_with_none() {
    let config = good("[[listener]]\naddress = '127.0.0.1:0'\n[admin]\naddress = '127.0.0.1:0'\n");
    assert_eq!(config.listeners[0].address, config.admin.address);
}

#[test]
fn an_open_proxy_and_wrong_egress_are_told() {
    each(&[
        (
            "[[listener]]\naddress = '[::]:5000'\n",
            "2: listener.address:",
            "other machines reach this address and there is no policy; write [[policy.statement]] sections that say who may pull what, [policy] default = \"allow\" to let everybody who reaches it pull, or listen on 127.0.0.1",
        ),
        ("[policy]\ndefault = 'alow'\n", "2: policy.default:", "\"alow\" is not an effect; write \"allow\" or \"deny\""),
        ("[egress]\nallow = 'a'\n", "2: egress.allow:", "expected a list, found string; write it in brackets: [\"…\"]"),
        (
            "[egress]\nallow = [\n'a.example',\n'https://b.example']\n",
            "4: egress.allow:",
            "a URL stands where a host is wanted; write only its host, or host:port",
        ),
        (
            "[egress]\nallow = ['10.0.0.1']\n",
            "2: egress.allow:",
            "\"10.0.0.1\" is an address, and would be open to every registry; name it in the realm or blob_hosts of its registry",
        ),
    ]);
}

#[test]
fn registries_that_cannot_be_asked_are_told() {
    each(&[
        ("[[registry]]\n", "1: registry.name:", "missing; write what clients call it, such as name = \"docker.io\""),
        (
            "[[registry]]\nname = 'a/b'\n",
            "2: registry.name:",
            "\"a/b\" is not a registry name; write a host, host:port or *.suffix",
        ),
        (
            "[[registry]]\nname = 'a.example'\n",
            "1: registry.urls:",
            "missing; write where the registry is, such as urls = [\"https://registry.example\"]",
        ),
        (
            "[[registry]]\nname = 'a.example'\nurls = []\n",
            "3: registry.urls:",
            "no URL; write at least one, such as [\"https://registry.example\"]",
        ),
        (
            "[[registry]]\nname = 'a.example'\nurls = ['a.example']\n",
            "3: registry.urls:",
            "\"a.example\" has no scheme; write https://host[:port] with an optional path",
        ),
        (
            "[[registry]]\nname = '*.a.example'\nurls = ['https://a.example']\n",
            "3: registry.urls:",
            "\"https://a.example\" names one host for a wildcard; write https://*, where * stands for the host asked for",
        ),
    ]);
}

#[test]
fn what_stands_once_is_told_where_it_stood_first() {
    each(&[
        (
            "[[registry]]\nname = 'docker.io'\n[[registry]]\nname = 'Index.Docker.io'\n",
            "4: registry.name:",
            "docker.io is configured already, first on line 2; merge the two, or remove one",
        ),
        (
            "[[registry]]\nname = '*.pkg.dev'\n[[registry]]\nname = 'a.pkg.dev'\n[[registry]]\nname = '*.PKG.dev'\n",
            "6: registry.name:",
            "*.pkg.dev is configured already, first on line 2; merge the two, or remove one",
        ),
        (
            "[[registry]]\nname = 'ghcr.io'\ndefault = true\n[[registry]]\nname = 'quay.io'\ndefault = true\n",
            "6: registry.default:",
            "another registry is the default, first on line 3; keep default = true in one",
        ),
        (
            &registry_with("hosts = ['m.example', 'M.example']"),
            "4: registry.hosts:",
            "m.example names a registry already, first on line 4; let each host name one registry",
        ),
    ]);
}

#[test]
fn registry_keys_with_faults_are_told() {
    each(&[
        (
            &registry_with("default = 'yes'"),
            "4: registry.default:",
            "expected true or false, found string; write true or false without quotes",
        ),
        (
            &registry_with("realm = 'http://a.example/token'"),
            "4: registry.realm:",
            "is http though the registry is https: credentials would travel in the clear; write https://…",
        ),
        (
            &registry_with("blob_hosts = ['cdn*.a.example']"),
            "4: registry.blob_hosts:",
            "\"cdn*.a.example\" is not a host; write a host, host:port or *.suffix",
        ),
        (
            &registry_with("addresses = ['10.1.2.3/8']"),
            "4: registry.addresses:",
            "\"10.1.2.3/8\" has bits beyond its prefix; write \"10.0.0.0/8\" or \"10.1.2.3/32\"",
        ),
        (
            &registry_with("private_endpoint = 'vpce.example'"),
            "4: registry.private_endpoint:",
            "\"vpce.example\" is neither an address nor a host with a port; write ip:port or host:port, such as \"10.1.2.3:443\" or \"vpce.example:443\"",
        ),
        (
            &registry_with("source_address = '0.0.0.0'"),
            "4: registry.source_address:",
            "0.0.0.0 is no address to start from; write an address of this machine, such as \"10.1.2.3\"",
        ),
        (
            &registry_with("interface = 'much-too-long-name'"),
            "4: registry.interface:",
            "\"much-too-long-name\" is not the name of a network interface; write a name as `ip link` shows it, such as \"eth1\"",
        ),
        (
            &registry_with("proxy = 'http://u:hunter2@p.example:3128'"),
            "4: registry.proxy:",
            "the URL has a user name or password in it; move it to the key proxy_credentials",
        ),
        (
            &registry_with("proxy = 'https://p.example'"),
            "4: registry.proxy:",
            "\"https://p.example\" is not http://: to the proxy itself there is no TLS; write http://host:port",
        ),
        (
            &registry_with("proxy_credentials = { username = 'u', password = { file = 'hub-token' } }"),
            "4: registry.proxy_credentials:",
            "there is no proxy beside it; write proxy = \"http://host:port\", or remove this",
        ),
        (
            &registry_with("private_endpoint = '10.1.2.3:443'\nproxy = 'http://p.example'"),
            "5: registry.proxy:",
            "private_endpoint stands on line 4 already; keep one of proxy and private_endpoint",
        ),
        (
            "[egress]\nproxy = 'http://p.example'\nproxy_from_environment = true\n",
            "3: egress.proxy_from_environment:",
            "proxy stands on line 2 already; keep one of proxy and proxy_from_environment",
        ),
        (
            &registry_with("source_address = '10.0.0.1'\ninterface = 'eth1'"),
            "5: registry.interface:",
            "source_address stands on line 4 already; keep one of source_address and interface",
        ),
    ]);
}

#[test]
fn what_cannot_work_together_is_told() {
    let wildcard = |line: &str| format!("[[registry]]\nname = '*.a.example'\nurls = ['https://*']\n{line}\n");
    each(&[
        (
            "[[registry]]\nname = 'a.example'\nurls = ['http://10.0.0.1']\nprivate_endpoint = '10.1.2.3:443'",
            "4: registry.private_endpoint:",
            "http://10.0.0.1/ has an address already; write the registry's host name in urls, or remove this",
        ),
        (
            &wildcard("default = true"),
            "4: registry.default:",
            "*.a.example is many registries; write it for a registry that is one host",
        ),
        (
            &wildcard("hosts = ['a.mirror']"),
            "4: registry.hosts:",
            "*.a.example is many registries; write it for a registry that is one host",
        ),
    ]);
    good(&wildcard("default = false"));
}

#[test]
fn files_and_secrets_that_are_missing_are_told() {
    each(&[
        (
            &registry_with("ca = 'none.pem'"),
            "4: registry.ca:",
            &format!("none.pem cannot be read: No such file or directory (os error 2); {PEM_REMEDY}"),
        ),
        (
            &registry_with("client_certificate = { key = 'client.key' }"),
            "4: registry.client_certificate.certificate:",
            "missing; name the PEM file with the certificate chain",
        ),
        (
            &registry_with("max_connections = '9'"),
            "4: registry.max_connections:",
            "expected a whole number, found string; write it without quotes",
        ),
        (
            &registry_with("credentials = { kind = 'ecr', username = 'u', password = 'p' }"),
            "4: registry.credentials.kind:",
            "\"ecr\" is not a kind of credentials in this version of roadstead; write kind = \"basic\"",
        ),
        (
            &registry_with("credentials = { kind = 'basic', username = 'u' }"),
            "4: registry.credentials.password:",
            "missing; write { file = \"…\" } or { env = \"…\" }",
        ),
        (
            &registry_with("credentials = { kind = 'basic', username = 'u', password = { file = 'no' } }"),
            "4: registry.credentials.password.file:",
            &format!("no cannot be read: No such file or directory (os error 2); {PEM_REMEDY}"),
        ),
        (
            &registry_with("credentials = { kind = 'basic', username = 'u', password = { file = 'empty' } }"),
            "4: registry.credentials.password.file:",
            "empty is empty; put the secret into it",
        ),
        (
            &registry_with("credentials = { kind = 'basic', username = 'u', password = { env = 'EMPTY' } }"),
            "4: registry.credentials.password.env:",
            "the environment variable \"EMPTY\" is not set, or empty; set it for the user running roadstead",
        ),
    ]);
}

#[test]
fn freshness_that_means_nothing_is_told() {
    each(&[
        (
            &registry_with("[[registry.freshness]]\ntags = 'a['"),
            "5: registry.freshness.tags:",
            "\"a[\" is not a pattern: unclosed character class; missing ']'; write one such as \"v[0-9]*\"",
        ),
        (
            &registry_with("[[registry.freshness]]\nfor = 5"),
            "5: registry.freshness.for:",
            "\"5\" has no unit; write \"5s\" for seconds or \"5m\" for minutes",
        ),
        (
            &registry_with("[[registry.freshness]]\nstale_if_error = 'forever'"),
            "5: registry.freshness.stale_if_error:",
            "\"forever\" is not a time; write one number and one unit of ms, s, m, h, d, w, such as \"15m\" or \"1.5s\"",
        ),
    ]);
}

#[test]
fn eight_faults_come_out_of_one_run_by_line() {
    let text = "
[cache]
max_size = '5 gib'
memmory = 1
[[listener]]
address = '0.0.0.0:5000'
[[registry]]
name = 'docker.io'
ca = 'none.pem'
credentials = { kind = 'basic', username = 'u', password = { env = 'UNSET' } }
[[registry]]
name = 'registry-1.docker.io'
realm = 'auth.docker.io'
addresses = ['10.0.0.0/33']
";
    let told = faults(text);
    let places: Vec<&str> = told.lines().map(|line| line.split(": ").next().unwrap()).collect();
    let lines = [3, 4, 6, 9, 10, 12, 13, 14].map(|line| format!("roadstead.toml:{line}"));
    assert_eq!(places, lines, "{told}");
}

#[test]
fn what_works_and_is_not_meant_is_warned_of() {
    for (text, warning) in [
        (
            "[admin]\naddress = '0.0.0.0:5001'\n",
            "2: admin.address: everybody who reaches this address may read and purge the cache; listen on 127.0.0.1, or guard it by a firewall",
        ),
        (
            "[policy]\ndefault = 'deny'\n",
            "2: policy.default: without a statement that allows, this refuses every request; write default = \"allow\", or statements with effect = \"allow\"",
        ),
        (
            &registry_with("credentials = { kind = 'basic', username = 'u', password = 'p' }"),
            "4: registry.credentials.password: the secret stands in the configuration file; write { file = \"…\" } or { env = \"…\" }",
        ),
        (
            "[[registry]]\nname = 'a'\nurls = ['http://a']\ncredentials = { kind = 'basic', username = 'u', password = { file = 'hub-token' } }",
            "4: registry.credentials: the credentials travel in the clear: the registry is http; write https:// in urls",
        ),
        (
            &registry_with("addresses = ['::/0']"),
            "4: registry.addresses: ::/0 lets its names lead to any address, this machine's included; name the networks it is in",
        ),
        (
            &registry_with("freshness = [{ for = '1h' }, { tags = 'v*', for = '1d' }]"),
            "4: registry.freshness.tags: this rule never counts: one before it matches all tags; move it up",
        ),
    ] as [(&str, &str); 6]
    {
        // A statement, because a registry with credentials needs one.
        let statement = "\n[[policy.statement]]\nid = 'a'\neffect = 'allow'\n";
        let text = if text.contains("[policy]") { text.to_owned() } else { format!("{text}{statement}") };
        assert_eq!(warnings(&text), [format!("roadstead.toml:{warning}")]);
    }
}

#[test]
fn without_a_file_the_public_registries_are_served_on_loopback() {
    let (config, warnings) = Config::built_in(&environment).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.cache.directory, Path::new("/home/u/.cache/roadstead"));
    assert_eq!((config.cache.max_size, config.cache.memory), (None, 256 << 20));
    let [listener] = &config.listeners[..] else { panic!("{:?}", config.listeners) };
    assert_eq!((&*listener.name, listener.address.to_string()), ("default", "127.0.0.1:5000".to_owned()));
    assert_eq!((listener.max_connections, config.admin.address.to_string()), (10_000, "127.0.0.1:5001".to_owned()));
    assert_eq!(config.policy.default, Effect::Allow);
    let names: Vec<String> = config.registries.iter().map(|registry| registry.label()).collect();
    let expected =
        "docker.io ghcr.io quay.io registry.k8s.io gcr.io *.pkg.dev public.ecr.aws mcr.microsoft.com nvcr.io registry.gitlab.com";
    assert_eq!(names.join(" "), expected);
    for registry in &config.registries {
        assert_eq!(registry.default, registry.label() == "docker.io");
        assert!(registry.urls.iter().all(|url| url.scheme() == "https"));
        assert_eq!(registry.max_connections, 64);
        let [rule] = &registry.freshness[..] else { panic!("{:?}", registry.freshness) };
        assert_eq!((rule.fresh, rule.stale_if_error.as_secs()), (Some(Duration::from_secs(60)), 30 * 86_400));
        assert!(rule.tags.is_match("latest"));
    }
}

#[test]
fn the_cache_is_where_the_environment_says_or_nowhere() {
    let built_in = |home: Option<&str>, xdg: Option<&str>| {
        let variable = |name: &str| if name == "HOME" { home } else { xdg }.map(str::to_owned);
        Config::built_in(&variable).map(|(config, _)| config.cache.directory).map_err(|faults| faults.to_string())
    };
    assert_eq!(built_in(Some("/h"), Some("/x")), Ok("/x/roadstead".into()));
    assert_eq!(built_in(Some("/h"), Some("relative")), Ok("/h/.cache/roadstead".into()));
    assert_eq!(
        built_in(None, Some("")).unwrap_err(),
        "built-in configuration: cache.directory: not set, and neither are XDG_CACHE_HOME and HOME; \
         write [cache] directory into a configuration file and name it with --config"
    );
}

#[test]
fn a_known_registry_gets_what_its_section_leaves_out_unless_it_is_another_place() {
    let config = good(
        "
[[registry]]
name = 'index.docker.io'
max_connections = 3
[[registry]]
name = 'ghcr.io'
urls = ['https://mirror.example/ghcr']
[[registry]]
name = 'quay.io'
urls = ['https://quay.io:443/']
blob_hosts = []
[[registry]]
name = 'us-docker.pkg.dev'
",
    );
    let [hub, ghcr, quay, artifacts] = &config.registries[..] else { panic!("{:?}", config.registries) };
    assert_eq!((hub.urls[0].as_str(), hub.max_connections, hub.default), ("https://registry-1.docker.io/", 3, false));
    assert_eq!(hub.realm.as_ref().map(Url::as_str), Some("https://auth.docker.io/token"));
    assert!(hub.blob_hosts.iter().any(|host| host.matches("production.cloudflare.docker.com", 443, 443)));
    assert_eq!((ghcr.urls[0].as_str(), &ghcr.realm, ghcr.blob_hosts.len()), ("https://mirror.example/ghcr", &None, 0));
    assert_eq!((quay.realm.as_ref().map(Url::as_str), quay.blob_hosts.len()), (Some("https://quay.io/v2/auth"), 0));
    assert_eq!(artifacts.urls[0].as_str(), "https://us-docker.pkg.dev/");
}

#[test]
fn a_registry_has_what_its_section_says() {
    let config = good(
        "
[[registry]]
name = 'localhost:5001'
urls = ['http://localhost:5001/prefix/', 'https://r.example:5002']
hosts = ['Mirror.example:5000']
realm = 'https://127.0.0.1:5003/token'
blob_hosts = ['127.0.0.1:5004']
addresses = ['10.0.0.0/8', 'fd00::/8']
private_endpoint = '10.1.2.3:443'
source_address = '::ffff:10.1.2.4'
ca = 'corp-ca.pem'
client_certificate = { certificate = 'client.crt', key = 'client.key' }
credentials = { kind = 'basic', username = 'u', password = { file = 'hub-token' } }
[[registry.freshness]]
tags = 'v[0-9]*'
for = 'forever'
stale_if_error = '0s'
",
    );
    let registry = &config.registries[0];
    assert_eq!(registry.urls[0].as_str(), "http://localhost:5001/prefix");
    assert_eq!((&registry.hosts[..], registry.addresses.len()), (&["mirror.example:5000".to_owned()][..], 2));
    assert!(registry.ca.as_ref().is_some_and(|path| path.is_absolute() && path.ends_with("corp-ca.pem")));
    assert_eq!(registry.private_endpoint, Some(PrivateEndpoint::Address(([10, 1, 2, 3], 443).into())));
    assert_eq!(registry.source, Some(Source::Address([10, 1, 2, 4].into())));
    assert_eq!(registry.credentials.as_ref().map(|who| who.password.expose()), Some("hunter2"));
    let [versions, others] = &registry.freshness[..] else { panic!("{:?}", registry.freshness) };
    assert!(versions.tags.is_match("v1.2") && !versions.tags.is_match("latest") && others.tags.is_match("latest"));
    assert_eq!((versions.fresh, versions.stale_if_error), (None, Duration::ZERO));
}

#[test]
fn policy_lets_a_listener_beyond_loopback_be_opened() {
    for (address, default, beyond) in
        [("0.0.0.0:5000", "allow", true), ("[::1]:5000", "deny", false), ("[::ffff:127.0.0.1]:1", "allow", false)]
    {
        let config = good(&format!("[[listener]]\naddress = '{address}'\n[policy]\ndefault = '{default}'\n"));
        assert_eq!(config.listens_beyond_loopback(), beyond, "{address}");
        assert_eq!(config.policy.default == Effect::Allow, default == "allow");
    }
}

#[test]
fn a_proxy_is_taken_from_the_environment_only_where_it_is_asked_for() {
    let environment = |name: &str| match name {
        "https_proxy" => Some("http://u:hunter2@proxy.example:3128".to_owned()),
        "HTTP_PROXY" => Some("socks5://u:hunter2@proxy.example".to_owned()),
        "NO_PROXY" => Some("corp.example,<local>".to_owned()),
        _ => super::tests::environment(name),
    };
    let read = |text: &str| Config::parse(text, Path::new("roadstead.toml"), &environment);
    let silent = read("[egress]\nproxy_from_environment = false\n").unwrap().0;
    assert_eq!(silent.egress.proxy.all().count(), 0);
    let told = read("[egress]\nproxy_from_environment = true\n").unwrap_err().to_string();
    assert_eq!(
        told,
        "roadstead.toml:2: egress.proxy_from_environment: HTTP_PROXY \"socks5://proxy.example\" is neither https:// nor \
         http://; write http://[user:password@]host:port"
    );
    let without = |name: &str| if name == "HTTP_PROXY" { None } else { environment(name) };
    let (config, warnings) =
        Config::parse("[egress]\nproxy_from_environment = true\n", Path::new("roadstead.toml"), &without).unwrap();
    let proxies: Vec<&str> = config.egress.proxy.all().map(|proxy| proxy.url.as_str()).collect();
    assert_eq!((&proxies[..], warnings.len()), (&["http://proxy.example:3128/"][..], 1));
    assert!(warnings[0].message.contains("<local>") && !format!("{config:?}").contains("hunter2"));
}

#[test]
fn audit_settings_that_mean_nothing_are_told() {
    each(&[
        ("[audit]\nkeep = 3\n", "1: audit.output:", "missing; write output = \"FILE\" or output = \"stdout\""),
        (
            "[audit]\noutput = 'a'\nrotate = 'often'\n",
            "3: audit.rotate:",
            "\"often\" is not a size; write a number and a unit, such as \"200 GiB\" (1024 based) or \"200 GB\" (1000 based)",
        ),
        ("[audit]\noutput = 'a'\nrotate = 0\n", "3: audit.rotate:", "zero; write a size such as \"1 GiB\""),
        ("[audit]\noutput = 'a'\nkeep = 0\n", "3: audit.keep:", "0 is not a number of 1 or more; write a larger number"),
        (
            "[audit]\noutput = 'a'\nwhen_full = 'wait'\n",
            "3: audit.when_full:",
            "\"wait\" is not what can be done; write \"drop\" or \"block\"",
        ),
    ]);
    let told = "standard output is not rotated; remove it, or name a file as output";
    let warned = warnings("[audit]\noutput = 'stdout'\nrotate = '1 MiB'\nkeep = 2\n");
    assert_eq!(warned, [format!("roadstead.toml:3: audit.rotate: {told}"), format!("roadstead.toml:4: audit.keep: {told}")]);
}

#[test]
fn the_audit_log_is_off_unless_asked_for_and_rotates_unless_told_not_to() {
    assert_eq!(good("").audit, None);
    let stdout = good("[audit]\noutput = 'stdout'\nwhen_full = 'block'\n").audit.unwrap();
    assert_eq!(stdout, Audit { output: AuditOutput::Stdout, when_full: WhenFull::Block });
    for (rotate, expected) in [("", Some(100 << 20)), ("rotate = '2 KiB'", Some(2048)), ("rotate = 'never'", None)] {
        let audit = good(&format!("[audit]\noutput = '/a/log'\n{rotate}\n")).audit.unwrap();
        assert_eq!(audit.output, AuditOutput::File { path: "/a/log".into(), rotate: expected, keep: 10 }, "{rotate}");
        assert_eq!(audit.when_full, WhenFull::Drop);
    }
}

/// The documented configuration with every key that stands behind a `#` switched on.
fn everything() -> String {
    let text = include_str!("../../config/roadstead.toml");
    let switch_on = |line: &str| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c != ' ') => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(switch_on).collect()
}

#[test]
fn the_documented_configuration_loads_as_it_stands_and_means_the_built_in_one() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/roadstead.toml"));
    let (config, warnings) = Config::load(path, &environment).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.effective(), Config::built_in(&environment).unwrap().0.effective());
}

#[test]
fn the_documented_configuration_has_every_key_and_loads_with_all_of_them() {
    let config = good(&everything());
    assert_eq!((config.listeners[0].max_connections, config.cache.memory, config.registries.len()), (10_000, 256 << 20, 2));
    assert_eq!(config.registries[0].freshness.len(), 2);
    let sections = [&KEYS, &cache::KEYS, &listener::KEYS, &listener::ADMIN_KEYS, &registry::KEYS, &egress::KEYS];
    let sections = sections.into_iter().chain([&super::policy::KEYS, &statement::KEYS, &conditions::KEYS, &audit::KEYS]);
    for key in sections.flat_map(|keys| keys.known) {
        let said = everything().lines().any(|line| {
            line.starts_with(&format!("{key} ="))
                || line.contains(&format!(" {key} = "))
                || line.trim_matches(['[', ']']).ends_with(key)
        });
        assert!(said, "{key} is not documented");
    }
}

#[test]
fn the_settings_that_hold_read_back_as_the_same() {
    let folder = folder();
    let never = "[audit]\noutput = 'a.log'\nrotate = 'never'\n".to_owned();
    let stdout = "[audit]\noutput = 'stdout'\nwhen_full = 'block'\n".to_owned();
    for text in [String::new(), everything(), never, stdout] {
        let settings = read(&text, folder.path()).unwrap().0.effective();
        let again = read(&settings.to_string(), folder.path()).unwrap_or_else(|faults| panic!("{faults}\n{settings}"));
        assert_eq!(again.0.effective(), settings);
    }
}

#[test]
fn no_secret_is_ever_printed() {
    let config = good(&everything());
    let (text, json) = (config.effective().to_string(), serde_json::to_string(&config.effective()).unwrap());
    for shown in [format!("{config:?}"), format!("{config:#?}"), text, json] {
        assert!(shown.contains("***") && !shown.contains("hunter"), "{shown}");
    }
    for text in [
        "[[registry]]\nname = 'a'\nurls = ['https://u:hunter2@a']\n",
        "[[registry]]\nname = 'a'\nurls = ['https://a']\ncredentials = { kind = 'basic', username = 'u', password = ['hunter2'] }\n",
        "[[registry]]\nname = 'a'\nurls = ['https://a']\ncredentials = 'hunter2'\n",
        "password = \"hunter2\n",
    ] {
        assert!(!faults(text).contains("hunter2"), "{}", faults(text));
    }
}

#[test]
fn a_file_that_cannot_be_read_is_one_fault() {
    let faults = Config::load(Path::new("/nowhere/roadstead.toml"), &environment).unwrap_err().to_string();
    let told =
        "/nowhere/roadstead.toml: cannot be read: No such file or directory (os error 2); name a readable file with --config";
    assert_eq!(faults, told);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "(\\[{0,2}(cache|registry|listener|policy|x)\\]{0,2}|(name|urls|for|address|max_size) = ([0-9]{1,3}|'[a-z*:/.0-9]{0,12}'|\\[\\]|\\{\\})|\n){0,12}|.{0,80}") {
        let _ = read(&text, Path::new("."));
    }
}
