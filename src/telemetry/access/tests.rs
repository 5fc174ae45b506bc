use std::net::IpAddr;
use std::sync::Condvar;
use std::sync::mpsc::RecvTimeoutError;

use proptest::prelude::*;
use serde::Serialize;

use super::*;
use crate::oci::Reference;
use crate::request::{Caller, Endpoint, Item, Served, Target};
use crate::telemetry::Telemetry;

/// The line as `serde_json` writes it.
#[derive(Serialize)]
struct Plain<'a> {
    time: String,
    id: &'a str,
    source: Option<IpAddr>,
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

fn plain(outcome: &Outcome, end: &End) -> String {
    let (caller, target) = (outcome.caller.as_ref(), outcome.target.as_ref());
    let line = Plain {
        time: format!("{:.3}", end.time),
        id: &outcome.id,
        source: caller.map(|caller| caller.source.ip()),
        endpoint: caller.map(|caller| caller.endpoint.as_str()),
        method: &outcome.method,
        path: &outcome.path,
        registry: target.map(|target| target.registry.as_str()),
        repository: target.map(|target| target.repository.as_str()),
        status: outcome.status,
        cache: outcome.served.map(Served::as_str),
        sent: outcome.sent,
        seconds: (end.elapsed.as_secs_f64() * 1e6).round() / 1e6,
        user_agent: outcome.user_agent.as_deref(),
        reason: outcome.reason.as_deref(),
    };
    serde_json::to_string(&line).unwrap() + "\n"
}

fn written(write: impl FnOnce(&mut Vec<u8>, &Outcome, &End), outcome: &Outcome, end: &End) -> String {
    let mut room = Vec::new();
    write(&mut room, outcome, end);
    String::from_utf8(room).unwrap()
}

fn end(millis: i64, elapsed: Duration) -> End {
    End { time: jiff::Timestamp::from_millisecond(millis).unwrap(), elapsed }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,40}", "\\PC{0,40}", "(.|\"|\\\\|\n|\u{0}|\u{7f}|\u{2028}){0,20}"]
}

fn elapsed() -> impl Strategy<Value = Duration> {
    // From a nanosecond to a year, with as many of each length.
    (0..55_u32, any::<u64>()).prop_map(|(bits, value)| Duration::from_nanos(value & ((1 << bits) - 1)))
}

fn caller() -> impl Strategy<Value = Option<Caller>> {
    let caller = (any::<IpAddr>(), text()).prop_map(|(source, endpoint)| Caller {
        source: (source, 1).into(),
        endpoint: Endpoint::listener(endpoint.into()),
        ..Caller::direct("nodes".into(), ([10, 0, 0, 7], 1).into())
    });
    prop::option::of(caller)
}

fn target() -> impl Strategy<Value = Option<Target>> {
    let target =
        ("[a-z]{1,9}\\.[a-z]{2,4}(:[1-9]{1,4})?", "[a-z]{1,9}(/[a-z0-9]{1,9}){0,3}").prop_map(|(registry, repository)| Target {
            registry: registry.parse().unwrap(),
            repository: repository.parse().unwrap(),
            item: Item::Manifest(Reference::Tag("v1".parse().unwrap())),
        });
    prop::option::of(target)
}

proptest! {
    #[test]
    fn a_line_is_what_the_library_writes(
        (method, path, user_agent, reason) in (text(), text(), prop::option::of(text()), prop::option::of(text())),
        (caller, target) in (caller(), target()),
        (millis, elapsed, status, sent) in (0..253_402_207_200_000_i64, elapsed(), any::<u16>(), any::<u64>()),
        served in prop::option::of(prop::sample::select(vec![Served::Hit, Served::Miss, Served::Revalidated])),
    ) {
        let mut outcome = Outcome::open(&Telemetry::quiet(), &method, "/");
        // Nothing is cleaned on the way: the line stands on its own.
        outcome.path = path;
        (outcome.user_agent, outcome.reason) = (user_agent, reason);
        (outcome.target, outcome.served, outcome.status, outcome.sent) = (target, served, status, sent);
        if let Some(caller) = caller {
            let user_agent = outcome.user_agent.take();
            outcome.caller(caller, None);
            outcome.user_agent = user_agent;
        }
        let end = end(millis, elapsed);
        prop_assert_eq!(written(line::json, &outcome, &end), plain(&outcome, &end));
    }
}

#[test]
fn a_line_for_people_reads_well() {
    let mut outcome = Outcome::open(&Telemetry::quiet(), "GET", "/v2/");
    let end = end(1_787_306_896_007, Duration::from_micros(12_345));
    assert_eq!(written(line::text, &outcome, &end), "2026-08-21T10:08:16.007Z - GET /v2/ 0 - 0 B 0.012 s\n");
    outcome.caller(Caller::direct("nodes".into(), ([10, 0, 0, 7], 1).into()), None);
    (outcome.status, outcome.sent, outcome.served) = (200, 5, Some(Served::Stale));
    outcome.reason = Some("it broke".to_owned());
    assert_eq!(written(line::text, &outcome, &end), "2026-08-21T10:08:16.007Z 10.0.0.7 GET /v2/ 200 stale 5 B 0.012 s  it broke\n");
}

