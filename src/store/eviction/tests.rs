use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::oci::Algorithm;

fn digest(i: u32) -> Digest {
    Digest::of(if i.is_multiple_of(7) { Algorithm::Sha512 } else { Algorithm::Sha256 }, &i.to_le_bytes())
}

fn table(cap: u64) -> Table {
    Table::new(cap, HashSet::new())
}

fn names(victims: &[Victim]) -> Vec<Digest> {
    victims.iter().map(|victim| victim.digest).collect()
}

#[test]
fn the_oldest_unused_goes_first() {
    let mut table = table(100);
    for i in 1..=10 {
        assert_eq!(table.admit(&digest(i), 10, 0), []);
    }
    assert!(table.touch(&digest(1), 5));
    assert_eq!(names(&table.reserve(20).unwrap()), [digest(2), digest(3)]);
    assert_eq!((table.len(), table.bytes()), (8, 80));
    table.release(20);
    assert_eq!(table.admit(&digest(11), 20, 0), []);
    assert_eq!(table.size(&digest(11)), Some(20));
}

#[test]
fn one_large_pull_does_not_drive_out_what_is_used() {
    let mut table = table(100);
    for i in 1..=8 {
        table.admit(&digest(i), 10, 0);
        table.touch(&digest(i), 0);
    }
    for i in 100..200 {
        table.admit(&digest(i), 10, 0);
    }
    assert!((1..=8).all(|i| table.size(&digest(i)).is_some()));
}

#[test]
fn an_image_larger_than_the_small_queue_stays_whole_beside_stale_content() {
    let mut table = table(100);
    for i in 1..=10 {
        table.admit(&digest(i), 10, 0);
        table.touch(&digest(i), 0);
    }
    for i in 101..=106 {
        table.admit(&digest(i), 10, STALE + 1);
    }
    assert!((101..=106).all(|i| table.size(&digest(i)).is_some()));
    assert_eq!(table.bytes(), 100);
}

#[test]
fn what_comes_back_soon_stays_longer() {
    let mut table = table(100);
    for i in 1..=11 {
        table.admit(&digest(i), 10, 0);
    }
    assert_eq!(table.size(&digest(1)), None);
    table.admit(&digest(1), 10, 0);
    for i in 12..=30 {
        table.admit(&digest(i), 10, 0);
    }
    assert_eq!(table.size(&digest(1)), Some(10));
}

#[test]
fn whoever_reserves_beside_others_evicts_no_more_at_once() {
    let mut table = table(100);
    (0..100).for_each(|i| drop(table.admit(&digest(i), 1, 0)));
    let (mut waiting, mut evicted) = (vec![50, 50], 0);
    while let Some(bytes) = waiting.pop() {
        let (victims, is_enough) = table.reserve_in_steps(bytes, 10).unwrap();
        assert!(victims.len() <= 10);
        evicted += victims.len();
        if !is_enough {
            waiting.insert(0, bytes);
        }
    }
    assert_eq!((evicted, table.len(), table.reserve(1)), (100, 0, Err(NoRoom)));
}

#[test]
fn a_reservation_that_cannot_be_had_evicts_nothing() {
    let mut table = table(100);
    table.admit(&digest(1), 40, 0);
    table.admit(&digest(2), 40, 0);
    table.pin(&digest(1));
    assert_eq!(table.reserve(61), Err(NoRoom));
    assert_eq!(table.reserve(u64::MAX), Err(NoRoom));
    assert_eq!(table.bytes(), 80);
    assert_eq!(names(&table.reserve(60).unwrap()), [digest(2)]);
    assert_eq!(table.reserve(1), Err(NoRoom));
}

#[test]
fn pins_hold_before_and_after_the_content_comes() {
    let mut table = Table::new(30, HashSet::from([digest(1)]));
    table.admit(&digest(1), 10, 0);
    table.admit(&digest(2), 10, 0);
    table.pin(&digest(2));
    for i in 3..9 {
        table.admit(&digest(i), 10, 0);
    }
    assert!(table.size(&digest(1)).is_some() && table.size(&digest(2)).is_some());
    table.unpin(&digest(1));
    assert!(!table.is_pinned(&digest(1)));
    let victims = table.reserve(20).unwrap();
    assert_eq!(victims.len(), 2);
    assert!(names(&victims).contains(&digest(1)));
}

