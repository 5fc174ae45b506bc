//! A line of JSON, written with as little work as there can be.

use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::stamp;
use super::text::{has, shortened};
use crate::oci::Digest;

thread_local! {
    /// Where each line of this thread is made.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Most lines are shorter than this, in bytes. Room that grew beyond it is not kept.
const USUAL: usize = 1024;

/// Has a line made by `write`, and hands it to `leave`, in memory that the thread keeps for the next one.
pub(super) fn in_room<T>(write: impl FnOnce(&mut Vec<u8>), leave: impl FnOnce(&[u8]) -> T) -> T {
    // A thread that ends may have given its room back.
    let mut room = ROOM.try_with(Cell::take).unwrap_or_default();
    room.clear();
    room.reserve(USUAL);
    write(&mut room);
    let left = leave(&room);
    room.shrink_to(4 * USUAL);
    let _ = ROOM.try_with(|kept| kept.set(room));
    left
}

/// What stands in front of a member's value, in one piece: its name, with a comma before it. `key!("a" "b")` begins the object
/// `a` with the member `b`.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
    ($object:literal $name:literal) => {
        concat!(",\"", $object, "\":{\"", $name, "\":")
    };
}
pub(super) use key;

/// A JSON object being written in one line, member by member, each after its [`key`].
pub(super) struct Line<'room>(&'room mut Vec<u8>);

impl<'room> Line<'room> {
    /// An object that begins with `member`: a whole one, or its name, whose value is written after an empty key.
    pub(super) fn begin(bytes: &'room mut Vec<u8>, member: &str) -> Self {
        bytes.push(b'{');
        bytes.extend_from_slice(member.as_bytes());
        Self(bytes)
    }

    /// Ends the line, with its newline.
    pub(super) fn end(self) {
        self.0.extend_from_slice(b"}\n");
    }

    /// Ends an object within.
    pub(super) fn close(&mut self) {
        self.0.push(b'}');
    }

    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn truth(&mut self, key: &str) {
        self.raw(key);
        self.raw("true");
    }

    /// A text without anything to be escaped: a word of ours, or a name whose grammar has no such thing.
    pub(super) fn word(&mut self, key: &str, value: &str) {
        self.raw(key);
        self.quoted(value);
    }

