//! The access log: one line per request, written by a thread of its own so that a slow output holds up no request.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::{Metrics, Outcome};

/// How many lines may wait for the output. What comes while they do is dropped and counted.
const WAITING_LINES: usize = 8192;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl LogFormat {
    /// Text on a terminal, JSON elsewhere.
    pub fn for_output(output: &impl IsTerminal) -> Self {
        if output.is_terminal() { Self::Text } else { Self::Json }
    }
}

/// Where access log lines go.
#[derive(Debug)]
pub struct AccessLog(Output);

#[derive(Debug)]
enum Output {
    Off,
    Memory(Arc<Mutex<Vec<String>>>),
    Thread(SyncSender<Item>, LogFormat),
}

/// What the thread is handed.
#[derive(Debug)]
enum Item {
    Line(String),
    /// Everything before this is written; say so.
    Flush(SyncSender<()>),
}

/// How long the program's end may wait for an output that does not keep up.
const LONGEST_FLUSH: Duration = Duration::from_secs(1);

impl AccessLog {
    /// No log.
    pub fn off() -> Self {
        Self(Output::Off)
    }

    /// A log that is kept in memory as JSON lines, for tests.
    pub fn memory() -> (Self, Arc<Mutex<Vec<String>>>) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        (Self(Output::Memory(lines.clone())), lines)
    }

    /// A log on standard output. An output that fails ends the log, not the program.
    pub fn stdout() -> Self {
        let (sender, items) = sync_channel(WAITING_LINES);
        let format = LogFormat::for_output(&std::io::stdout());
        match std::thread::Builder::new().name("access-log".to_owned()).spawn(move || write_out(&items)) {
            Ok(_) => Self(Output::Thread(sender, format)),
            Err(error) => {
                tracing::warn!(%error, "no thread for the access log; going on without it");
                Self::off()
            }
        }
    }

    /// Waits until every line so far is written, 1 s at most. Blocks; for the end of the program.
    pub(super) fn flush(&self) {
        if let Output::Thread(sender, _) = &self.0 {
            let (done, written) = sync_channel(1);
            if sender.try_send(Item::Flush(done)).is_err() || written.recv_timeout(LONGEST_FLUSH).is_err() {
                tracing::warn!("the last lines of the access log may be missing: its output does not keep up");
            }
        }
    }

    pub(super) fn write(&self, outcome: &Outcome, metrics: &Metrics) {
        match &self.0 {
            Output::Off => {}
            Output::Memory(lines) => lines.lock().unwrap_or_else(PoisonError::into_inner).push(json(outcome)),
            Output::Thread(sender, format) => {
                let line = match format {
                    LogFormat::Text => text(outcome),
                    LogFormat::Json => json(outcome) + "\n",
                };
                if sender.try_send(Item::Line(line)).is_err() {
                    metrics.log_line_dropped();
                }
            }
        }
    }
}

fn write_out(items: &Receiver<Item>) {
    let mut output = std::io::stdout().lock();
    for item in items {
        match item {
            Item::Line(line) if output.write_all(line.as_bytes()).and_then(|()| output.flush()).is_ok() => {}
            Item::Line(_) => {
                tracing::warn!("standard output is gone; the access log ends here");
                return;
            }
            // Who asked may have stopped waiting.
            Item::Flush(done) => drop(done.send(())),
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    id: &'a str,
    source: Option<std::net::IpAddr>,
    endpoint: Option<&'a str>,
    method: &'a str,
    path: &'a str,
    registry: Option<&'a str>,
    repository: Option<&'a str>,
    status: u16,
    cache: Option<&'static str>,
    sent: u64,
    seconds: f64,
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

fn json(outcome: &Outcome) -> String {
    let (caller, target) = (outcome.caller.as_ref(), outcome.target.as_ref());
    let line = Line {
        time: now(),
        id: &outcome.id,
        source: caller.map(|caller| caller.source.ip()),
        endpoint: caller.map(|caller| caller.endpoint.as_str()),
        method: &outcome.method,
        path: &outcome.path,
        registry: target.map(|target| target.registry.as_str()),
        repository: target.map(|target| target.repository.as_str()),
        status: outcome.status,
        cache: outcome.served.map(crate::request::Served::as_str),
        sent: outcome.sent,
        seconds: (outcome.elapsed().as_secs_f64() * 1e6).round() / 1e6,
        user_agent: outcome.user_agent.as_deref(),
        reason: outcome.reason.as_deref(),
    };
    serde_json::to_string(&line).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}

fn text(outcome: &Outcome) -> String {
    let source = outcome.caller.as_ref().map_or_else(|| "-".to_owned(), |caller| caller.source.ip().to_string());
    let cache = outcome.served.map_or("-", crate::request::Served::as_str);
    let reason = outcome.reason.as_ref().map_or_else(String::new, |reason| format!("  {reason}"));
    format!(
        "{} {source} {} {} {} {cache} {} B {:.3} s{reason}\n",
        now(),
        outcome.method,
        outcome.path,
        outcome.status,
        outcome.sent,
        outcome.elapsed().as_secs_f64()
    )
}

/// RFC 3339, UTC, milliseconds.
fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}
