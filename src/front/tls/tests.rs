//! Files that fit or do not, names in certificates, and which certificate a client gets.

use std::path::{Path, PathBuf};

use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DnType, KeyPair as Key, SanType};
use rustls::pki_types::CertificateDer;

use super::*;
use crate::config::KeyPair;

/// A self-signed certificate with these names, and its key.
fn issue(change: impl FnOnce(&mut CertificateParams)) -> (rcgen::Certificate, Key) {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    change(&mut params);
    let key = Key::generate().unwrap();
    (params.self_signed(&key).unwrap(), key)
}

fn dns(names: &[&str]) -> Vec<SanType> {
    names.iter().map(|name| SanType::DnsName(Ia5String::try_from(*name).unwrap())).collect()
}

fn uri(uri: &str) -> SanType {
    SanType::URI(Ia5String::try_from(uri).unwrap())
}

fn pair(folder: &Path, name: &str, hosts: &[&str]) -> KeyPair {
    let (certificate, key) = issue(|params| params.subject_alt_names = dns(hosts));
    files(folder, name, &certificate.pem(), &key.serialize_pem())
}

fn files(folder: &Path, name: &str, certificate: &str, key: &str) -> KeyPair {
    let file = |end: &str, content: &str| -> PathBuf {
        let path = folder.join(format!("{name}.{end}"));
        std::fs::write(&path, content).unwrap();
        path
    };
    KeyPair { certificate: file("crt", certificate), key: file("key", key) }
}

fn message(certificates: Vec<KeyPair>) -> String {
    Acceptor::read(&ListenerTls { certificates, clients: None }).err().unwrap().to_string()
}

#[test]
fn fitting_pairs_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = vec![pair(folder.path(), "a", &[]), pair(folder.path(), "b", &["b.test"])];
    for required in [true, false] {
        let clients = Some(ClientAuth { ca: certificates[0].certificate.clone(), required });
        assert!(Acceptor::read(&ListenerTls { certificates: certificates.clone(), clients }).is_ok());
    }
}

#[test]
fn what_is_wrong_is_named_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = issue(|_| {});
    let (_, other) = issue(|_| {});
    let (certificate, key, other) = (certificate.pem(), key.serialize_pem(), other.serialize_pem());
    let tls = |certificate: &str, key: &str| vec![files(folder.path(), "tls", certificate, key)];
    let text = message(tls(&certificate, &other));
    assert!(text.contains("tls.crt") && text.contains("tls.key") && text.contains("do not work together"), "{text}");
    let text = message(tls(&key, &certificate));
    assert!(text.contains("tls.crt cannot be used as certificate: there is no certificate in it"), "{text}");
    let text = message(tls(&certificate, ""));
    assert!(text.contains("tls.key cannot be used as private key: there is no private key in it"), "{text}");
    let gone = KeyPair { certificate: folder.path().join("none"), key: folder.path().join("none") };
    assert!(message(vec![gone]).contains("No such file"));
    let text = message(vec![pair(folder.path(), "a", &["a.test"]), pair(folder.path(), "b", &[])]);
    assert!(text.contains("b.crt") && text.contains("no DNS name"), "{text}");
    let clients = Some(ClientAuth { ca: folder.path().join("tls.key"), required: true });
    let text = Acceptor::read(&ListenerTls { certificates: tls(&certificate, &key), clients }).err().unwrap().to_string();
    assert!(text.contains("tls.key cannot be used as certificate"), "{text}");
}

#[test]
fn the_host_that_is_wanted_chooses_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let pairs = [
        pair(folder.path(), "0", &["first.test", "both.test"]),
        pair(folder.path(), "1", &["exact.wild.test", "both.test"]),
        pair(folder.path(), "2", &["*.wild.test", "Mixed.Test"]),
    ];
    let certificates = Certificates::read(&pairs, &rustls::crypto::ring::default_provider()).unwrap();
    let own: Vec<_> = pairs.iter().map(|pair| super::files::certificates(&pair.certificate).unwrap()).collect();
    for (host, chosen) in [
        ("first.test", 0),
        ("exact.wild.test", 1),
        ("EXACT.wild.test", 1),
        ("exact.wild.test.", 1),
        ("any.wild.test", 2),
        ("two.any.wild.test", 0),
        ("wild.test", 0),
        ("mixed.test", 2),
        ("both.test", 0),
        ("unknown.test", 0),
        ("localhost", 0),
    ] {
        assert_eq!(certificates.of(host).cert, own[chosen], "{host}");
    }
}

fn principals(change: impl FnOnce(&mut CertificateParams)) -> Result<Vec<String>, String> {
    let (certificate, _) = issue(change);
    let principals = names::principals(certificate.der()).map_err(|rejection| rejection.to_string())?;
    Ok(principals.iter().map(|principal| principal.as_str().to_owned()).collect())
}

#[test]
fn a_client_is_known_by_the_names_in_its_certificate() {
    let known = principals(|params| {
        params.subject_alt_names = dns(&["Node-7.example", "*.pool.example"]);
        params.subject_alt_names.insert(1, uri("spiffe://prod.example/ns/build/sa/ci"));
        params.subject_alt_names.push(uri("https://other.example/"));
        params.subject_alt_names.push(SanType::IpAddress([10, 0, 0, 1].into()));
        params.distinguished_name.push(DnType::CommonName, "Werk Süd");
        params.distinguished_name.push(DnType::OrganizationName, "Example");
    });
    let names = ["dns:node-7.example", "spiffe://prod.example/ns/build/sa/ci", "dns:*.pool.example", "cn:Werk Süd"];
    assert_eq!(known.unwrap(), names);
    assert_eq!(principals(|_| {}), Ok(Vec::new()));
}

#[test]
fn a_certificate_with_names_beyond_reason_is_refused_and_not_half_known() {
    let many = |count: usize| (0..count).map(|i| format!("n{i}.example")).collect::<Vec<_>>();
    let with = |count: usize| {
        let names = many(count);
        principals(|params| params.subject_alt_names = dns(&names.iter().map(String::as_str).collect::<Vec<_>>()))
    };
    assert_eq!(with(32).unwrap().len(), 32);
    assert!(with(33).unwrap_err().contains("too many names"));
    for name in ["a\nb", "", &"x".repeat(2049)] {
        let refused = principals(|params| params.distinguished_name.push(DnType::CommonName, name));
        assert!(refused.unwrap_err().contains("too long or not printable"), "{name:?}");
    }
    assert!(names::principals(&CertificateDer::from(vec![1, 2, 3])).is_err());
    assert!(names::hosts(&CertificateDer::from(vec![1, 2, 3])).is_empty());
}
