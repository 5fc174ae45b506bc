//! The time as lines have it: RFC 3339, UTC, milliseconds.

use std::cell::Cell;
use std::io::Write;

use jiff::Timestamp;

/// So many bytes has a time.
const LENGTH: usize = "2026-08-21T10:08:16.007Z".len();
/// Where its milliseconds begin.
const MILLISECONDS: usize = LENGTH - "007Z".len();

/// A second, and the text of a time in it.
#[derive(Clone, Copy)]
struct Stamp {
    second: i64,
    text: [u8; LENGTH],
}

thread_local! {
    /// The last one of this thread: the next is mostly in the same second, and then only its milliseconds are written anew.
    static LAST: Cell<Stamp> = const { Cell::new(Stamp { second: i64::MIN, text: [b' '; LENGTH] }) };
}

/// `time`, which is not before 1970, as text.
pub(super) fn of(time: Timestamp) -> [u8; LENGTH] {
    let millis = time.as_millisecond();
    let (second, millis) = (millis.div_euclid(1000), millis.rem_euclid(1000));
    let last = LAST.try_with(Cell::get).ok().filter(|last| last.second == second);
    let mut stamp = last.unwrap_or_else(|| whole(second, time));
    for (place, divisor) in stamp.text[MILLISECONDS..].iter_mut().zip([100, 10, 1]) {
        *place = b'0' + u8::try_from(millis / divisor % 10).unwrap_or(0);
    }
    stamp.text
}

fn whole(second: i64, time: Timestamp) -> Stamp {
    let mut text = [b' '; LENGTH];
    // There is room for all years that have four digits.
    let _ = write!(&mut text[..], "{time:.3}");
    let stamp = Stamp { second, text };
    // A thread that ends keeps none.
    let _ = LAST.try_with(|last| last.set(stamp));
    stamp
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Up to the end of 9999.
    const LAST_SECOND: i64 = 253_402_207_200;

    proptest! {
        #[test]
        fn it_is_what_the_library_writes(second in 0..LAST_SECOND, within in prop::collection::vec((0..3_i64, 0..1_000_000_000), 1..9)) {
            for (later, nanos) in within {
                let time = Timestamp::new((second + later).min(LAST_SECOND), nanos).unwrap();
                let text = of(time);
                prop_assert_eq!(String::from_utf8_lossy(&text), format!("{time:.3}"));
            }
        }
    }
}
