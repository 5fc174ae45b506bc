//! An output that is slow or fails: records are dropped and counted, or requests wait.

use std::sync::{Condvar, Mutex};

use super::*;
use crate::telemetry::Metrics;

/// An output that takes, refuses, or keeps its writer waiting, as told.
#[derive(Clone, Default)]
struct Script(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    way: Way,
    /// Whether the writer has met it as it is now.
    met: bool,
    lines: Vec<u8>,
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
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        (state.way, state.met) = (way, false);
        changed.notify_all();
    }

    /// Waits until the writer has come upon it.
    fn met(&self) {
        let (state, changed) = &*self.0;
        drop(changed.wait_while(state.lock().unwrap(), |state| !state.met).unwrap());
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.0.lock().unwrap().lines.clone()).unwrap()
    }
}

impl Output for Script {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.met = true;
        changed.notify_all();
        state = changed.wait_while(state, |state| state.way == Way::Hangs).unwrap();
        if state.way == Way::Fails {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // In pieces, as a full disk does.
        let piece = &lines[..lines.len().min(100)];
        state.lines.extend_from_slice(piece);
        Ok(piece.len())
    }
}

/// Telemetry with room for three records.
fn narrow(script: &Script, when_full: WhenFull) -> Arc<Telemetry> {
    let (metrics, health) = (Metrics::new(), Health::default());
    let queue = Queue::with_places(3);
    let output = Box::new(script.clone());
    let writer = Writer::new(queue.clone(), output, Chain::default(), metrics.audit.clone(), health.clone());
    let log = AuditLog::new(queue, when_full, metrics.audit.clone());
    let audit = Some(log.write_by(writer.blocking(when_full == WhenFull::Block), true).unwrap());
    Arc::new(Telemetry { metrics, health, access: AccessLog::off(), audit })
}

fn dropped(telemetry: &Telemetry) -> String {
    let metrics = telemetry.metrics.render(&telemetry.health);
    metrics.lines().find_map(|line| line.strip_prefix("roadstead_audit_dropped_total ")).unwrap().to_owned()
}

fn free(telemetry: &Telemetry) -> usize {
    telemetry.audit.as_ref().unwrap().queue.places.available_permits()
}

fn until(fits: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !fits() {
        assert!(start.elapsed() < Duration::from_secs(20), "in vain");
        std::thread::yield_now();
    }
}

/// The verdict on what was written, as a file.
fn verified(script: &Script) -> Verified {
    let folder = Folder::new();
    std::fs::write(folder.path(), script.text()).unwrap();
    folder.verify()
}

#[test]
fn what_finds_no_place_is_dropped_and_counted_and_the_log_says_so() {
    let script = Script::default();
    let telemetry = narrow(&script, WhenFull::Drop);
    script.set(Way::Hangs);
    request(&telemetry);
    script.met();
    (0..5).for_each(|_| request(&telemetry));
    assert_eq!(dropped(&telemetry), "3");
    script.set(Way::Takes);
    until(|| free(&telemetry) == 3);
    request(&telemetry);
    telemetry.finish();
    let verified = verified(&script);
    assert_eq!((verified.records, verified.lost), (4, 3));
    assert_eq!(dropped(&telemetry), "3");
}

#[test]
fn a_record_that_may_be_dropped_keeps_no_request_waiting() {
    let script = Script::default();
    let telemetry = narrow(&script, WhenFull::Drop);
    script.set(Way::Hangs);
    (0..9).for_each(|_| request(&telemetry));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(runtime.block_on(telemetry.admit()).is_ok(), "without a timer it could not wait");
    script.set(Way::Takes);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_may_be_dropped_a_request_waits_for_a_place_and_is_refused_after_a_while() {
    let script = Script::default();
    let telemetry = narrow(&script, WhenFull::Block);
    let open = |place| {
        let mut outcome = Outcome::open(&telemetry, "GET", "/v2/");
        outcome.record_at(place);
        outcome
    };
    let mut under_way: Vec<Outcome> = Vec::new();
    for _ in 0..3 {
        under_way.push(open(telemetry.admit().await.unwrap()));
    }
    let asked = tokio::time::Instant::now();
    assert_eq!(telemetry.admit().await.unwrap_err(), Full);
    assert_eq!(asked.elapsed(), LONGEST_WAIT);
    // One that never was answered gives its place back, to who waits for it.
    let waiting = tokio::spawn({
        let telemetry = telemetry.clone();
        async move { telemetry.admit().await }
    });
    tokio::task::yield_now().await;
    drop(under_way.pop());
    until(|| script.text().lines().count() > 1 || free(&telemetry) > 0 || waiting.is_finished());
    drop(under_way);
    assert!(waiting.await.unwrap().is_ok());
    until(|| free(&telemetry) == 3);
    telemetry.finish();
    assert_eq!((verified(&script).records, verified(&script).lost), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn while_the_disk_fails_nothing_is_answered_that_cannot_be_recorded() {
    let script = Script::default();
    let telemetry = narrow(&script, WhenFull::Block);
    script.set(Way::Fails);
    request(&telemetry);
    until(|| free(&telemetry) == 0);
    assert_eq!(telemetry.admit().await.unwrap_err(), Full, "though there is room in memory");
    assert!(telemetry.health.report().contains("audit: its output fails"), "{}", telemetry.health.report());
    assert!(!telemetry.health.is_ready(), "requests are better sent elsewhere");
    script.set(Way::Takes);
    until(|| free(&telemetry) == 3);
    assert!(telemetry.admit().await.is_ok());
    assert!(telemetry.health.is_ready() && telemetry.health.report().contains("audit: ok"), "{}", telemetry.health.report());
    telemetry.finish();
    assert_eq!((verified(&script).records, dropped(&telemetry)), (1, "0".to_owned()));
}

#[test]
fn the_end_does_not_wait_for_an_output_that_fails() {
    let script = Script::default();
    let telemetry = narrow(&script, WhenFull::Block);
    script.set(Way::Fails);
    request(&telemetry);
    telemetry.finish();
    assert_eq!(script.text().lines().count(), 1);
}
