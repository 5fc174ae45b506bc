//! Days and hours, by UTC.

use jiff::Timestamp;

use crate::config::{Day, Hours};

const DAY: i64 = 86_400;

pub(super) fn is_in(hours: Hours, now: Timestamp) -> bool {
    let second = now.as_second().rem_euclid(DAY);
    let (from, to) = (i64::from(hours.from) * 60, i64::from(hours.to) * 60);
    if from < to { (from..to).contains(&second) } else { second >= from || second < to }
}

pub(super) fn is_on(days: &[Day], now: Timestamp) -> bool {
    const WEEK: [Day; 7] = [Day::Thu, Day::Fri, Day::Sat, Day::Sun, Day::Mon, Day::Tue, Day::Wed];
    // The epoch was a Thursday.
    let number = now.as_second().div_euclid(DAY).rem_euclid(7);
    usize::try_from(number).is_ok_and(|number| days.contains(&WEEK[number]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_part_of_the_day_has_its_beginning_and_not_its_end() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (night, morning) = (Hours { from: 22 * 60, to: 6 * 60 }, Hours { from: 0, to: 24 * 60 });
        for (time, is_night) in
            [("22:00:00", true), ("23:59:59", true), ("05:59:59.9", true), ("06:00:00", false), ("21:59:59", false)]
        {
            assert_eq!(is_in(night, at(&format!("2026-02-28T{time}Z"))), is_night, "{time}");
            assert!(is_in(morning, at(&format!("1969-02-28T{time}Z"))));
        }
    }

    proptest! {
        #[test]
        fn days_are_those_of_the_calendar(second in -10_000_000_000_i64..10_000_000_000) {
            let now = Timestamp::from_second(second).unwrap();
            let week = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];
            let today = now.to_zoned(jiff::tz::TimeZone::UTC).weekday().to_monday_zero_offset() as usize;
            for (number, day) in week.into_iter().enumerate() {
                prop_assert_eq!(is_on(&[day], now), number == today);
            }
        }
    }
}
