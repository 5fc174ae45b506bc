//! Files that the configuration names. They are looked at when the configuration is read, so that what is missing is told
//! then and not at the first request.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::raw::{Section, Value};

/// Certificates, keys and secrets are smaller than this many bytes.
const MAX_FILE: u64 = 1 << 20;

/// A path; a relative one starts at the folder of the configuration file.
pub(super) fn path(value: &Value<'_>) -> Option<PathBuf> {
    value.text().map(|text| value.reader().folder().join(text))
}

/// The path of a PEM file that can be read and holds a block of `kind`, such as `CERTIFICATE`.
pub(super) fn pem(value: &Value<'_>, kind: &str) -> Option<PathBuf> {
    let path = path(value)?;
    let text = read(value, &path)?;
    let holds = text.lines().any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{kind}-----")));
    if !holds {
        value.fault(format!("{} holds no PEM block of a {kind}", path.display()), "name the right file");
        return None;
    }
    Some(path)
}

/// The paths of a section's `certificate` and `key`.
pub(super) fn certificate(section: &Section<'_>) -> Option<(PathBuf, PathBuf)> {
    let certificate = section.require("certificate", "name the PEM file with the certificate chain");
    let key = section.require("key", "name the PEM file with the private key");
    let certificate = certificate.and_then(|value| pem(&value, "CERTIFICATE"));
    let key = key.and_then(|value| pem(&value, "PRIVATE KEY"));
    Some((certificate?, key?))
}

/// The content of a small text file.
pub(super) fn read(value: &Value<'_>, path: &Path) -> Option<String> {
    let mut text = String::new();
    let result = std::fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
    if let Err(error) = result {
        let remedy =
            "name a file that the user running roadstead can read (relative paths start at the configuration file's folder)";
        value.fault(format!("{} cannot be read: {error}", path.display()), remedy);
        return None;
    }
    Some(text)
}
