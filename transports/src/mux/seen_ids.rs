//! Which stream ids the peer has used.

/// How far behind the highest id an id may come first. Go peers open streams from several
/// goroutines, and their first frames can overtake each other.
const REMEMBERED: u32 = 4096;

const WORD_BITS: u32 = u64::BITS;
const N_WORDS: usize = (REMEMBERED / WORD_BITS) as usize;

/// What is known of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sighting {
    /// Not used before.
    New,
    /// Used before.
    Seen,
    /// So far behind that nobody can tell.
    TooOld,
}

/// The ids of one parity, with a memory of fixed size.
#[derive(Debug)]
pub(super) struct SeenIds {
    /// Ids are counted in twos. One above the highest seen.
    end: u32,
    /// One bit for each of the last [`REMEMBERED`] ids, in a ring.
    recent: Box<[u64; N_WORDS]>,
}

impl SeenIds {
    pub(super) fn new() -> Self {
        Self {
            end: 0,
            recent: Box::new([0; N_WORDS]),
        }
    }

    /// Notes `id`, and says whether it was new.
    pub(super) fn note(&mut self, id: u32) -> Sighting {
        let index = id / 2;
        if index >= self.end {
            let n_new = index - self.end + 1;
            if n_new >= REMEMBERED {
                self.recent.fill(0);
            } else {
                (self.end..index).for_each(|skipped| self.set(skipped, false));
            }
            self.end = index + 1;
            self.set(index, true);
            return Sighting::New;
        }
        if self.end - index > REMEMBERED {
            return Sighting::TooOld;
        }
        if self.get(index) {
            return Sighting::Seen;
        }
        self.set(index, true);
        Sighting::New
    }

    fn get(&self, index: u32) -> bool {
        let (word, bit) = place(index);
        self.recent[word] & bit != 0
    }

    fn set(&mut self, index: u32, is_seen: bool) {
        let (word, bit) = place(index);
        if is_seen {
            self.recent[word] |= bit;
        } else {
            self.recent[word] &= !bit;
        }
    }
}

fn place(index: u32) -> (usize, u64) {
    let index = index % REMEMBERED;
    ((index / WORD_BITS) as usize, 1 << (index % WORD_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_may_overtake_each_other_but_not_come_twice() {
        let mut seen = SeenIds::new();
        for id in [1, 5, 9, 3, 7] {
            assert_eq!(seen.note(id), Sighting::New);
        }
        for id in [1, 3, 5, 7, 9] {
            assert_eq!(seen.note(id), Sighting::Seen);
        }
        assert_eq!(seen.note(11), Sighting::New);
    }

    #[test]
    fn what_lies_too_far_back_cannot_be_told() {
        let mut seen = SeenIds::new();
        assert_eq!(seen.note(3), Sighting::New);
        assert_eq!(seen.note(u32::MAX - 2), Sighting::New);
        assert_eq!(seen.note(3), Sighting::TooOld);
        assert_eq!(seen.note(1), Sighting::TooOld);
        assert_eq!(seen.note(u32::MAX - 2), Sighting::Seen);
        assert_eq!(seen.note(u32::MAX - 4), Sighting::New);
    }
}
