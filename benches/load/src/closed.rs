//! Load by keep-alive connections: each asks again as soon as it is answered, or all together at a given rate.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use serde::Serialize;

use crate::histogram::{Histogram, Summary};
use crate::sink::{Buffers, Expected, Sink, nothing_there, passed};

/// A server that does nothing but fail is not asked for ever.
const MAX_ERRORS: u64 = 1000;
/// How long an answer may show nothing before the run is given up.
const STILL: Duration = Duration::from_secs(60);

/// A request and what it is to be answered with.
#[derive(Clone, Debug)]
pub struct Question {
    /// The bytes that are sent.
    pub request: Vec<u8>,
    /// What is to come back.
    pub expected: Expected,
}

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// After this time; what is under way then counts by its bytes only.
    After(Duration),
    /// After so many answers.
    Count(u64),
}

/// What one thread does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who is asked.
    pub address: SocketAddr,
    /// What is asked, one after the other, by whichever connection is next.
    pub questions: Vec<Question>,
    /// How many connections.
    pub connections: usize,
    /// When it ends.
    pub end: End,
    /// Requests per second of all connections together; without it each asks as soon as it is answered. A request that has
    /// to wait for a free connection counts from when it was due.
    pub rate: Option<f64>,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    latency: Histogram,
    first: Histogram,
    bytes: u64,
    seconds: f64,
    errors: u64,
    first_error: Option<String>,
    reconnects: u64,
}

/// What was seen, to be printed.
#[derive(Debug, Serialize)]
pub struct Report {
    requests: u64,
    seconds: f64,
    requests_per_second: f64,
    bytes: u64,
    bytes_per_second: f64,
    /// From the request to the last byte.
    latency_us: Summary,
    /// From the request to the first byte of the body.
    first_byte_us: Summary,
    errors: u64,
    first_error: Option<String>,
    /// Processor time that this process itself has used, user and system.
    cpu_seconds: f64,
    /// Connections that were closed between two answers, and made again.
    reconnects: u64,
}

impl Seen {
    /// Adds what another thread saw at the same time.
    pub fn merge(&mut self, other: Self) {
        self.latency.merge(&other.latency);
        self.first.merge(&other.first);
        self.bytes += other.bytes;
        self.seconds = self.seconds.max(other.seconds);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.reconnects += other.reconnects;
    }

    /// What it all comes to.
    #[must_use]
    pub fn report(self) -> Report {
        let requests = self.latency.count();
        Report {
            requests,
            seconds: self.seconds,
            requests_per_second: requests as f64 / self.seconds,
            bytes: self.bytes,
            bytes_per_second: self.bytes as f64 / self.seconds,
            latency_us: self.latency.summary(),
            first_byte_us: self.first.summary(),
            errors: self.errors,
            first_error: self.first_error,
            cpu_seconds: cpu_seconds().unwrap_or_default(),
            reconnects: self.reconnects,
        }
    }
}

/// Processor time of this process, in Linux's hundredths of a second.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(2);
    fields.map(|ticks| ticks.parse::<f64>().ok()).sum::<Option<f64>>().map(|ticks| ticks / 100.0)
}

/// Runs a plan on this thread.
///
/// # Errors
/// Connections that cannot be made, more than a thousand errors, or a minute in which nothing came.
pub fn run(plan: &Plan) -> io::Result<Seen> {
    let mut client = Client::new(plan)?;
    let started = Instant::now();
    client.due = started;
    let last = client.work(started)?;
    client.seen.seconds = passed(started, last).as_secs_f64();
    Ok(client.seen)
}

struct Client<'a> {
    plan: &'a Plan,
    epoll: OwnedFd,
    sinks: Vec<Sink>,
    /// Which question each connection has asked.
    asked: Vec<usize>,
    idle: VecDeque<usize>,
    buffers: Buffers,
    next: usize,
    issued: u64,
    /// When the next request is due, if there is a rate.
    due: Instant,
    seen: Seen,
}

impl<'a> Client<'a> {
    fn new(plan: &'a Plan) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut sinks = Vec::with_capacity(plan.connections);
        for index in 0..plan.connections {
            let sink = Sink::connect(plan.address, None)?;
            watch(&epoll, &sink, index)?;
            sinks.push(sink);
        }
        Ok(Self {
            plan,
            epoll,
            asked: vec![0; sinks.len()],
            idle: (0..sinks.len()).collect(),
            sinks,
            buffers: Buffers::default(),
            next: 0,
            issued: 0,
            due: Instant::now(),
            seen: Seen::default(),
        })
    }

