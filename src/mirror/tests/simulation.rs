//! A deterministic simulation of the mirror: a seed makes a world (blobs, URLs that misbehave, clients with plans, restarts),
//! and whatever happens in it, what [`judge`] knows must hold.
//!
//! `ROADSTEAD_SEEDS` says how many seeds are run, `ROADSTEAD_SEED` which is the first. A seed that fails is named, with a trace
//! of who did what when; run alone, it does the same again. `make simulate` runs many.

mod client;
mod course;
mod dice;
mod judge;
mod life;
mod log;
mod upstream;
mod vice;
mod world;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
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
    let failed = run_all(first, count);
    let Some((seed, report)) = failed.first() else { return };
    for (seed, report) in &failed {
        for Fault { rule, text } in report.faults.iter().take(2) {
            println!("seed {seed}: {rule:?}: {text}");
        }
    }
    println!("\nseed {seed}, which ROADSTEAD_SEED={seed} ROADSTEAD_SEEDS=1 runs alone:");
    report.lines.iter().take(SHOWN).for_each(|line| println!("{line}"));
    panic!("{} of {count} seeds failed, the first is seed {seed}", failed.len());
}

/// Who waits for the same thing is woken in an order that tokio draws at random; what each does and when is the seed's alone.
#[test]
fn the_same_seed_takes_the_same_course() {
    for seed in number("ROADSTEAD_SEED", 0)..number("ROADSTEAD_SEEDS", 5) {
        let [first, second] = [run(seed), run(seed)].map(|mut report| {
            report.lines.sort();
            report.lines
        });
        let differs = first.iter().zip(&second).find(|(first, second)| first != second);
        if !(first.len() == second.len() && differs.is_none()) { println!("seed {seed}: {differs:#?}"); }
    }
}

/// The reports of those of `count` seeds from `first` that failed, in order. Runs as many at once as there are processors.
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
        if !report.faults.is_empty() {
            failed.push((seed, report));
        }
    }
    failed.sort_by_key(|(seed, _)| *seed);
    failed
}

/// Runs one seed; a panic in it is a fault of it.
fn run(seed: u64) -> Report {
    catch_unwind(AssertUnwindSafe(|| course::run(seed))).unwrap_or_else(|_| Report {
        lines: Vec::new(),
        faults: vec![Fault { rule: Rule::Panic, text: "the simulation panicked; see above".to_owned() }],
    })
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
