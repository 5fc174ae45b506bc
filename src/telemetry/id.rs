//! The name of a request.

use std::fmt;
use std::ops::Deref;

const LENGTH: usize = 16;
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Names one request in every log and in `X-Request-Id`: 16 hexadecimal digits, drawn by lot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; LENGTH]);

impl RequestId {
    pub(super) fn random() -> Self {
        let drawn: u64 = rand::random();
        Self(std::array::from_fn(|place| DIGITS[(drawn >> (60 - 4 * place) & 15) as usize]))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        // They are ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Deref for RequestId {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_sixteen_digits_and_another_each_time() {
        let (one, other) = (RequestId::random(), RequestId::random());
        assert_ne!(one, other);
        assert_eq!(one.len(), 16);
        assert!(one.bytes().all(|digit| DIGITS.contains(&digit)), "{one}");
        assert_eq!(format!("{:016x}", u64::from_str_radix(&one, 16).unwrap()), one.as_str());
    }
}
