//! A disk that fails now and then.

use rustix::io::Errno;

use super::dice::Dice;
use crate::store::{Faults, Operation};

/// What can fail besides the index, which has a thread of its own and would make what happens depend on its pace.
const OPERATIONS: [Operation; 13] = [
    Operation::Create,
    Operation::Open,
    Operation::Metadata,
    Operation::Allocate,
    Operation::Write,
    Operation::Read,
    Operation::SetLength,
    Operation::Sync,
    Operation::Rename,
    Operation::Remove,
    Operation::List,
    Operation::MakeFolder,
    Operation::SyncFolder,
];

/// How the disk of one seed fails.
#[derive(Clone, Debug)]
pub(super) enum Disk {
    /// Not at all.
    Well,
    /// So many of a hundred of such operations fail, at random.
    Shaky { operations: Vec<Operation>, percent: u64, error: Errno },
    /// After so many operations, it takes nothing more for a while.
    Full { after: u64, lasts: u64 },
    /// The index cannot be written.
    NoIndex,
}

impl Disk {
    pub(super) fn new(dice: &mut Dice) -> Self {
        match dice.below(20) {
            0 | 1 => {
                let operations = (0..dice.between(1, 3)).map(|_| dice.pick(&OPERATIONS)).collect();
                Self::Shaky { operations, percent: dice.pick(&[3, 20, 100]), error: dice.pick(&[Errno::IO, Errno::NOSPC]) }
            }
            2 => Self::Full { after: dice.below(40), lasts: dice.between(1, 60) },
            3 => Self::NoIndex,
            _ => Self::Well,
        }
    }

    /// Whether it never fails where content is written or read.
    pub(super) fn is_well(&self) -> bool {
        matches!(self, Self::Well | Self::NoIndex)
    }

    /// Lets the disk of one life fail so.
    pub(super) fn spoil(&self, faults: &Faults, seed: u64, life: u64) {
        match self.clone() {
            Self::Well => {}
            Self::Shaky { operations, percent, error } => {
                let mut dice = Dice::of(&[seed, 3, life]);
                faults.decide(move |asked| (operations.contains(&asked) && dice.chance(percent)).then_some(error));
            }
            Self::Full { after, lasts } => {
                let mut asked_before = 0;
                faults.decide(move |asked| {
                    let takes_room = matches!(asked, Operation::Create | Operation::Allocate | Operation::Write | Operation::Sync);
                    asked_before += u64::from(takes_room);
                    (takes_room && (after..after + lasts).contains(&(asked_before - 1))).then_some(Errno::NOSPC)
                });
            }
            Self::NoIndex => faults.always(Operation::IndexWrite, Errno::NOSPC),
        }
    }
}
