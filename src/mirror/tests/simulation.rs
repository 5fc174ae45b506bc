//! A deterministic simulation of the mirror: a seed makes a world (blobs, URLs that misbehave, clients with plans, restarts),
//! and whatever happens in it, what [`judge`] knows must hold.
//!
//! `ROADSTEAD_SEEDS` says how many seeds are run, `ROADSTEAD_SEED` which is the first. A seed that fails is named, with a trace
//! of who did what when; run alone, it does the same again. `make simulate` runs many.

mod client;
mod course;
mod dice;
mod disk;
mod judge;
mod life;
mod log;
mod upstream;
mod vice;
mod world;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, mpsc};
use std::time::Duration;

use course::Report;
use log::{Fault, Rule};

/// Seeds run by `cargo test`.
const SEEDS: u64 = 200;
/// No seed takes so long, unless it is stuck where simulated time cannot pass.
const STUCK: Duration = Duration::from_secs(120);
/// Lines of a trace that are shown.
const SHOWN: usize = 400;

#[test]
fn seeds() {
    let (first, count) = (number("ROADSTEAD_SEED", 0), number("ROADSTEAD_SEEDS", SEEDS));
    // Who runs one seed wants to see it.
    let (told, failed) = run_all(first, count).into_iter().partition::<Vec<_>, _>(|(_, report)| report.faults.is_empty());
    let faults = failed.iter().flat_map(|(seed, report)| report.faults.iter().take(2).map(move |fault| (seed, fault)));
    for (seed, Fault { rule, text }) in faults {
        println!("seed {seed}: {rule:?}: {text}");
    }
    if let Some((seed, report)) = failed.iter().chain(&told).next() {
        println!("\nseed {seed}, which ROADSTEAD_SEED={seed} ROADSTEAD_SEEDS=1 runs alone:");
        report.lines.iter().take(SHOWN).for_each(|line| println!("{line}"));
    }
    assert!(failed.is_empty(), "{} of {count} seeds failed, the first is seed {}", failed.len(), failed[0].0);
}

/// Each client does the same at the same time when a seed is run again. Who waits for the same thing is woken in an order that
/// tokio draws at random, which in few seeds makes a difference to more than the order of the lines.
#[test]
fn a_seed_takes_the_same_course_again() {
    let exact = cfg!(tokio_unstable);
    let course = |seed| {
        let mut lines = run(seed).lines;
        if !exact {
            lines.sort();
        }
        lines
    };
    let differ: Vec<u64> = (0..10).filter(|seed| course(*seed) != course(*seed)).collect();
    assert!(differ.len() <= if exact { 0 } else { 2 }, "seeds {differ:?} took another course");
}

/// The reports of those of `count` seeds from `first` that failed, in order, or of the only one. Runs as many at once as there are processors.
fn run_all(first: u64, count: u64) -> Vec<(u64, Report)> {
    let (next, running) = (Arc::new(AtomicU64::new(first)), Arc::new(Mutex::new(BTreeSet::new())));
    let (sender, reports) = mpsc::channel();
    for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
        let (next, running, sender) = (next.clone(), running.clone(), sender.clone());
        std::thread::spawn(move || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + count {
                    return;
                }
                running.lock().unwrap().insert(seed);
                let report = run(seed);
                running.lock().unwrap().remove(&seed);
                if sender.send((seed, report)).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let mut failed = Vec::new();
    for _ in 0..count {
        let (seed, report) = reports.recv_timeout(STUCK).unwrap_or_else(|_| panic!("stuck: seeds {:?}", running.lock().unwrap()));
        if !report.faults.is_empty() || count == 1 {
            failed.push((seed, report));
        }
    }
    failed.sort_by_key(|(seed, _)| *seed);
    failed
}

thread_local! {
    /// How often this thread panicked. The runtime swallows the panics of its tasks.
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Runs one seed; a panic in it is a fault of it.
fn run(seed: u64) -> Report {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            before(panic);
        }));
    });
    PANICS.set(0);
    let report = catch_unwind(AssertUnwindSafe(|| course::run(seed)));
    let mut report = report.unwrap_or_else(|_| Report { lines: Vec::new(), faults: Vec::new() });
    if PANICS.get() > 0 {
        report.faults.push(Fault { rule: Rule::Panic, text: "something panicked; see above".to_owned() });
    }
    report
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
