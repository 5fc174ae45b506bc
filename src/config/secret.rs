//! Secrets: where they come from and that they are never printed.

use std::fmt;

use super::file;
use super::raw::{Keys, Value};

/// A secret. Prints as `***` everywhere; [`Secret::expose`] is the one way to read it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself. Never log or print what this returns.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

const KEYS: Keys = Keys { known: &["file", "env"], later: &[] };
const REMEDY: &str = "write { file = \"…\" } or { env = \"…\" }";

/// Reads `{ file = … }`, `{ env = … }` or, with a warning, the secret itself.
pub(super) fn check(value: &Value<'_>) -> Option<Secret> {
    if value.is_text() {
        value.warn("the secret stands in the configuration file", REMEDY);
        return value.text().map(Secret::new);
    }
    let section = value.section(&KEYS)?;
    match (section.get("file"), section.get("env")) {
        (Some(from), None) => from_file(&from),
        (None, Some(from)) => from_environment(&from),
        (None, None) => {
            value.fault("no secret", REMEDY);
            None
        }
        (Some(_), Some(second)) => {
            second.fault("two sources for one secret", "keep one of file and env");
            None
        }
    }
}

/// Editors end a file with a newline, which is not part of the secret.
fn from_file(value: &Value<'_>) -> Option<Secret> {
    let path = file::path(value)?;
    let text = file::read(value, &path)?;
    let secret = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if secret.is_empty() {
        value.fault(format!("{} is empty", path.display()), "put the secret into it");
        return None;
    }
    Some(Secret::new(secret))
}

fn from_environment(value: &Value<'_>) -> Option<Secret> {
    let name = value.text()?;
    let secret = value.reader().variable(name);
    if secret.is_none() {
        value.fault(format!("the environment variable {name:?} is not set, or empty"), "set it for the user running roadstead");
    }
    secret.map(Secret::new)
}
