//! Content digests: `sha256:<64 hex>` and `sha512:<128 hex>`, nothing else (image-spec descriptor.md, fact sheet section 1).

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256, Sha512};

/// A hash algorithm that content may be addressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// `sha256`, the one every registry must support.
    Sha256,
    /// `sha512`, optional in the specification.
    Sha512,
}

impl Algorithm {
    /// The name as it stands before the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Starts hashing with this algorithm.
    pub fn hasher(self) -> Hasher {
        match self {
            Self::Sha256 => Hasher(State::Sha256(Sha256::new())),
            Self::Sha512 => Hasher(State::Sha512(Box::new(Sha512::new()))),
        }
    }
}

/// The digest of some content. Only well-formed digests can exist: the length fits the algorithm and the hex is in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// A SHA-256 digest.
    Sha256([u8; 32]),
    /// A SHA-512 digest.
    Sha512([u8; 64]),
}

/// Why a text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:` in front.
    #[error("a digest is written algorithm:hex")]
    Form,
    /// An algorithm other than sha256 and sha512.
    #[error("only sha256 and sha512 digests are served")]
    Algorithm,
    /// Wrong length, upper case, or not hexadecimal.
    #[error("the digest's hex has the wrong length or is not lower-case hexadecimal")]
    Hex,
}

impl Digest {
    /// Hashes `bytes` at once.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = algorithm.hasher();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The raw hash, 32 or 64 bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(hash) => hash,
            Self::Sha512(hash) => hash,
        }
    }

    /// The part after the colon, in lower-case hexadecimal.
    pub fn to_hex(&self) -> String {
        hex::encode(self.bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hex = [0; 128];
        let hex = &mut hex[..2 * self.bytes().len()];
        hex::encode_to_slice(self.bytes(), hex).map_err(|_| fmt::Error)?;
        f.write_str(self.algorithm().as_str())?;
        f.write_str(":")?;
        f.write_str(std::str::from_utf8(hex).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, encoded) = text.split_once(':').ok_or(DigestError::Form)?;
        match algorithm {
            "sha256" => decode(encoded).map(Self::Sha256),
            "sha512" => decode(encoded).map(Self::Sha512),
            _ => Err(DigestError::Algorithm),
        }
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn decode<const N: usize>(encoded: &str) -> Result<[u8; N], DigestError> {
    let (pairs, rest) = encoded.as_bytes().as_chunks();
    let pairs: &[[u8; 2]; N] = pairs.try_into().map_err(|_| DigestError::Hex)?;
    // One look at the end rather than one for each digit.
    let (mut hash, mut seen) = ([0; N], 0);
    for (byte, digits) in hash.iter_mut().zip(pairs) {
        let (high, low) = (DIGITS[usize::from(digits[0])], DIGITS[usize::from(digits[1])]);
        seen |= high | low;
        *byte = high << 4 | low;
    }
    if rest.is_empty() && seen != NO_DIGIT { Ok(hash) } else { Err(DigestError::Hex) }
}

const NO_DIGIT: u8 = 0xff;

/// What each byte is worth as a digit.
static DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    digits
};

/// Hashes content as it comes.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hasher {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of all that was taken in.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(state) => Digest::Sha256(state.finalize().into()),
            State::Sha512(state) => Digest::Sha512(state.finalize().into()),
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn reads_what_it_prints() {
        let digest: Digest = EMPTY.parse().unwrap();
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(digest, Digest::of(Algorithm::Sha256, b""));
        let long = Digest::of(Algorithm::Sha512, b"x");
        assert_eq!(long.to_string().parse::<Digest>().unwrap(), long);
    }

    #[test]
    fn refuses_every_other_form() {
        let upper = EMPTY.to_uppercase().replace("SHA256", "sha256");
        for (text, error) in [
            ("", DigestError::Form),
            ("sha256", DigestError::Form),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", DigestError::Algorithm),
            ("sha256:totallywrong", DigestError::Hex),
            (&EMPTY[..70], DigestError::Hex),
            (&format!("{EMPTY}0"), DigestError::Hex),
            (&upper, DigestError::Hex),
            (&format!("sha512:{}", &EMPTY[7..]), DigestError::Hex),
            ("sha256:../../../../etc/passwd", DigestError::Hex),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(error), "{text}");
        }
    }

    #[test]
    fn hashing_in_pieces_is_hashing_the_whole() {
        let mut hasher = Algorithm::Sha256.hasher();
        hasher.update(b"he");
        hasher.update(b"llo");
        assert_eq!(hasher.finish(), Digest::of(Algorithm::Sha256, b"hello"));
    }
}