#[test]
fn bytes_that_readers_hold_open_count() {
    let mut table = table(100);
    table.linger(50);
    assert_eq!(table.reserve(51), Err(NoRoom));
    table.lingered(50);
    assert_eq!(table.reserve(51), Ok(Vec::new()));
}

#[test]
fn a_short_file_system_is_helped_only_where_that_helps() {
    let mut table = table(100);
    (1..=4).for_each(|i| drop(table.admit(&digest(i), 10, 0)));
    assert_eq!(table.free(41, usize::MAX), []);
    assert_eq!(table.free(25, 1).len(), 1);
    assert_eq!(table.free(15, usize::MAX).len(), 2);
}

#[test]
fn a_sweep_finds_the_old_in_order_and_brings_back_nothing_removed() {
    let found = |i, used| Use { digest: digest(i), size: 10, used };
    let mut table = table(40);
    table.begin_sweep();
    table.admit(&digest(9), 10, 100);
    table.touch(&digest(9), 101);
    table.remove(&digest(5));
    assert_eq!(table.load(&found(5, 95)), None);
    for (i, used) in [(1, 90), (2, 80), (3, 70), (9, 60)] {
        assert_eq!(table.load(&found(i, used)), None);
    }
    assert_eq!(table.load(&found(4, 50)), Some(Victim { digest: digest(4), size: 10 }));
    table.end_sweep();
    assert_eq!(table.len(), 4);
    assert_eq!(names(&table.reserve(20).unwrap()), [digest(3), digest(2)]);
}

#[test]
fn nobody_waits_until_all_that_was_used_was_looked_at() {
    let count = 2 * u32::try_from(PATIENCE).unwrap();
    let mut table = table(u64::from(count));
    for i in 0..count {
        table.admit(&digest(i), 1, 0);
        table.touch(&digest(i), 0);
    }
    assert_eq!(names(&table.reserve(1).unwrap()), [digest(u32::try_from(PATIENCE).unwrap())]);
}

#[test]
fn uses_are_written_down_in_the_order_of_the_index() {
    let mut table = table(1000);
    (0..1000).for_each(|i| drop(table.admit(&digest(i), 1, 0)));
    (0..1000).for_each(|i| assert!(table.touch(&digest(i), 5)));
    let mut taken = Vec::new();
    for _ in 0..10 {
        let some = table.take_uses(100);
        assert_eq!(some.len(), 100);
        taken.extend(some);
    }
    assert!(taken.is_sorted_by_key(|taken| taken.digest.bytes()[0]));
    taken.sort_by_key(|taken| taken.digest);
    taken.dedup();
    assert_eq!((taken.len(), table.take_uses(1)), (1000, Vec::new()));
    table.touch(&taken[0].digest, 6);
    assert_eq!(table.take_uses(9), [Use { used: 6, ..taken[0] }]);
}

#[test]
fn uses_are_written_down_once() {
    let mut table = table(100);
    (1..=3).for_each(|i| drop(table.admit(&digest(i), 10, 0)));
    (1..=3).for_each(|i| assert!(table.touch(&digest(i), 5) && table.touch(&digest(i), 6)));
    table.remove(&digest(2));
    table.admit(&digest(4), 10, 0);
    let mut taken = table.take_uses(2);
    taken.extend(table.take_uses(2));
    taken.sort_by_key(|taken| taken.digest);
    let mut expected = [1, 3].map(|i| Use { digest: digest(i), size: 10, used: 6 });
    expected.sort_by_key(|taken| taken.digest);
    assert_eq!(taken, expected);
    assert_eq!(table.take_uses(9), []);
}

#[test]
fn two_contents_with_one_prefix_are_not_taken_for_each_other() {
    let mut other = [0; 32];
    let Digest::Sha256(one) = digest(1) else { panic!("1 is not a multiple of 7") };
    other[..16].copy_from_slice(&one[..16]);
    let mut table = table(100);
    table.admit(&digest(1), 10, 0);
    assert_eq!(table.size(&Digest::Sha256(other)), None);
    assert_eq!(names(&table.admit(&Digest::Sha256(other), 20, 0)), [digest(1)]);
    assert_eq!((table.size(&Digest::Sha256(other)), table.bytes()), (Some(20), 20));
}

