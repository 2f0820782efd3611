//! Which segments have arrived, as bits: what a datagram of acknowledgements tells of all of them.
//!
//! An acknowledgement names one segment, and where many datagrams are lost so are many of these.
//! What is not acknowledged is sent again for nothing. So between two Holdfasts each datagram of
//! acknowledgements repeats the last of them with a map for its data: the number of a segment, which
//! is a multiple of 64, and a bit for each segment from there on. kcp-go and a session that knows
//! nothing of it pass over the data of an acknowledgement.

use crate::segment::distance;

/// Segments in one word.
pub(super) const WORD: u32 = u64::BITS;

/// Bits by segment number, in a ring.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// Makes room for the segments that a ring of `n_slots` holds. Nothing is set.
    pub(super) fn with_slots(n_slots: usize) -> Self {
        let n_words = (n_slots / WORD as usize).next_power_of_two();
        Self {
            words: vec![0; n_words],
        }
    }

    pub(super) fn set(&mut self, sn: u32) {
        let idx = self.idx(sn);
        if let Some(word) = self.words.get_mut(idx) {
            *word |= 1 << (sn % WORD);
        }
    }

    pub(super) fn clear(&mut self, sn: u32) {
        let idx = self.idx(sn);
        if let Some(word) = self.words.get_mut(idx) {
            *word &= !(1 << (sn % WORD));
        }
    }

    /// The word that segment `sn` is in. Its other bits may be those of segments a whole ring away.
    pub(super) fn word(&self, sn: u32) -> u64 {
        self.words.get(self.idx(sn)).copied().unwrap_or(0)
    }

    fn idx(&self, sn: u32) -> usize {
        (sn / WORD) as usize & self.words.len().saturating_sub(1)
    }
}

/// Appends a map of the segments set in `bits` from `first` to `last`, in `max_len` bytes. Where
/// these do not hold all, the newest are there: older ones have been told before.
pub(super) fn write(out: &mut Vec<u8>, bits: &Bits, (first, last): (u32, u32), max_len: usize) {
    let room = max_len.saturating_sub(BASE_LEN) / WORD_LEN;
    let mut base = first - first % WORD;
    let mut n_words = ((last - last % WORD).wrapping_sub(base) / WORD) as usize + 1;
    if n_words > room {
        let n_left_out = u32::try_from(n_words - room).unwrap_or(u32::MAX);
        base = base.wrapping_add(n_left_out.wrapping_mul(WORD));
        n_words = room;
    }
    if n_words == 0 {
        return;
    }
    out.extend(base.to_le_bytes());
    for i in 0..n_words {
        let sn = base.wrapping_add(u32::try_from(i).unwrap_or(u32::MAX).wrapping_mul(WORD));
        let mut word = bits.word(sn);
        // Beyond either end the ring has the bits of others.
        let before = distance(first, sn);
        if (1..WORD.cast_signed()).contains(&before) {
            word &= u64::MAX << before;
        }
        let after = WORD.cast_signed() - 1 - distance(last, sn);
        if (1..WORD.cast_signed()).contains(&after) {
            word &= u64::MAX >> after;
        }
        out.extend(word.to_le_bytes());
    }
}

/// Returns the words of a map with the number of the first segment in each.
pub(super) fn words(map: &[u8]) -> impl Iterator<Item = (u32, u64)> {
    let base = map.first_chunk().map(|base| u32::from_le_bytes(*base));
    let base = base.filter(|base| base % WORD == 0);
    let words = map.get(BASE_LEN..).unwrap_or_default().as_chunks().0;
    base.into_iter().flat_map(move |base| {
        (0..).zip(words).map(move |(i, word)| {
            let sn = base.wrapping_add(WORD.wrapping_mul(i));
            (sn, u64::from_le_bytes(*word))
        })
    })
}

/// The numbers of the segments whose bits are set in `word`, which begins with `sn`.
pub(super) fn numbers(sn: u32, mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(sn.wrapping_add(bit))
    })
}

/// Returns how long the next map may be in bytes, after `n_maps` before it. What is new has to be told
/// again soon. Beyond that, what was lost before arrives now and then, and is worth a longer map now
/// and then.
pub(super) fn max_len(n_maps: u32) -> usize {
    if n_maps.is_multiple_of(LONG_EVERY) {
        usize::MAX
    } else {
        BASE_LEN + SHORT_WORDS * WORD_LEN
    }
}

/// Each so many is as long as there is room for.
const LONG_EVERY: u32 = 4;

/// The others name the newest segments: at 100 Mbit/s those of 55 ms, which are told again with each
/// of a hundred datagrams of acknowledgements.
const SHORT_WORDS: usize = 8;

/// A map that is shorter says nothing.
pub(super) const MIN_LEN: usize = BASE_LEN + WORD_LEN;

const BASE_LEN: usize = size_of::<u32>();
const WORD_LEN: usize = size_of::<u64>();

#[cfg(test)]
mod tests {
    use super::*;

    fn read(map: &[u8]) -> Vec<u32> {
        words(map)
            .flat_map(|(sn, word)| numbers(sn, word))
            .collect()
    }

    #[test]
    fn a_map_names_what_is_set_between_its_ends_and_nothing_else() {
        for first in [0, 7, 64, 1000, u32::MAX - 30] {
            let mut bits = Bits::with_slots(128);
            let set: Vec<u32> = [1, 2, 40, 63, 64, 100, 119]
                .map(|i| first.wrapping_add(i))
                .to_vec();
            for &sn in &set {
                bits.set(sn);
            }
            let mut map = Vec::new();
            write(&mut map, &bits, (first, first.wrapping_add(119)), 1000);
            assert_eq!(read(&map), set, "from {first}");
            bits.clear(set[0]);
            map.clear();
            write(&mut map, &bits, (first, first.wrapping_add(119)), 1000);
            assert_eq!(read(&map), set[1..]);
        }
    }

    #[test]
    fn a_map_without_room_for_all_has_the_newest() {
        let mut bits = Bits::with_slots(1024);
        (0..1000).for_each(|sn| bits.set(sn));
        let mut map = Vec::new();
        write(&mut map, &bits, (0, 999), MIN_LEN);
        assert_eq!(read(&map), (960..1000).collect::<Vec<_>>());
        map.clear();
        write(&mut map, &bits, (0, 999), MIN_LEN - 1);
        assert_eq!(map.len(), 0);
    }

    #[test]
    fn what_is_no_map_says_nothing() {
        assert_eq!(read(&[]), [0; 0]);
        assert_eq!(read(&[0; 11]), [0; 0]);
        assert_eq!(read(&[255; 200]), [0; 0], "it begins within a word");
    }
}
