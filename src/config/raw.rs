//! The file before it means anything: sections and values that know their keys and lines, and what was found wrong so far.
//!
//! A getter that meets a fault notes it and answers as if the key were absent, so that a check goes on to the end and all
//! faults come out of one run.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Complaint, Fault, Faults, Warning, nearest};
use super::units;

/// One file being read.
pub(super) struct Reader<'a> {
    text: &'a str,
    /// Where each line but the first begins.
    lines: Vec<usize>,
    file: &'a Path,
    environment: &'a dyn Fn(&str) -> Option<String>,
    faults: RefCell<Vec<Fault>>,
    warnings: RefCell<Vec<Warning>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, file: &'a Path, environment: &'a dyn Fn(&str) -> Option<String>) -> Self {
        let lines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1).collect();
        Self { text, lines, file, environment, faults: RefCell::default(), warnings: RefCell::default() }
    }

    /// The table of the whole file. A fault of syntax ends the reading: what follows it would be guesses.
    pub(super) fn parse(&self) -> Option<Spanned<DeTable<'a>>> {
        let error = match DeTable::parse(self.text) {
            Ok(table) => return Some(table),
            Err(error) => error,
        };
        let line = error.span().map(|span| self.line(span.start));
        // What the parser expected next is its own jargon.
        let what = error.message().split(", expected").next().unwrap_or_default();
        self.fault(line, "", Complaint::new(format!("not TOML: {what}"), "correct the line as toml.io describes"));
        None
    }

    /// A variable of the environment, where it is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }

    /// The folder that relative paths start from.
    pub(super) fn folder(&self) -> &'a Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    pub(super) fn fault(&self, line: Option<usize>, key: &str, complaint: Complaint) {
        self.faults.borrow_mut().push(Fault::new(self.file, line, key, complaint));
    }

    pub(super) fn warning(&self, line: Option<usize>, key: &str, complaint: Complaint) {
        self.warnings.borrow_mut().push(Fault::new(self.file, line, key, complaint));
    }

    /// The warnings, or all the faults; both by line.
    pub(super) fn finish(self) -> Result<Vec<Warning>, Faults> {
        let (mut faults, mut warnings) = (self.faults.into_inner(), self.warnings.into_inner());
        faults.sort_by_key(|fault| fault.line);
        warnings.sort_by_key(|warning| warning.line);
        if faults.is_empty() { Ok(warnings) } else { Err(Faults(faults)) }
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.lines.partition_point(|start| *start <= offset)
    }
}

/// The keys that a section may have.
pub(super) struct Keys {
    /// What this version reads.
    pub(super) known: &'static [&'static str],
    /// What a later version will read. It is refused, not ignored: somebody relies on it.
    pub(super) later: &'static [&'static str],
}

/// A table.
pub(super) struct Section<'a> {
    pub(super) reader: &'a Reader<'a>,
    path: String,
    line: Option<usize>,
    table: &'a DeTable<'a>,
}

impl<'a> Section<'a> {
    /// The table of the whole file.
    pub(super) fn root(reader: &'a Reader<'a>, table: &'a DeTable<'a>, keys: &Keys) -> Self {
        let section = Self { reader, path: String::new(), line: None, table };
        section.refuse_unknown(keys);
        section
    }

    fn refuse_unknown(&self, keys: &Keys) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            let complaint = if keys.known.contains(&name) {
                continue;
            } else if keys.later.contains(&name) {
                Complaint::new("not supported by this version of roadstead", "remove it")
            } else {
                Complaint::new("unknown key", self.instead_of(name, keys))
            };
            self.reader.fault(Some(self.reader.line(key.span().start)), &self.key(&name.escape_debug().to_string()), complaint);
        }
    }

    fn instead_of(&self, name: &str, keys: &Keys) -> String {
        match nearest(name, keys.known.iter().copied()) {
            Some(key) => format!("did you mean {key}?"),
            None => format!("the keys here are {}", keys.known.join(", ")),
        }
    }

    fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The value of `key`, where there is one.
    pub(super) fn get(&self, key: &str) -> Option<Value<'a>> {
        let value = self.table.get(key)?;
        Some(Value::new(self.reader, self.key(key), value))
    }

    /// The value of `key`; that there is none is a fault.
    pub(super) fn require(&self, key: &str, remedy: &str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            self.reader.fault(self.line, &self.key(key), Complaint::new("missing", remedy));
        }
        value
    }
}

/// One value, or one item of a list.
#[derive(Clone)]
pub(super) struct Value<'a> {
    reader: &'a Reader<'a>,
    /// The key with its sections.
    pub(super) key: String,
    /// The line, from 1.
    pub(super) line: usize,
    value: &'a DeValue<'a>,
}

impl<'a> Value<'a> {
    fn new(reader: &'a Reader<'a>, key: String, value: &'a Spanned<DeValue<'a>>) -> Self {
        Self { reader, key, line: reader.line(value.span().start), value: value.get_ref() }
    }

    pub(super) fn reader(&self) -> &'a Reader<'a> {
        self.reader
    }

    /// Notes a fault of this value.
    pub(super) fn fault(&self, message: impl Into<String>, remedy: impl Into<String>) {
        self.complain(Complaint::new(message, remedy));
    }