    fn quoted(&mut self, value: &str) {
        self.0.push(b'"');
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'"');
    }

    /// Any text.
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.raw(key);
        self.escaped(value);
    }

    fn escaped(&mut self, value: &str) {
        let odd = has(value, |byte| (byte < b' ') | (byte == b'"') | (byte == b'\\'));
        if odd { self.json(value) } else { self.quoted(value) }
    }

    pub(super) fn optional(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// A value that `write` writes, or `null`.
    pub(super) fn or_null<T>(&mut self, key: &str, value: Option<T>, write: impl FnOnce(&mut Self, &str, T)) {
        match value {
            Some(value) => write(self, key, value),
            None => {
                self.raw(key);
                self.raw("null");
            }
        }
    }

    /// A list of texts, each shortened.
    pub(super) fn texts<'a>(&mut self, key: &str, values: impl Iterator<Item = &'a str>) {
        self.raw(key);
        self.0.push(b'[');
        for (index, value) in values.enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            self.escaped(shortened(value));
        }
        self.0.push(b']');
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.raw(key);
        self.decimal(value);
    }

    /// A text of eight hexadecimal digits, a dash and a number.
    pub(super) fn pair(&mut self, key: &str, first: u32, second: u64) {
        self.raw(key);
        self.0.push(b'"');
        self.hex(&first.to_be_bytes());
        self.0.push(b'-');
        self.decimal(second);
        self.0.push(b'"');
    }

    pub(super) fn address(&mut self, key: &str, address: IpAddr) {
        self.raw(key);
        let IpAddr::V4(address) = address else { return self.json(&address) };
        for (before, octet) in (*b"\"...").into_iter().zip(address.octets()) {
            self.0.push(before);
            for (least, divisor) in [(100, 100), (10, 10), (0, 1)] {
                if octet >= least {
                    self.0.push(b'0' + octet / divisor % 10);
                }
            }
        }
        self.0.push(b'"');
    }

    pub(super) fn digest(&mut self, key: &str, digest: &Digest) {
        self.raw(key);
        self.0.push(b'"');
        self.0.extend_from_slice(digest.algorithm().as_str().as_bytes());
        self.0.push(b':');
        self.hex(digest.bytes());
        self.0.push(b'"');
    }

    fn hex(&mut self, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        for bytes in bytes.chunks(32) {
            let mut digits = [[0; 2]; 32];
            for (pair, byte) in digits.iter_mut().zip(bytes) {
                *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
            }
            self.0.extend_from_slice(digits[..bytes.len()].as_flattened());
        }
    }

    /// RFC 3339, UTC, milliseconds.
    pub(super) fn time(&mut self, key: &str, time: Timestamp) {
        self.raw(key);
        self.0.push(b'"');
        self.0.extend_from_slice(&stamp::of(time));
        self.0.push(b'"');
    }

    /// A number with three decimals.
    pub(super) fn milliseconds(&mut self, key: &str, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.number(key, micros / 1000);
        self.0.push(b'.');
        self.digits::<3>(micros % 1000);
    }

    /// Seconds, rounded to six decimals, as `serde_json` writes a floating-point number.
    pub(super) fn seconds(&mut self, key: &str, time: Duration) {
        let micros = (time.as_secs_f64() * 1e6).round() as u64;
        if (1..10).contains(&micros) {
            self.number(key, micros);
            return self.raw("e-6");
        }
        self.number(key, micros / 1_000_000);
        self.0.push(b'.');
        self.digits::<6>(micros % 1_000_000);
        let zeros = self.0.iter().rev().take(5).take_while(|digit| **digit == b'0').count();
        self.0.truncate(self.0.len() - zeros);
    }

    fn decimal(&mut self, mut value: u64) {
        let mut digits = [b'0'; 20];
        let mut used = 0;
        for digit in digits.iter_mut().rev() {
            *digit += (value % 10) as u8;
            value /= 10;
            used += 1;
            if value == 0 {
                break;
            }
        }
        self.0.extend_from_slice(&digits[digits.len() - used..]);
    }

    /// The last `N` decimal digits.
    fn digits<const N: usize>(&mut self, mut value: u64) {
        let mut digits = [b'0'; N];
        for digit in digits.iter_mut().rev() {
            *digit += (value % 10) as u8;
            value /= 10;
        }
        self.0.extend_from_slice(&digits);
    }

    fn json<T: serde::Serialize + ?Sized>(&mut self, value: &T) {
        // Neither texts, numbers and addresses nor a buffer in memory can fail.
        let _ = serde_json::to_writer(&mut self.0, value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(write: impl FnOnce(&mut Line)) -> serde_json::Value {
        let mut bytes = Vec::new();
        let mut line = Line::begin(&mut bytes, "\"a\":1");
        write(&mut line);
        line.end();
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["k"].clone()
    }

    #[test]
    fn times_are_utc_with_milliseconds() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_787_306_896_007, "2026-08-21T10:08:16.007Z"),
            (1_787_306_896_999, "2026-08-21T10:08:16.999Z"),
            (4_102_444_799_120, "2099-12-31T23:59:59.120Z"),
        ] {
            let time = Timestamp::from_millisecond(millis).unwrap();
            assert_eq!(value(|line| line.time(key!("k"), time)), text);
        }
    }

    #[test]
    fn numbers_keep_their_digits() {
        assert_eq!(value(|line| line.milliseconds(key!("k"), Duration::from_micros(12_034))).to_string(), "12.034");
        assert_eq!(value(|line| line.milliseconds(key!("k"), Duration::ZERO)).to_string(), "0.0");
        assert_eq!(value(|line| line.pair(key!("k"), 0xa, 7)), "0000000a-7");
        assert_eq!(value(|line| line.address(key!("k"), "10.0.0.1".parse().unwrap())), "10.0.0.1");
        let digest = format!("sha256:{}", "0f".repeat(32));
        assert_eq!(value(|line| line.digest(key!("k"), &digest.parse().unwrap())), digest);
    }

    proptest! {
        #[test]
        fn every_text_reads_back(text in "\\PC{0,40}|(.|\"|\\\\|\n|\u{0}){0,20}") {
            prop_assert_eq!(value(|line| line.text(key!("k"), &text)), text.as_str());
            prop_assert_eq!(value(|line| line.texts(key!("k"), [&*text, "b"].into_iter())), serde_json::json!([text, "b"]));
        }

        #[test]
        fn every_number_reads_back(number: u64, bits in 0..64_u32) {
            prop_assert_eq!(value(|line| line.number(key!("k"), number >> bits)), number >> bits);
        }

        #[test]
        fn every_address_reads_back(address: IpAddr) {
            prop_assert_eq!(value(|line| line.address(key!("k"), address)), address.to_string());
        }
    }
}
