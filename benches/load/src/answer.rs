//! As much of an HTTP/1.1 answer as has to be understood to know where it ends.

use memchr::memmem;

/// The head of an answer with a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its length in bytes, with the empty line.
    pub size: usize,
    /// The status.
    pub status: u16,
    /// How many bytes follow.
    pub length: u64,
}

/// The head that `bytes` begin with, or nothing if it is not all there yet.
///
/// # Errors
/// What is wrong with it: it is not HTTP, or does not say how long it is.
pub fn head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| "the head is not text".to_owned())?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).and_then(|line| line.get(..3));
    let status = status.and_then(|code| code.parse().ok()).ok_or_else(|| format!("not an answer: {text:.80}"))?;
    let length = lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|(_, value)| value.trim().parse().ok());
    let length = length.ok_or_else(|| format!("an answer without a length, with status {status}"))?;
    Ok(Some(Head { size: end + 4, status, length }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_where_its_answer_ends() {
        let bytes = b"HTTP/1.1 206 Partial Content\r\nServer: a\r\ncontent-LENGTH: 12\r\n\r\nbody";
        assert_eq!(head(bytes), Ok(Some(Head { size: bytes.len() - 4, status: 206, length: 12 })));
        assert_eq!(head(&bytes[..40]), Ok(None));
    }

    #[test]
    fn an_answer_without_a_length_is_refused() {
        assert!(head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(head(b"SSH-2.0-x\r\n\r\n").is_err());
    }
}
