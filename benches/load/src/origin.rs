//! A registry to pull from: `/v2/`, manifests and blobs of any repository, and `/counts`, which tells how many bytes of each
//! digest or tag have left.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::content::{Content, Item};
use crate::shape::Line;

/// How much is sent at a time.
const CHUNK: usize = 256 << 10;

/// A registry and how slow it is.
#[derive(Debug)]
pub struct Origin {
    /// What there is.
    pub content: Content,
    /// How long it thinks before each answer.
    pub latency: Duration,
    /// The most bytes per second of one connection.
    pub rate: Option<u64>,
    /// What all connections share.
    pub line: Line,
    /// Bytes that left, by digest or tag.
    pub counts: Mutex<BTreeMap<String, u64>>,
}

struct Request {
    method: String,
    path: String,
    range: Option<String>,
    /// The connection ends with the answer.
    last: bool,
}

impl Origin {
    /// Serves each connection on a thread of its own, for ever.
    ///
    /// # Errors
    /// The listener's.
    pub fn serve(self: &Arc<Self>, listener: &TcpListener) -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept()?;
            let origin = Arc::clone(self);
            // A client that hangs up is no fault here.
            std::thread::spawn(move || origin.converse(stream).ok());
        }
    }

    fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let line = Line::new(self.rate);
        while let Some(request) = read(&mut reader)? {
            let last = request.last;
            self.answer(&mut stream, &request, &line)?;
            if last {
                break;
            }
        }
        Ok(())
    }

    fn answer(&self, stream: &mut TcpStream, request: &Request, line: &Line) -> io::Result<()> {
        if request.path == "/counts" {
            let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
            return small(stream, "200 OK", &serde_json::to_string(&counts).map_err(io::Error::other)?);
        }
        std::thread::sleep(self.latency);
        if request.path == "/v2/" {
            return small(stream, "200 OK", "{}");
        }
        let name = request.path.rsplit('/').next().unwrap_or_default();
        match self.content.find(name) {
            Some(item) => self.send(stream, request, name, item, line),
            None => small(stream, "404 Not Found", r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#),
        }
    }

    fn send(&self, stream: &mut TcpStream, request: &Request, name: &str, item: &Item, line: &Line) -> io::Result<()> {
        let range = request.range.as_deref().and_then(|text| parse_range(text, item.size));
        let (from, to) = range.unwrap_or((0, item.size));
        let mut head = match range {
            None => "HTTP/1.1 200 OK\r\n".to_owned(),
            Some(_) => {
                format!("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{}\r\n", to.saturating_sub(1), item.size)
            }
        };
        head += &format!(
            "Content-Type: {}\r\nContent-Length: {}\r\nAccept-Ranges: bytes\r\nETag: \"{name}\"\r\n",
            item.media_type,
            to - from
        );
        if name.starts_with("sha256:") {
            head += &format!("Docker-Content-Digest: {name}\r\n");
        }
        stream.write_all((head + "\r\n").as_bytes())?;
        if request.method == "HEAD" { Ok(()) } else { self.send_body(stream, name, item, (from, to), line) }
    }

    fn send_body(&self, stream: &mut TcpStream, name: &str, item: &Item, (from, to): (u64, u64), line: &Line) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK.min(usize::try_from(to - from).unwrap_or(CHUNK))];
        let now = Instant::now();
        line.begin(now);
        self.line.begin(now);
        let mut at = from;
        while at < to {
            let count = buffer.len().min(usize::try_from(to - at).unwrap_or(CHUNK));
            self.content.fill(item, at, &mut buffer[..count]);
            line.pass(count);
            self.line.pass(count);
            stream.write_all(&buffer[..count])?;
            at += count as u64;
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            *counts.entry(name.to_owned()).or_default() += count as u64;
        }
        Ok(())
    }
}

fn small(stream: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// The next request, or nothing at the end of the connection.
fn read(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut word = || words.next().ok_or(io::ErrorKind::InvalidData);
    let (method, path, version) = (word()?, word()?, word()?);
    let path = path.split('?').next().unwrap_or_default().to_owned();
    let mut request = Request { method, path, range: None, last: version == "HTTP/1.0" };
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(Some(request)) };
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.trim().to_owned()),
            "connection" if value.trim().eq_ignore_ascii_case("close") => request.last = true,
            _ => {}
        }
    }
}

/// A single range as first byte and end; anything else counts as none.
fn parse_range(text: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        return Some((size.saturating_sub(last.parse().ok()?), size));
    }
    let first: u64 = first.parse().ok()?;
    let end = if last.is_empty() { size } else { last.parse::<u64>().ok()?.checked_add(1)?.min(size) };
    (first < end).then_some((first, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (text, expected) in [
            ("bytes=0-0", Some((0, 1))),
            ("bytes=10-", Some((10, 100))),
            ("bytes=-10", Some((90, 100))),
            ("bytes=90-900", Some((90, 100))),
            ("bytes=100-", None),
            ("bytes=1-2,4-5", None),
        ] {
            assert_eq!(parse_range(text, 100), expected, "{text}");
        }
    }
}
