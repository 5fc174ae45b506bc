//! `conditions = { … }` of a statement: when it holds, and for which kind of connection and client.

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::fault::Complaint;
use super::raw::{Keys, Section, Value};
use super::statement::{list, name};

pub(super) const KEYS: Keys = Keys { known: &["not_before", "not_after", "hours", "days", "tls", "user_agent"], later: &[] };

const MINUTES_OF_A_DAY: u16 = 24 * 60;

/// What must hold beside who asks for what. An absent one always holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Conditions {
    /// From this moment on.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    pub not_before: Option<Timestamp>,
    /// Up to this moment and in it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    pub not_after: Option<Timestamp>,
    /// In these hours of each day.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    pub hours: Option<Hours>,
    /// On these days of the week, by UTC; never empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days: Option<Vec<Day>>,
    /// Over an encrypted connection, or over one that is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
    /// For clients that call themselves so, as patterns; never empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Vec<String>>,
}

/// A part of the day in UTC, from a minute on and up to another, which is not in it. Where that comes first, the part goes
/// over midnight. The two are never equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// In minutes after midnight, 0 to 1439.
    pub from: u16,
    /// In minutes after midnight, 1 to 1440, or 0 for the midnight that ends the day.
    pub to: u16,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Conditions {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Hours {
    /// As it is written in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}-{:02}:{:02}", self.from / 60, self.from % 60, self.to / 60, self.to % 60)
    }
}

fn shown<T: fmt::Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

pub(super) fn check(section: &Section<'_>) -> Conditions {
    let conditions = Conditions {
        not_before: section.get("not_before").and_then(|value| value.timestamp()),
        not_after: section.get("not_after").and_then(|value| value.timestamp()),
        hours: section.get("hours").and_then(|value| value.parse(hours)),
        days: list(section, "days", |item| item.parse(day)),
        tls: section.get("tls").and_then(|value| value.boolean()),
        user_agent: list(section, "user_agent", |item| item.parse(name)),
    };
    if let (Some(from), Some(to), Some(value)) = (conditions.not_before, conditions.not_after, section.get("not_after"))
        && from > to
    {
        refuse_empty(&value);
    }
    conditions
}

fn refuse_empty(value: &Value<'_>) {
    value.fault("is before not_before, so the statement would never hold", "correct one of the two");
}

fn hours(text: &str) -> Result<Hours, Complaint> {
    let wrong = || Complaint::new(format!("{text:?} is not a part of the day"), "write it in UTC, such as \"22:00-06:00\"");
    let (from, to) = text.split_once('-').ok_or_else(wrong)?;
    let (from, to) = (minute(from).ok_or_else(wrong)?, minute(to).ok_or_else(wrong)?);
    if from == to || from == MINUTES_OF_A_DAY {
        return Err(Complaint::new(format!("{text:?} is no time at all"), "leave hours out to mean the whole day"));
    }
    Ok(Hours { from, to })
}

/// `HH:MM` in minutes, up to `24:00`.
fn minute(text: &str) -> Option<u16> {
    let two = |text: &str| (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse::<u16>().ok());
    let (hour, minute) = text.trim().split_once(':')?;
    let (hour, minute) = (two(hour)??, two(minute)??);
    (minute < 60).then_some(hour * 60 + minute).filter(|minutes| *minutes <= MINUTES_OF_A_DAY)
}

fn day(text: &str) -> Result<Day, Complaint> {
    Ok(match text {
        "mon" => Day::Mon,
        "tue" => Day::Tue,
        "wed" => Day::Wed,
        "thu" => Day::Thu,
        "fri" => Day::Fri,
        "sat" => Day::Sat,
        "sun" => Day::Sun,
        _ => return Err(Complaint::new(format!("{text:?} is not a day"), "write mon, tue, wed, thu, fri, sat or sun")),
    })
}
