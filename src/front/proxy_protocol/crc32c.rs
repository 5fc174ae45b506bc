//! CRC-32C (Castagnoli), the checksum of version 2.

/// The polynomial, its bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut remainder, mut bit) = (byte as u32, 0);
        while bit < 8 {
            remainder = (remainder >> 1) ^ (if remainder & 1 == 1 { POLYNOMIAL } else { 0 });
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
}

/// The checksum of all `parts` one after another.
pub(super) fn checksum(parts: [&[u8]; 3]) -> u32 {
    let step = |sum: u32, byte: &u8| (sum >> 8) ^ TABLE[usize::from(sum.to_le_bytes()[0] ^ byte)];
    !parts.into_iter().flatten().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_value_comes_out_however_the_bytes_are_cut() {
        assert_eq!(checksum([b"123456789", b"", b""]), 0xe306_9283);
        assert_eq!(checksum([b"", b"1234", b"56789"]), 0xe306_9283);
    }
}
