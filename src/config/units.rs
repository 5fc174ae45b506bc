//! Sizes and times as people write them: `200 GiB`, `10 GB`, `15m`, `1.5s`, `30d`.

use std::time::Duration;

use super::fault::Complaint;

/// Bytes in a unit. The first name of a size is the one that is printed.
const SIZES: &[(&str, u128)] = &[
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1000_u128.pow(2)),
    ("GB", 1000_u128.pow(3)),
    ("TB", 1000_u128.pow(4)),
    ("PB", 1000_u128.pow(5)),
    ("KiB", 1024),
    ("MiB", 1024_u128.pow(2)),
    ("GiB", 1024_u128.pow(3)),
    ("TiB", 1024_u128.pow(4)),
    ("PiB", 1024_u128.pow(5)),
];

const SECOND: u128 = 1_000_000_000;
const DAY: u128 = 86_400 * SECOND;

/// Nanoseconds in a unit. The first name of a length is the one that is printed.
const TIMES: &[(&str, u128)] = &[
    ("ns", 1),
    ("us", 1000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("sec", SECOND),
    ("second", SECOND),
    ("seconds", SECOND),
    ("m", 60 * SECOND),
    ("min", 60 * SECOND),
    ("minute", 60 * SECOND),
    ("minutes", 60 * SECOND),
    ("h", 3600 * SECOND),
    ("hour", 3600 * SECOND),
    ("hours", 3600 * SECOND),
    ("d", DAY),
    ("day", DAY),
    ("days", DAY),
    ("w", 7 * DAY),
    ("week", 7 * DAY),
    ("weeks", 7 * DAY),
];

/// The longest time that is accepted, a hundred years, so that no sum with a clock overflows.
const MAX_TIME: u128 = 36_500 * DAY;

const SIZE_REMEDY: &str = "write a number and a unit, such as \"200 GiB\" (1024 based) or \"200 GB\" (1000 based)";
const TIME_REMEDY: &str = "write one number and one unit of ms, s, m, h, d, w, such as \"15m\" or \"1.5s\"";

/// A size in bytes; a number without a unit counts bytes. Fractions of a byte are dropped.
pub(super) fn size(text: &str) -> Result<u64, Complaint> {
    let (number, unit) = split(text);
    let unit = if unit.is_empty() { "B" } else { unit };
    let bytes = measure(text, number, unit, SIZES, "size", SIZE_REMEDY)?;
    u64::try_from(bytes).map_err(|_| Complaint::new(format!("{text:?} is larger than any disk"), SIZE_REMEDY))
}

/// A time of a hundred years at most, to the nanosecond.
pub(super) fn time(text: &str) -> Result<Duration, Complaint> {
    let (number, unit) = split(text);
    if unit.is_empty() && !number.is_empty() {
        let remedy = format!("write \"{number}s\" for seconds or \"{number}m\" for minutes");
        return Err(Complaint::new(format!("{text:?} has no unit"), remedy));
    }
    let nanoseconds = measure(text, number, unit, TIMES, "time", TIME_REMEDY)?;
    if nanoseconds > MAX_TIME {
        return Err(Complaint::new(format!("{text:?} is more than a hundred years"), "write a shorter time"));
    }
    let part = |value: u128| u64::try_from(value).expect("a hundred years of seconds fit");
    let rest = u32::try_from(nanoseconds % SECOND).expect("less than a second of nanoseconds fits");
    Ok(Duration::new(part(nanoseconds / SECOND), rest))
}

/// `bytes` in the unit that makes the smallest whole number. [`size`] reads it back unchanged.
pub(super) fn show_size(bytes: u64) -> String {
    let (number, unit) = whole(u128::from(bytes), SIZES, "B");
    format!("{number} {unit}")
}

/// `time` in the unit that makes the smallest whole number. [`time`] reads it back unchanged.
pub(super) fn show_time(time: Duration) -> String {
    let (number, unit) = whole(time.as_nanos(), TIMES, "s");
    format!("{number}{unit}")
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

fn measure(text: &str, number: &str, unit: &str, units: &[(&str, u128)], kind: &str, remedy: &str) -> Result<u128, Complaint> {
    if number.is_empty() {
        return Err(Complaint::new(format!("{text:?} is not a {kind}"), remedy));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        let meant = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        let remedy = meant.map_or_else(|| remedy.to_owned(), |(name, _)| format!("did you mean \"{number} {name}\"?"));
        return Err(Complaint::new(format!("{unit:?} is not a unit of {kind}"), remedy));
    };
    multiply(number, *factor)
        .ok_or_else(|| Complaint::new(format!("{number:?} is not a number, or one with too many digits"), remedy))
}

/// `number`, a decimal fraction, times `factor`, rounded down. `None` where it is none, or too large.
fn multiply(number: &str, factor: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // Eighteen digits times the largest factor fit into 128 bits.
    let fraction_digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 18)?;
    let part = fraction.parse::<u128>().ok()? * factor / 10_u128.pow(fraction_digits);
    whole.parse::<u128>().ok()?.checked_mul(factor)?.checked_add(part)
}

fn whole(value: u128, units: &'static [(&str, u128)], zero: &'static str) -> (u128, &'static str) {
    if value == 0 {
        return (0, zero);
    }
    let exact = units.iter().filter(|(_, factor)| value.is_multiple_of(*factor));
    exact.map(|(name, factor)| (value / factor, *name)).min_by_key(|(number, _)| *number).unwrap_or((value, units[0].0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("200 GiB", 200 << 30),
            ("64KiB", 64 << 10),
            ("1.5 MiB", 3 << 19),
            ("10 GB", 10_000_000_000),
            ("10kB", 10_000),
            (" 4096 ", 4096),
            ("1 B", 1),
            ("0.0001 kB", 0),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, time_is) in [
            ("15m", Duration::from_secs(900)),
            ("1.5s", Duration::from_millis(1500)),
            ("30d", Duration::from_secs(30 * 86_400)),
            ("2 hours", Duration::from_secs(7200)),
            ("0s", Duration::ZERO),
            ("250ms", Duration::from_millis(250)),
            ("36500d", Duration::from_secs(36_500 * 86_400)),
        ] {
            assert_eq!(time(text), Ok(time_is), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_or_time_says_what_to_write() {
        let size_of = |text: &str| size(text).unwrap_err();
        assert_eq!(size_of("200 gib"), Complaint::new("\"gib\" is not a unit of size", "did you mean \"200 GiB\"?"));
        assert_eq!(size_of("200 G"), Complaint::new("\"G\" is not a unit of size", SIZE_REMEDY));
        assert_eq!(size_of("much").message, "\"much\" is not a size");
        assert_eq!(size_of("20000 PiB").message, "\"20000 PiB\" is larger than any disk");
        assert_eq!(size_of("1.2.3 GiB").message, "\"1.2.3\" is not a number, or one with too many digits");
        assert_eq!(
            size_of("0.0000000000000000001 GiB").message,
            "\"0.0000000000000000001\" is not a number, or one with too many digits"
        );
        assert_eq!(size_of("-1 GiB").message, "\"-1 GiB\" is not a size");
        let time_of = |text: &str| time(text).unwrap_err();
        assert_eq!(time_of("15"), Complaint::new("\"15\" has no unit", "write \"15s\" for seconds or \"15m\" for minutes"));
        assert_eq!(time_of("1h30m"), Complaint::new("\"h30m\" is not a unit of time", TIME_REMEDY));
        assert_eq!(time_of("36501d").message, "\"36501d\" is more than a hundred years");
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(bytes: u64, seconds in 0..36_500_u64 * 86_400, nanoseconds in 0..1_000_000_000_u32) {
            prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
            let duration = Duration::new(seconds, nanoseconds);
            prop_assert_eq!(time(&show_time(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_them_panic(text in "[0-9]{0,40}[.]?[0-9]{0,40} ?(PiB|w|ns|B|[a-zA-Zµ]{0,4})|.{0,60}") {
            let _ = (size(&text), time(&text));
        }
    }
}
