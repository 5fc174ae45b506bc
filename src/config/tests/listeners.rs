//! What may be said of a listener beyond its address: whose word it takes, what its clients must show, where it leads.

use super::*;

/// A listener section with one more line, which is line 3, and two registries behind it.
fn with(line: &str) -> String {
    format!("[[listener]]\naddress = '127.0.0.1:1'\n{line}\n[[registry]]\nname = 'ghcr.io'\n[[registry]]\nname = '*.pkg.dev'\n")
}

#[test]
fn a_listener_has_what_its_section_says() {
    let config = good(&with(
        "default_registry = 'GHCR.io'\nproxy_protocol = { from = ['10.0.0.0/24', 'fd00::/8'] }\ntls = { certificate = 'tls.crt', \
         key = 'tls.key', client_ca = 'corp-ca.pem', more = [{ certificate = 'client.crt', key = 'client.key' }] }",
    ));
    let listener = &config.listeners[0];
    assert_eq!(listener.default_registry, Some("ghcr.io".parse().unwrap()));
    assert_eq!(listener.proxy_protocol.as_ref().map(|config| config.from.len()), Some(2));
    let tls = listener.tls.as_ref().unwrap();
    let names: Vec<_> = tls.certificates.iter().map(|pair| pair.certificate.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["tls.crt", "client.crt"]);
    let clients = tls.clients.as_ref().unwrap();
    assert!(clients.required && clients.ca.is_absolute() && clients.ca.ends_with("corp-ca.pem"));
    for (said, required) in [("require", true), ("optional", false)] {
        let tls =
            format!("tls = {{ certificate = 'tls.crt', key = 'tls.key', client_ca = 'corp-ca.pem', client_auth = '{said}' }}");
        let config = good(&with(&tls));
        assert_eq!(config.listeners[0].tls.as_ref().unwrap().clients.as_ref().unwrap().required, required);
    }
}

#[test]
fn faults_of_a_listener_are_told() {
    let known = "write the name of a [[registry]] that is one host";
    let tls = |keys: &str| with(&format!("tls = {{ certificate = 'tls.crt', key = 'tls.key', {keys} }}"));
    each(&[
        (
            &with("proxy_protocol = {}"),
            "3: listener.proxy_protocol.from:",
            "missing; name the networks of the load balancers, such as from = [\"10.0.0.0/24\"]",
        ),
        (
            &with("proxy_protocol = { from = [] }"),
            "3: listener.proxy_protocol.from:",
            "no network; name those of the load balancers, or remove proxy_protocol",
        ),
        (&with("proxy_protocol = true"), "3: listener.proxy_protocol:", "expected a table, found boolean; write { … }"),
        (
            &with("proxy_protocol = { from = ['10.0.0.1/24'] }"),
            "3: listener.proxy_protocol.from:",
            "\"10.0.0.1/24\" has bits beyond its prefix; write \"10.0.0.0/24\" or \"10.0.0.1/32\"",
        ),
        (
            &with("default_registry = 'docker.io'"),
            "3: listener.default_registry:",
            &format!("\"docker.io\" is not one of the registries; {known}"),
        ),
        (
            &with("default_registry = 'us.pkg.dev'"),
            "3: listener.default_registry:",
            &format!("\"us.pkg.dev\" is not one of the registries; {known}"),
        ),
        (
            &with("default_registry = 'a/b'"),
            "3: listener.default_registry:",
            &format!("\"a/b\" is not one of the registries; {known}"),
        ),
        (
            &tls("client_auth = 'require'"),
            "3: listener.tls.client_auth:",
            "nothing says whose certificates count; name the authorities in client_ca, or remove this",
        ),
        (
            &tls("client_ca = 'corp-ca.pem', client_auth = 'yes'"),
            "3: listener.tls.client_auth:",
            "\"yes\" is not a way to ask; write \"require\" or \"optional\"",
        ),
        (
            &tls("client_ca = 'tls.key'"),
            "3: listener.tls.client_ca:",
            "tls.key holds no PEM block of a CERTIFICATE; name the right file",
        ),
        (
            &tls("more = [{ certificate = 'tls.crt' }]"),
            "3: listener.tls.more.key:",
            "missing; name the PEM file with the private key",
        ),
        (
            &tls("more = { certificate = 'tls.crt', key = 'tls.key' }"),
            "3: listener.tls.more:",
            "expected a list of tables, found table; write [[listener.tls.more]], with two brackets",
        ),
    ]);
}

#[test]
fn senders_that_are_everybody_are_warned_of() {
    let told = warnings(&with("proxy_protocol = { from = ['0.0.0.0/0'] }"));
    let warning = "roadstead.toml:3: listener.proxy_protocol.from: everybody may claim any source address and endpoint; name the \
                   networks of the load balancers";
    assert_eq!(told, [warning]);
}

#[test]
fn the_settings_of_a_listener_read_back_as_the_same() {
    let folder = folder();
    for line in [
        "proxy_protocol = { from = ['10.0.0.0/24'] }\ndefault_registry = 'ghcr.io'",
        "tls = { certificate = 'tls.crt', key = 'tls.key', client_ca = 'corp-ca.pem', client_auth = 'optional' }",
        "tls = { certificate = 'tls.crt', key = 'tls.key', more = [{ certificate = 'client.crt', key = 'client.key' }] }",
    ] {
        let settings = read(&with(line), folder.path()).unwrap().0.effective();
        let again = read(&settings.to_string(), folder.path()).unwrap_or_else(|faults| panic!("{faults}\n{settings}"));
        assert_eq!(again.0.effective(), settings);
        let shown = settings.to_string();
        assert!(["optional", "default_registry", "client.key"].iter().any(|word| shown.contains(word)), "{shown}");
    }
}
