//! `tls = { … }` of a listener: its certificates, and who its clients must prove to be.

use std::path::PathBuf;

use super::fault::Complaint;
use super::file;
use super::raw::{Keys, Section, Value};

pub(super) const KEYS: Keys = Keys { known: &["certificate", "key", "client_ca", "client_auth", "more"], later: &[] };
const PAIR_KEYS: Keys = Keys { known: &["certificate", "key"], later: &[] };

/// `tls = { … }` of a listener.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// Never empty. The client's choice of a host (SNI) picks one by its names; the first serves all others.
    pub certificates: Vec<KeyPair>,
    /// What is wanted of clients. `None`: they are not asked for a certificate.
    pub clients: Option<ClientAuth>,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct KeyPair {
    /// PEM file with the certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// Client certificates.
#[derive(Clone, Debug)]
pub struct ClientAuth {
    /// PEM file with the authorities that issue them.
    pub ca: PathBuf,
    /// Whether a client without one is refused. One whose certificate is not valid always is.
    pub required: bool,
}

/// Reads the value.
pub(super) fn check(value: &Value<'_>) -> Option<ListenerTls> {
    let section = value.section(&KEYS)?;
    let first = pair(&section);
    let more = section.get("more").map(|value| value.sections(&PAIR_KEYS)).unwrap_or_default();
    let more: Vec<_> = more.iter().map(pair).collect();
    let clients = clients(&section);
    Some(ListenerTls { certificates: std::iter::once(first).chain(more).collect::<Option<_>>()?, clients })
}

fn pair(section: &Section<'_>) -> Option<KeyPair> {
    let (certificate, key) = file::certificate(section)?;
    Some(KeyPair { certificate, key })
}

fn clients(section: &Section<'_>) -> Option<ClientAuth> {
    let required = section.get("client_auth").map(|value| (value.parse(is_required), value));
    let Some(ca) = section.get("client_ca") else {
        if let Some((Some(_), value)) = &required {
            value.fault("nothing says whose certificates count", "name the authorities in client_ca, or remove this");
        }
        return None;
    };
    Some(ClientAuth { ca: file::pem(&ca, "CERTIFICATE")?, required: required.and_then(|(required, _)| required).unwrap_or(true) })
}

fn is_required(text: &str) -> Result<bool, Complaint> {
    match text {
        "require" => Ok(true),
        "optional" => Ok(false),
        _ => Err(Complaint::new(format!("{text:?} is not a way to ask"), "write \"require\" or \"optional\"")),
    }
}
