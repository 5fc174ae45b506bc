//! Bodies of several ranges (RFC 9110 section 14.6), read strictly.

use bytes::Bytes;

use super::client::Reply;

/// One range of a body of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub media_type: String,
    /// As it stands in the part's `Content-Range`.
    pub range: String,
    pub body: Bytes,
}

/// The parts of an answer; `None` where it is not in order.
pub fn parts(reply: &Reply) -> Option<Vec<Part>> {
    let boundary = reply.header("content-type").strip_prefix("multipart/byteranges; boundary=")?;
    parse(&reply.body, boundary)
}

/// The parts of a body; `None` where it is not in order.
pub fn parse(body: &Bytes, boundary: &str) -> Option<Vec<Part>> {
    let delimiter = format!("\r\n--{boundary}");
    // What precedes the first delimiter belongs to it.
    let mut at = if body.starts_with(&delimiter.as_bytes()[2..]) { delimiter.len() - 2 } else { after(body, 0, &delimiter)? };
    let mut parts = Vec::new();
    loop {
        if let Some(end) = after(body, at, "--\r\n").or_else(|| after(body, at, "--")) {
            return (end == body.len()).then_some(parts);
        }
        let start = after(body, at, "\r\n")?;
        let length = body[start..].windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&body[start..start + length]).ok()?;
        let content = start + length + 4;
        let range = field(head, "content-range")?;
        let end = content + length_of(range)?;
        let media_type = field(head, "content-type")?.to_owned();
        parts.push(Part { media_type, range: range.to_owned(), body: body.get(content..end).map(|bytes| body.slice_ref(bytes))? });
        at = after(body, end, &delimiter)?;
    }
}

/// The offset after `text`, which must stand at `at`.
fn after(body: &Bytes, at: usize, text: &str) -> Option<usize> {
    body.get(at..)?.starts_with(text.as_bytes()).then_some(at + text.len())
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Of `bytes 10-19/100`: 10.
fn length_of(range: &str) -> Option<usize> {
    let (span, _) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
}
