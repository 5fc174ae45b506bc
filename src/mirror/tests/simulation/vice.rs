//! The ways in which a URL misbehaves.

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vice {
    /// The connection breaks in the middle.
    Cut,
    /// Nothing more comes.
    Stall,
    /// Nothing comes for longer than anybody waits, then the rest.
    Doze,
    /// A byte every 29 s for a while.
    Trickle,
    /// The body ends too early as if that were its end.
    Early,
    /// There is more behind the end.
    Late,
    /// One byte is another.
    WrongByte,
    /// All bytes are others.
    WrongBytes,
    /// The length in the head is another.
    WrongLength,
    /// No length in the head.
    NoLength,
    /// It answers with this status instead.
    Status(u16),
    /// Its answer takes its time.
    SlowHead,
    /// It never answers.
    NoHead,
    /// It cannot be connected to.
    Down,
    /// It sends all where a range is asked for.
    IgnoresRange,
    /// It sends another range than the one asked for, and says so.
    OtherRange,
    /// It sends another range than the one asked for, and does not say so.
    WrongRange,
    /// It has another entity tag than before.
    OtherTag,
}

impl Vice {
    pub(super) const ALL: [Self; 23] = [
        Self::Cut,
        Self::Stall,
        Self::Doze,
        Self::Trickle,
        Self::Early,
        Self::Late,
        Self::WrongByte,
        Self::WrongBytes,
        Self::WrongLength,
        Self::NoLength,
        Self::Status(401),
        Self::Status(403),
        Self::Status(404),
        Self::Status(429),
        Self::Status(500),
        Self::Status(503),
        Self::SlowHead,
        Self::NoHead,
        Self::Down,
        Self::IgnoresRange,
        Self::OtherRange,
        Self::WrongRange,
        Self::OtherTag,
    ];

    /// Whether what it says is not so: clients may then see errors even where another URL knows better.
    pub(super) fn lies(self) -> bool {
        matches!(self, Self::Late | Self::WrongByte | Self::WrongBytes | Self::WrongLength | Self::WrongRange)
    }

    /// Whether other URLs are not asked after it.
    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::Status(401 | 403))
    }
}