    /// Works to the end of the plan and says when that was.
    fn work(&mut self, started: Instant) -> io::Result<Instant> {
        let mut events = Vec::with_capacity(self.sinks.len());
        let (mut now, mut moved) = (started, started);
        loop {
            self.ask(now)?;
            events.clear();
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&self.patience(now, started)))?;
            now = Instant::now();
            for event in &events {
                self.read(usize::try_from(event.data.u64()).unwrap_or(usize::MAX), now)?;
            }
            if !events.is_empty() {
                moved = now;
            }
            if self.ended(now, started) {
                return Ok(now);
            }
            if passed(moved, now) > STILL {
                return Err(io::Error::other("nothing came for a minute"));
            }
        }
    }

    fn ended(&self, now: Instant, started: Instant) -> bool {
        match self.plan.end {
            End::After(time) => passed(started, now) >= time,
            End::Count(count) => self.seen.latency.count() + self.seen.errors >= count,
        }
    }

    /// How long to wait for events: to the end, or until a request is due.
    fn patience(&self, now: Instant, started: Instant) -> Timespec {
        let mut time = match self.plan.end {
            End::After(time) => time.saturating_sub(passed(started, now)),
            End::Count(_) => Duration::from_secs(1),
        };
        if self.plan.rate.is_some() && !self.idle.is_empty() {
            time = time.min(passed(now, self.due));
        }
        Timespec { tv_sec: time.as_secs().try_into().unwrap_or(1), tv_nsec: time.subsec_nanos().into() }
    }

    /// Has idle connections ask what is due.
    fn ask(&mut self, now: Instant) -> io::Result<()> {
        while self.may_ask(now) {
            let Some(index) = self.idle.pop_front() else { break };
            let since = self.plan.rate.map_or_else(Instant::now, |rate| self.take_due(rate));
            self.asked[index] = self.next % self.plan.questions.len();
            self.next += 1;
            self.issued += 1;
            self.send(index, since)?;
        }
        Ok(())
    }

    /// When the request that is next should be sent.
    fn take_due(&mut self, rate: f64) -> Instant {
        let due = self.due;
        self.due += Duration::from_secs_f64(1.0 / rate);
        due
    }

    fn may_ask(&self, now: Instant) -> bool {
        let wanted = match self.plan.end {
            End::After(_) => true,
            End::Count(count) => self.issued < count,
        };
        wanted && (self.plan.rate.is_none() || self.due <= now)
    }

    fn send(&mut self, index: usize, since: Instant) -> io::Result<()> {
        let request = &self.plan.questions[self.asked[index]].request;
        if self.sinks[index].ask(request, since).is_ok() {
            return Ok(());
        }
        self.seen.reconnects += 1;
        self.reconnect(index)?;
        self.sinks[index].ask(request, since)
    }

    fn reconnect(&mut self, index: usize) -> io::Result<()> {
        let fresh = Sink::connect(self.plan.address, None)?;
        watch(&self.epoll, &fresh, index)?;
        // The old one leaves the set as it is closed.
        self.sinks[index] = fresh;
        Ok(())
    }

    fn read(&mut self, index: usize, now: Instant) -> io::Result<()> {
        let expected = self.plan.questions[self.asked[index]].expected;
        let sink = &mut self.sinks[index];
        match sink.read(&mut self.buffers, expected) {
            Ok(progress) => {
                self.seen.bytes += progress.bytes;
                if progress.first {
                    self.seen.first.add(passed(sink.since, now));
                }
                if progress.complete {
                    self.seen.latency.add(passed(sink.since, Instant::now()));
                    self.idle.push_back(index);
                }
                Ok(())
            }
            Err(error) if nothing_there(&error) => Ok(()),
            Err(error) => self.failed(index, &error),
        }
    }

    fn failed(&mut self, index: usize, error: &io::Error) -> io::Result<()> {
        if self.idle.contains(&index) {
            self.seen.reconnects += 1;
            return self.reconnect(index);
        }
        self.seen.errors += 1;
        self.seen.first_error.get_or_insert_with(|| error.to_string());
        if self.seen.errors >= MAX_ERRORS {
            return Err(io::Error::other(format!(
                "{MAX_ERRORS} errors, the first: {}",
                self.seen.first_error.as_deref().unwrap_or("")
            )));
        }
        self.idle.push_back(index);
        self.reconnect(index)
    }
}

fn watch(epoll: &OwnedFd, sink: &Sink, index: usize) -> io::Result<()> {
    Ok(epoll::add(epoll, sink, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;

    use super::*;
    use crate::content::Content;
    use crate::origin::Origin;
    use crate::shape::Line;

    const SIZE: u64 = 300_000;

    /// A plan for twenty answers of an upstream that has one blob.
    fn plan(length: u64, rate: Option<f64>) -> Plan {
        let mut content = Content::default();
        let digest = content.add_blob(0, SIZE).digest;
        let origin = Origin { content, latency: Duration::ZERO, rate: None, line: Line::new(None), counts: Default::default() };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        std::thread::spawn(move || Arc::new(origin).serve(&listener));
        let request = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\n\r\n").into_bytes();
        let expected = Expected { status: 200, length: Some(length) };
        Plan { address, questions: vec![Question { request, expected }], connections: 4, end: End::Count(20), rate }
    }

    #[test]
    fn every_answer_is_counted_to_its_last_byte() {
        for rate in [None, Some(1000.0)] {
            let seen = run(&plan(SIZE, rate)).expect("it answers");
            assert_eq!((seen.latency.count(), seen.first.count(), seen.errors), (20, 20, 0));
            assert!((20 * SIZE..20 * (SIZE + 500)).contains(&seen.bytes), "{} bytes", seen.bytes);
        }
    }

    #[test]
    fn an_answer_of_another_length_is_an_error() {
        let seen = run(&plan(SIZE + 1, None)).expect("it answers");
        assert_eq!((seen.latency.count(), seen.errors), (0, 20));
        assert_eq!(seen.first_error.as_deref(), Some("300000 bytes instead of 300001"));
    }
}