/// An output that takes, refuses, or keeps its writer waiting, as told.
#[derive(Clone, Default)]
struct Script(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    way: Way,
    /// Whether the writer waits.
    held: bool,
    writes: Vec<String>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Way {
    #[default]
    Takes,
    Fails,
    Hangs,
}

impl Script {
    fn set(&self, way: Way) {
        self.0.0.lock().unwrap().way = way;
        self.0.1.notify_all();
    }

    fn until(&self, fits: impl Fn(&State) -> bool) {
        let (state, changed) = &*self.0;
        let waited = changed.wait_timeout_while(state.lock().unwrap(), Duration::from_secs(20), |state| !fits(state));
        assert!(!waited.unwrap().1.timed_out(), "in vain");
    }

    fn writes(&self) -> Vec<String> {
        self.0.0.lock().unwrap().writes.clone()
    }

    fn telemetry(&self) -> Arc<Telemetry> {
        Telemetry::new(AccessLog::to(self.clone(), LogFormat::Json))
    }
}

impl Write for Script {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.held = true;
        changed.notify_all();
        state = changed.wait_while(state, |state| state.way == Way::Hangs).unwrap();
        state.held = false;
        if state.way == Way::Fails {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        state.writes.push(String::from_utf8(lines.to_vec()).unwrap());
        changed.notify_all();
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn request(telemetry: &Arc<Telemetry>, number: usize) {
    drop(Outcome::open(telemetry, "GET", &format!("/{number}")));
}

/// The numbers of the requests whose lines these are.
fn numbers(writes: &[String]) -> Vec<usize> {
    let number = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["path"].as_str().unwrap()[1..].parse().unwrap()
    };
    writes.concat().lines().map(number).collect()
}

fn dropped(telemetry: &Telemetry) -> usize {
    let metrics = telemetry.metrics.render(&telemetry.health);
    metrics.lines().find_map(|line| line.strip_prefix("roadstead_access_log_dropped_total ")).unwrap().parse().unwrap()
}

#[test]
fn a_line_wakes_a_writer_that_sleeps() {
    let script = Script::default();
    let telemetry = script.telemetry();
    let Output::Thread(buffer, _) = &telemetry.access.0 else { panic!() };
    for number in 0..3 {
        let start = std::time::Instant::now();
        while !buffer.is_idle() {
            assert!(start.elapsed() < Duration::from_secs(20), "in vain");
            std::thread::yield_now();
        }
        request(&telemetry, number);
        script.until(|state| state.writes.len() == number + 1);
    }
    assert_eq!(numbers(&script.writes()), [0, 1, 2]);
}

#[test]
fn lines_that_came_meanwhile_are_written_at_once() {
    let script = Script::default();
    let telemetry = script.telemetry();
    script.set(Way::Hangs);
    request(&telemetry, 0);
    script.until(|state| state.held);
    (1..100).for_each(|number| request(&telemetry, number));
    script.set(Way::Takes);
    telemetry.finish();
    let writes = script.writes();
    assert_eq!((writes.len(), numbers(&writes)), (2, (0..100).collect()));
}

#[test]
fn a_slow_output_holds_up_no_request_and_what_it_cannot_take_is_counted() {
    let script = Script::default();
    let telemetry = script.telemetry();
    script.set(Way::Hangs);
    request(&telemetry, 0);
    script.until(|state| state.held);
    (1..buffer::MOST_LINES + 4).for_each(|number| request(&telemetry, number));
    assert_eq!(dropped(&telemetry), 3);
    script.set(Way::Takes);
    telemetry.finish();
    request(&telemetry, buffer::MOST_LINES + 4);
    telemetry.finish();
    let expected: Vec<usize> = (0..=buffer::MOST_LINES).chain([buffer::MOST_LINES + 4]).collect();
    assert!(numbers(&script.writes()) == expected, "{:?}", numbers(&script.writes()).len());
    assert_eq!(dropped(&telemetry), 3);
}

#[test]
fn an_output_that_is_gone_ends_the_log_and_nothing_else() {
    let script = Script::default();
    let telemetry = script.telemetry();
    script.set(Way::Fails);
    request(&telemetry, 0);
    telemetry.finish();
    request(&telemetry, 1);
    request(&telemetry, 2);
    assert_eq!(dropped(&telemetry), 2);
    assert!(script.writes().is_empty());
    let Output::Thread(buffer, _) = &telemetry.access.0 else { panic!() };
    let (done, written) = sync_channel(1);
    buffer.flush(done);
    let told = written.recv_timeout(Duration::from_secs(20));
    assert_eq!(told, Err(RecvTimeoutError::Disconnected), "the program's end need not wait");
}

#[test]
fn the_last_lines_are_written_when_the_log_is_dropped() {
    let script = Script::default();
    let telemetry = script.telemetry();
    request(&telemetry, 0);
    script.until(|state| state.writes.len() == 1);
    request(&telemetry, 1);
    drop(telemetry);
    script.until(|state| state.writes.len() == 2);
    assert_eq!(numbers(&script.writes()), [0, 1]);
}

#[test]
fn what_waits_is_bounded_in_bytes_too() {
    let buffer = Buffer::default();
    let half = vec![b'x'; buffer::MOST_BYTES / 2];
    assert_eq!([(); 3].map(|()| buffer.push(&half)), [true, true, false]);
    assert!(buffer.take(&mut Vec::new()).is_some());
    assert!(buffer.push(&half));
}
