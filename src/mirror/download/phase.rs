//! The states of a download, and which follows on what. Pure.

use super::Error;

/// How far a download is.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// The upstream has not answered yet.
    Asking,
    /// Bytes are coming and go into a file, from which everybody reads at their own pace.
    Keeping,
    /// Bytes are coming and there is nowhere to keep them: they go by in a window, at the pace of the slowest reader.
    Passing,
    /// All `length` bytes are there and are what the digest says.
    Verified {
        /// How many they are.
        length: u64,
    },
    /// It is over without a blob.
    Failed(Error),
}

/// What happens to a download.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The upstream has answered, and there is a file for its bytes.
    Room,
    /// The upstream has answered, and there is no room for its bytes.
    NoRoom,
    /// More bytes are there, or some came anew in the place of wrong ones.
    More,
    /// The file takes no more.
    DiskFailed,
    /// All bytes are there, and their digest is right.
    Right {
        /// How many they are.
        length: u64,
    },
    /// It cannot be brought to its end.
    Over(Error),
}

impl Phase {
    /// The phase after `event`; `None` where the event changes nothing, because the download is over or not that far.
    pub(super) fn after(&self, event: Event) -> Option<Self> {
        match (self, event) {
            (Self::Asking, Event::Room) => Some(Self::Keeping),
            (Self::Asking, Event::NoRoom) | (Self::Keeping, Event::DiskFailed) => Some(Self::Passing),
            (Self::Keeping | Self::Passing, Event::More) => Some(self.clone()),
            // What turns out to be stored already needs no transfer.
            (Self::Asking | Self::Keeping | Self::Passing, Event::Right { length }) => Some(Self::Verified { length }),
            (Self::Asking | Self::Keeping | Self::Passing, Event::Over(error)) => Some(Self::Failed(error)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    fn name(phase: Option<&Phase>) -> &'static str {
        match phase {
            None => "-",
            Some(Phase::Asking) => "asking",
            Some(Phase::Keeping) => "keeping",
            Some(Phase::Passing) => "passing",
            Some(Phase::Verified { length: 9 }) => "verified",
            Some(Phase::Verified { .. }) => "verified anew",
            Some(Phase::Failed(_)) => "failed",
        }
    }

    #[test]
    fn what_follows_on_what() {
        let over = || Error::new(Kind::BadGateway, "over");
        let phases = [Phase::Asking, Phase::Keeping, Phase::Passing, Phase::Verified { length: 1 }, Phase::Failed(over())];
        for (event, expected) in [
            (Event::Room, ["keeping", "-", "-", "-", "-"]),
            (Event::NoRoom, ["passing", "-", "-", "-", "-"]),
            (Event::More, ["-", "keeping", "passing", "-", "-"]),
            (Event::DiskFailed, ["-", "passing", "-", "-", "-"]),
            (Event::Right { length: 9 }, ["verified", "verified", "verified", "-", "-"]),
            (Event::Over(over()), ["failed", "failed", "failed", "-", "-"]),
        ] {
            let next: Vec<_> = phases.iter().map(|phase| name(phase.after(event.clone()).as_ref())).collect();
            assert_eq!(next, expected, "{event:?}");
        }
    }
}
