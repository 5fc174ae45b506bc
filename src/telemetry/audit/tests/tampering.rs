//! Whatever is done to a log's lines shows.

use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::telemetry::audit::verify::Check;

/// A log of batches with so many records, each of some length.
fn log(batches: &[Vec<u8>]) -> Vec<u8> {
    let (mut chain, mut log) = (Chain::default(), Vec::new());
    chain.close(&mut log);
    for batch in batches {
        for (index, length) in batch.iter().enumerate() {
            let line = format!("{{\"schema\":1,\"n\":{index},\"x\":\"{}\"}}\n", "x".repeat(usize::from(*length)));
            chain.add(line.as_bytes(), 1, Instant::now());
            log.extend_from_slice(line.as_bytes());
        }
        chain.close(&mut log);
    }
    log
}

fn check(log: &[u8], head: Option<Hash>) -> Result<Verified, Broken> {
    let mut check = Check::new(head);
    check.begin(Path::new("log"));
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        check.line(line)?;
    }
    check.end()
}

fn lines(log: &[u8]) -> Vec<&[u8]> {
    log.split_inclusive(|byte| *byte == b'\n').collect()
}

/// Where each batch begins and ends, in lines; the first line is one of its own.
fn spans(lines: &[&[u8]]) -> Vec<std::ops::Range<usize>> {
    let ends = lines.iter().enumerate().filter(|(_, line)| line.starts_with(b"{\"chain\":")).map(|(at, _)| at + 1);
    ends.scan(0, |start, end| Some(std::mem::replace(start, end)..end)).collect()
}

fn batches() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(0..40_u8, 1..6), 1..6)
}

proptest! {
    #[test]
    fn an_untouched_log_is_right_and_every_flipped_byte_shows(batches in batches(), at: prop::sample::Index, flip in 1..=255_u8) {
        let mut log = log(&batches);
        let verified = check(&log, None).unwrap();
        prop_assert_eq!(verified.records, batches.iter().map(Vec::len).sum::<usize>() as u64);
        prop_assert_eq!(check(&log, Some(verified.head)).unwrap(), verified);
        let at = at.index(log.len());
        log[at] ^= flip;
        prop_assert!(check(&log, None).is_err(), "byte {at}: {}", String::from_utf8_lossy(&log));
    }

    #[test]
    fn a_line_that_is_missing_repeated_moved_or_new_shows(batches in batches(), at: prop::sample::Index, to: prop::sample::Index) {
        let log = log(&batches);
        let lines = lines(&log);
        let (at, to) = (at.index(lines.len()), to.index(lines.len()));
        let mut removed = lines.clone();
        removed.remove(at);
        // Without its last link a log is one that goes on.
        prop_assert!(at == lines.len() - 1 || check(&removed.concat(), None).is_err());
        let mut repeated = lines.clone();
        repeated.insert(at, lines[at]);
        prop_assert!(check(&repeated.concat(), None).is_err());
        let mut swapped = lines.clone();
        swapped.swap(at, to);
        prop_assert!(lines[at] == lines[to] || check(&swapped.concat(), None).is_err());
        let mut inserted = lines.clone();
        inserted.insert(at, b"{\"schema\":1}\n");
        prop_assert!(check(&inserted.concat(), None).is_err());
    }

    #[test]
    fn a_batch_that_is_missing_repeated_or_moved_shows(batches in batches(), at: prop::sample::Index, to: prop::sample::Index) {
        let log = log(&batches);
        let lines = lines(&log);
        let spans = spans(&lines);
        let joined = |order: &[std::ops::Range<usize>]| order.iter().flat_map(|span| lines[span.clone()].concat()).collect::<Vec<u8>>();
        let (at, to) = (at.index(spans.len()), to.index(spans.len()));
        let mut removed = spans.clone();
        removed.remove(at);
        prop_assert!(at == spans.len() - 1 || check(&joined(&removed), None).is_err());
        let mut repeated = spans.clone();
        repeated.insert(at, spans[at].clone());
        prop_assert!(check(&joined(&repeated), None).is_err());
        let mut swapped = spans.clone();
        swapped.swap(at, to);
        prop_assert!(at == to || check(&joined(&swapped), None).is_err());
    }

    #[test]
    fn a_cut_shows_to_who_knows_the_head(batches in batches(), at: prop::sample::Index) {
        let log = log(&batches);
        let head = check(&log, None).unwrap().head;
        let at = at.index(log.len());
        prop_assert!(check(&log[..at], Some(head)).is_err());
    }

    #[test]
    fn no_text_makes_the_check_panic(text in "(\\{\"chain\":\\{\"number\":[0-9]{0,25}|\"records\":[0-9]{0,20},|\\}\\}|\n|.{0,9}){0,20}") {
        // It may be anything but a panic.
        let _ = check(text.as_bytes(), None);
    }
}

