//! A key that only this process has, and that ends with it.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Length of a code, in bytes.
pub(super) const CODE: usize = 32;

/// A random key for HMAC-SHA256.
#[derive(Clone)]
pub(super) struct Key(Hmac<Sha256>);

impl Key {
    /// A new one.
    pub(super) fn random() -> Self {
        Self(Hmac::new(&rand::random::<[u8; 64]>().into()))
    }

    /// The code of these parts, one after the other. Where one begins must follow from what is before it.
    pub(super) fn code(&self, parts: [&[u8]; 2]) -> [u8; CODE] {
        self.over(parts).finalize().into_bytes().into()
    }

    /// Whether `code` is that of these parts. Takes the same time whatever it is.
    pub(super) fn confirms(&self, parts: [&[u8]; 2], code: &[u8]) -> bool {
        self.over(parts).verify_slice(code).is_ok()
    }

    fn over(&self, parts: [&[u8]; 2]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac
    }
}
