//! Which numbers of streams are live, were used, or are free.
//!
//! A number is used once. An ATTACH that opens a stream can come twice, over two carriers, and the
//! second time after the stream has ended: it must not open another, or the service would get the
//! user's bytes twice.

use std::collections::BTreeSet;

use super::{CONTROL_STREAM, Role};

/// Most numbers of the peer's that were skipped and may still come. Streams are opened in the
/// order of their numbers, and only carriers that overtake each other disturb it. Beyond the bound
/// the lowest counts as used: its stream is refused, and its user connects again.
const MAX_SKIPPED: usize = 1024;

/// The numbers of one session.
#[derive(Debug)]
pub(super) struct StreamIds {
    live: BTreeSet<u64>,
    next_own: u64,
    /// The peer's: everything from here on is fresh.
    next_peers: u64,
    /// The peer's below that, which have not come.
    skipped: BTreeSet<u64>,
}

/// What is known of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// A stream has it.
    Live,
    /// It is the peer's to use.
    Fresh,
    /// A stream had it, or it is not the peer's.
    Used,
}

impl StreamIds {
    pub(super) fn new(role: Role) -> Self {
        let (next_own, next_peers) = match role {
            Role::Client => (2, 1),
            Role::Server => (1, 2),
        };
        Self {
            live: BTreeSet::new(),
            next_own,
            next_peers,
            skipped: BTreeSet::new(),
        }
    }

    pub(super) fn open(&mut self) -> u64 {
        let stream = self.next_own;
        self.next_own += 2;
        self.live.insert(stream);
        stream
    }

    pub(super) fn insert_control(&mut self) -> u64 {
        self.live.insert(CONTROL_STREAM);
        CONTROL_STREAM
    }

    pub(super) fn look_up(&self, stream: u64) -> Known {
        let is_peers = stream % 2 == self.next_peers % 2 && stream != CONTROL_STREAM;
        if self.live.contains(&stream) {
            Known::Live
        } else if is_peers && (stream >= self.next_peers || self.skipped.contains(&stream)) {
            Known::Fresh
        } else {
            Known::Used
        }
    }

    /// Takes a fresh number of the peer's.
    pub(super) fn insert_peers(&mut self, stream: u64) {
        self.live.insert(stream);
        if stream < self.next_peers {
            self.skipped.remove(&stream);
            return;
        }
        // A peer may skip as far as it likes: only the last of what it skipped is kept.
        let reach = 2 * MAX_SKIPPED as u64;
        let first = self.next_peers.max(stream.saturating_sub(reach));
        let first = first + (first + stream) % 2;
        self.skipped.extend((first..stream).step_by(2));
        self.next_peers = stream + 2;
        while self.skipped.len() > MAX_SKIPPED {
            self.skipped.pop_first();
        }
    }

    pub(super) fn remove(&mut self, stream: u64) {
        self.live.remove(&stream);
    }

    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.live.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_used_once_in_whichever_order_they_come() {
        let mut ids = StreamIds::new(Role::Server);
        for stream in [6, 2, 4, 12, 8] {
            assert_eq!(ids.look_up(stream), Known::Fresh);
            ids.insert_peers(stream);
            assert_eq!(ids.look_up(stream), Known::Live);
        }
        ids.remove(4);
        assert_eq!(ids.look_up(4), Known::Used);
        assert_eq!(ids.look_up(10), Known::Fresh);
        assert_eq!(ids.look_up(3), Known::Used, "odd numbers are this side's");
        assert_eq!(ids.look_up(0), Known::Used, "and no one opens this one");
    }

    #[test]
    fn skipped_numbers_are_bounded() {
        let mut ids = StreamIds::new(Role::Client);
        ids.insert_peers(1);
        ids.insert_peers(1_000_001);
        ids.insert_peers((1 << 62) - 1);
        assert_eq!(ids.skipped.len(), MAX_SKIPPED);
        assert_eq!(ids.look_up(3), Known::Used, "too far back");
        assert_eq!(ids.look_up((1 << 62) - 3), Known::Fresh);
    }
}