#[test]
fn the_first_wrong_place_is_named() {
    let whole = String::from_utf8(log(&[vec![1, 2], vec![3], vec![4, 5]])).unwrap();
    let told = |log: &str| check(log.as_bytes(), None).unwrap_err().to_string();
    assert_eq!(
        told(&whole.replacen("xxx", "xxy", 1)),
        "log:5: from here on something was changed before the next link (link 2 on line 6 of log)"
    );
    let line = |number: usize| whole.lines().nth(number - 1).unwrap().to_owned() + "\n";
    assert_eq!(
        told(&whole.replace(&line(3), "")),
        "log:2: from here on there were 2 lines before their link, and there are 1 (link 1 on line 3 of log)"
    );
    assert_eq!(
        told(&whole.replace(&line(3), "what\n")),
        "log:3: from here on something was changed before the next link (link 1 on line 4 of log)"
    );
    assert_eq!(
        told(&whole.replace(&(line(5) + &line(6)), "")),
        "log:5: link 2 of the chain is to come here: lines were removed, repeated or moved (link 3 on line 7 of log)"
    );
    assert_eq!(
        told(&whole.replace(&line(1), "")),
        "log:1: a log begins with a link of the chain, and this file does not: its beginning is missing"
    );
    assert_eq!(told(""), "log:0: there is no link of the chain in it");
    let cut = whole.strip_suffix(&line(9)).unwrap();
    let head = Link::parse(whole.lines().last().unwrap().as_bytes()).unwrap().hash;
    let told = check(cut.as_bytes(), Some(head)).unwrap_err().to_string();
    assert_eq!(told, format!("log:8: the log ends without the link {head}: lines are missing, or it is another log"));
}

#[test]
fn a_batch_of_another_log_shows() {
    let (one, other) = (log(&[vec![1], vec![2]]), log(&[vec![3], vec![4]]));
    let (one, other) = (lines(&one), lines(&other));
    let spliced = [&one[..3], &other[3..]].concat().concat();
    let told = check(&spliced, None).unwrap_err().to_string();
    assert_eq!(told, "log:4: this link goes on from another one than that before it (link 2 on line 5 of log)");
}

#[test]
fn every_byte_of_a_log_counts() {
    let whole = log(&[vec![1, 2], vec![3]]);
    for (at, byte) in whole.iter().enumerate() {
        for other in [b'\n', b' ', b'}', b'0', b'1'].into_iter().filter(|other| other != byte) {
            let mut changed = whole.clone();
            changed[at] = other;
            assert!(check(&changed, None).is_err(), "byte {at} {}: {}", char::from(other), String::from_utf8_lossy(&changed));
        }
    }
}

#[test]
fn what_is_not_chained_yet_is_told_and_no_fault() {
    let whole = log(&[vec![1, 2]]);
    for (more, torn) in [("{\"schema\":1}\n", false), ("{\"sche", true), ("{\"chain\":{\"num", true)] {
        let tail = check(&[&whole, more.as_bytes()].concat(), None).unwrap().tail;
        assert_eq!(tail, Some(Tail { file: "log".into(), line: 5, lines: 1, torn }), "{more}");
    }
    assert!(check(&[&whole, &b"anything\n"[..]].concat(), None).is_err());
}

#[test]
fn a_head_may_be_older_than_the_end_but_not_unknown() {
    let short = check(&log(&[vec![1]]), None).unwrap().head;
    let long = log(&[vec![1], vec![2]]);
    assert_eq!(check(&long, Some(short)).unwrap().last, 2);
    assert!(check(&long, Some(Hash::default())).is_ok(), "what the first link goes on from");
    let other = check(&log(&[vec![9]]), None).unwrap().head;
    assert!(check(&long, Some(other)).is_err());
}
