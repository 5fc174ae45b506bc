//! How much of an unverified blob may be shown. Pure.

/// The last bytes of a blob that nobody gets before its digest is known to be right. A blob that is no longer is held back
/// whole.
pub(super) const HELD_BACK: u64 = 64 * 1024;

/// The offset of the tail of a blob of `length` bytes.
pub(super) fn tail(length: u64) -> u64 {
    length.saturating_sub(HELD_BACK)
}

/// The offset up to which a reader may go, when the bytes up to `present` are there and the digest is not known yet.
pub(super) fn released(present: u64, length: Option<u64>) -> u64 {
    match length {
        Some(length) => present.min(tail(length)),
        // Any byte may turn out to be one of the last.
        None => tail(present),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_stays_behind() {
        const MIB: u64 = 1024 * 1024;
        for (present, length, limit) in [
            (0, Some(MIB), 0),
            (10, Some(MIB), 10),
            (MIB, Some(MIB), MIB - HELD_BACK),
            (MIB - HELD_BACK, Some(MIB), MIB - HELD_BACK),
            (100, Some(100), 0),
            (HELD_BACK, Some(HELD_BACK), 0),
            (HELD_BACK + 1, Some(HELD_BACK + 1), 1),
            (100, None, 0),
            (MIB, None, MIB - HELD_BACK),
        ] {
            assert_eq!(released(present, length), limit, "{present} of {length:?}");
        }
    }
}
