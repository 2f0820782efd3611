//! Numbers of variable length, as in QUIC (RFC 9000 section 16).
//!
//! The two highest bits of the first byte say whether the number has 1, 2, 4 or 8 bytes.

/// The largest number that can be written. All offsets stay below it: at 10 Gbit/s a stream
/// reaches it after a hundred years.
pub const MAX: u64 = (1 << 62) - 1;

/// Bytes of the longest form.
pub const MAX_LEN: usize = 8;

/// Reads a number from the front of `input`, and advances it. `None` when it needs more bytes.
///
/// Longer forms than needed are read as well, as in QUIC.
pub fn take(input: &mut &[u8]) -> Option<u64> {
    let len = len_of(*input.first()?);
    let (bytes, rest) = input.split_at_checked(len)?;
    *input = rest;
    let value = bytes
        .iter()
        .fold(0, |value: u64, &byte| value << 8 | u64::from(byte));
    // The length bits are the highest two of the form.
    Some(value & (u64::MAX >> (64 - 8 * len + 2)))
}

/// Appends `value` in its shortest form to `out`.
///
/// # Panics
///
/// When `value` is above [`MAX`]: what is written here is checked before.
pub fn put(value: u64, out: &mut Vec<u8>) {
    assert!(value <= MAX, "a number that is written fits into 62 bits");
    let (len, mark) = match value {
        0..=0x3f => (1, 0),
        0x40..=0x3fff => (2, 1),
        0x4000..=0x3fff_ffff => (4, 2),
        _ => (8, 3),
    };
    let form = value | mark << (8 * len - 2);
    out.extend_from_slice(&form.to_be_bytes()[8 - len..]);
}

/// How many bytes the number has that begins with `first`.
fn len_of(first: u8) -> usize {
    1 << (first >> 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification_are_read() {
        for (bytes, value) in [
            (&[0x25][..], 37),
            (&[0x40, 0x25], 37),
            (&[0x7b, 0xbd], 15_293),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c],
                151_288_809_941_952_652,
            ),
        ] {
            let mut input = bytes;
            assert_eq!(take(&mut input), Some(value));
            assert!(input.is_empty());
        }
    }

    #[test]
    fn numbers_are_read_as_they_were_written_in_the_shortest_form() {
        for bits in 0..62 {
            for value in [(1_u64 << bits) - 1, 1 << bits, MAX >> bits] {
                let mut out = Vec::new();
                put(value, &mut out);
                let mut input = &out[..];
                assert_eq!(take(&mut input), Some(value));
                assert!(input.is_empty());
                for cut in 0..out.len() {
                    assert_eq!(take(&mut &out[..cut]), None, "and not before it is whole");
                }
            }
        }
    }
}