#[derive(Clone, Debug)]
enum Step {
    Admit(u32, u64),
    Touch(u32),
    Reserve(u64),
    Release,
    Remove(u32),
    Pin(u32),
    Unpin(u32),
    Free(u64),
    Load(u32, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0u32..20;
    prop_oneof![
        (id.clone(), 0u64..50).prop_map(|(i, size)| Step::Admit(i, size)),
        id.clone().prop_map(Step::Touch),
        (0u64..120).prop_map(Step::Reserve),
        Just(Step::Release),
        id.clone().prop_map(Step::Remove),
        id.clone().prop_map(Step::Pin),
        id.clone().prop_map(Step::Unpin),
        (0u64..60).prop_map(Step::Free),
        (id, 0u64..50).prop_map(|(i, size)| Step::Load(i, size)),
    ]
}

/// The table beside a plain map that says what must be in it.
struct Pair {
    table: Table,
    model: HashMap<Digest, u64>,
    reserved: Vec<u64>,
}

impl Pair {
    fn take(&mut self, step: &Step) -> Vec<Victim> {
        let known = |pair: &Self, i: u32| pair.model.contains_key(&digest(i));
        match *step {
            Step::Admit(i, size) => {
                let victims = self.table.admit(&digest(i), size, 1);
                self.model.entry(digest(i)).or_insert(size);
                victims
            }
            Step::Touch(i) => {
                assert_eq!(self.table.touch(&digest(i), 2), known(self, i));
                Vec::new()
            }
            Step::Reserve(bytes) => {
                let got = self.table.reserve(bytes);
                self.reserved.extend(got.is_ok().then_some(bytes));
                got.unwrap_or_default()
            }
            Step::Release => {
                self.reserved.pop().into_iter().for_each(|bytes| self.table.release(bytes));
                Vec::new()
            }
            Step::Remove(i) => {
                assert_eq!(self.table.remove(&digest(i)), self.model.remove(&digest(i)));
                Vec::new()
            }
            Step::Pin(i) => {
                self.table.pin(&digest(i));
                Vec::new()
            }
            Step::Unpin(i) => {
                self.table.unpin(&digest(i));
                Vec::new()
            }
            Step::Free(bytes) => self.table.free(bytes, usize::MAX),
            Step::Load(i, size) => {
                let known = known(self, i);
                let refused = self.table.load(&Use { digest: digest(i), size, used: 0 });
                if !known && refused.is_none() {
                    self.model.insert(digest(i), size);
                }
                Vec::new()
            }
        }
    }
}

impl Pair {
    /// Whether the cap holds, or no content but `newest` could have been evicted to make it hold.
    fn cap_holds(&self, cap: u64, newest: Option<Digest>) -> bool {
        let unpinned = |(digest, _): &(&Digest, &u64)| !self.table.is_pinned(digest) && Some(**digest) != newest;
        self.table.used() <= cap || self.model.iter().filter(unpinned).all(|(_, &size)| size == 0)
    }
}

proptest! {
    #[test]
    fn the_invariants_hold(steps in proptest::collection::vec(step(), 0..80)) {
        const CAP: u64 = 100;
        let mut pair = Pair { table: table(CAP), model: HashMap::new(), reserved: Vec::new() };
        for step in &steps {
            let (known_before, held_before) = (pair.model.clone(), pair.reserved.len());
            let pinned_before = pair.table.pins.clone();
            for victim in pair.take(step) {
                prop_assert!(!pinned_before.contains(&victim.digest), "a pinned victim");
                prop_assert_eq!(pair.model.remove(&victim.digest), Some(victim.size));
                prop_assert_eq!(pair.table.size(&victim.digest), None);
            }
            prop_assert_eq!(pair.table.len(), pair.model.len());
            prop_assert_eq!(pair.table.bytes(), pair.model.values().sum::<u64>());
            for (digest, size) in &pair.model {
                prop_assert_eq!(pair.table.size(digest), Some(*size));
            }
            match step {
                Step::Reserve(_) if pair.reserved.len() > held_before => prop_assert!(pair.table.used() <= CAP),
                Step::Reserve(_) => prop_assert_eq!(&pair.model, &known_before, "a refused reservation evicted"),
                Step::Admit(i, _) if !known_before.contains_key(&digest(*i)) => {
                    prop_assert!(pair.cap_holds(CAP, Some(digest(*i))));
                }
                _ => {}
            }
        }
    }
}