    /// Notes something odd about this value.
    pub(super) fn warn(&self, message: impl Into<String>, remedy: impl Into<String>) {
        self.reader.warning(Some(self.line), &self.key, Complaint::new(message, remedy));
    }

    fn complain(&self, complaint: Complaint) {
        self.reader.fault(Some(self.line), &self.key, complaint);
    }

    /// Never quotes the value: it might be a secret.
    fn wrong_type<T>(&self, wanted: &str, remedy: &str) -> Option<T> {
        self.fault(format!("expected {wanted}, found {}", self.value.type_str()), remedy);
        None
    }

    pub(super) fn is_text(&self) -> bool {
        self.value.is_str()
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        self.value.as_str() == Some(word)
    }

    /// A text that is not empty.
    pub(super) fn text(&self) -> Option<&'a str> {
        let DeValue::String(text) = self.value else {
            return self.wrong_type("text", "write it in quotes");
        };
        if text.trim().is_empty() {
            self.fault("empty", "write a value or leave the key out");
            return None;
        }
        Some(text)
    }

    /// A text and what it means.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, Complaint>) -> Option<T> {
        self.accept(parse(self.text()?))
    }

    fn accept<T>(&self, parsed: Result<T, Complaint>) -> Option<T> {
        parsed.map_err(|complaint| self.complain(complaint)).ok()
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.wrong_type("true or false", "write true or false without quotes"))
    }

    /// A whole number of 1 or more.
    pub(super) fn count(&self) -> Option<usize> {
        let Some(number) = self.value.as_integer() else {
            return self.wrong_type("a whole number", "write it without quotes");
        };
        let count = usize::from_str_radix(number.as_str(), number.radix()).ok().filter(|count| *count > 0);
        if count.is_none() {
            self.fault(format!("{number} is not a number of 1 or more"), "write a larger number");
        }
        count
    }

    /// A size of 1 byte or more: text with a unit, or a plain number of bytes.
    pub(super) fn size(&self) -> Option<u64> {
        let size = self.size_or_zero()?;
        if size == 0 {
            self.fault("zero", "write a size such as \"1 GiB\"");
            return None;
        }
        Some(size)
    }

    /// A size, where 0 has a meaning of its own.
    pub(super) fn size_or_zero(&self) -> Option<u64> {
        let size = match self.value.as_integer() {
            Some(number) => units::size(&number.to_string()),
            None => units::size(self.text()?),
        };
        self.accept(size)
    }

    pub(super) fn time(&self) -> Option<Duration> {
        match self.value.as_integer() {
            Some(number) => self.accept(units::time(&number.to_string())),
            None => self.parse(units::time),
        }
    }

    /// A moment by RFC 3339, as text or as TOML has it.
    pub(super) fn timestamp(&self) -> Option<Timestamp> {
        let moment = |text: &str| {
            let remedy = "write date, time and zone, such as \"2026-01-31T06:00:00Z\"";
            text.parse().map_err(|_| Complaint::new(format!("{text:?} is not a moment"), remedy))
        };
        match self.value {
            DeValue::Datetime(datetime) => self.accept(moment(&datetime.to_string())),
            _ => self.parse(moment),
        }
    }

    /// The items of a list.
    pub(super) fn items(&self) -> Option<Vec<Value<'a>>> {
        let Some(items) = self.value.as_array() else {
            return self.wrong_type("a list", "write it in brackets: [\"…\"]");
        };
        Some(items.iter().map(|item| Value::new(self.reader, self.key.clone(), item)).collect())
    }

    /// What each item of a list of texts means; items with a fault are left out.
    pub(super) fn parse_items<T>(&self, parse: impl Fn(&str) -> Result<T, Complaint>) -> Vec<T> {
        self.items().unwrap_or_default().iter().filter_map(|item| item.parse(&parse)).collect()
    }

    /// A table that stands once: `[section]` or `{ … }`.
    pub(super) fn section(&self, keys: &Keys) -> Option<Section<'a>> {
        let Some(table) = self.value.as_table() else {
            let remedy =
                if self.value.is_array() { format!("write it once, as [{}]", self.key) } else { "write { … }".to_owned() };
            return self.wrong_type("a table", &remedy);
        };
        let section = Section { reader: self.reader, path: self.key.clone(), line: Some(self.line), table };
        section.refuse_unknown(keys);
        Some(section)
    }

    /// Tables that may stand many times: `[[section]]`.
    pub(super) fn sections(&self, keys: &Keys) -> Vec<Section<'a>> {
        if self.value.is_table() {
            self.wrong_type::<()>("a list of tables", &format!("write [[{}]], with two brackets", self.key));
            return Vec::new();
        }
        self.items().unwrap_or_default().iter().filter_map(|item| item.section(keys)).collect()
    }
}

/// Values that may stand only once in a file.
#[derive(Default)]
pub(super) struct Once(HashMap<String, usize>);

impl Once {
    /// Notes that `value` takes `name`; that another has it is a fault of `value`.
    pub(super) fn claim(&mut self, value: &Value<'_>, name: impl Into<String>, message: &str, remedy: &str) {
        match self.0.entry(name.into()) {
            Entry::Occupied(first) => value.fault(format!("{message}, first on line {}", first.get()), remedy),
            Entry::Vacant(free) => {
                free.insert(value.line);
            }
        }
    }
}
