//! Copies of interactive data that are still to be made: of which bytes, how many, and when.
//!
//! A copy must not share the fate of what it is a copy of. A carrier puts everything that is there
//! into one packet, so each leaves a little after the one before.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often bytes go again as datagrams without being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyPlan {
    /// Beside the first transmission.
    pub n_copies: u32,
    /// From one transmission to the next.
    pub spacing: Duration,
}

/// Bytes that one datagram carries at most, for all the plans of one stream.
#[derive(Debug, Default)]
pub(super) struct Copies {
    #[expect(
        clippy::box_collection,
        reason = "streams at rest have none, and there are many: a pointer is a third of its size"
    )]
    pending: Option<Box<VecDeque<Pending>>>,
}

/// Bytes with copies to come.
#[derive(Clone, Copy, Debug)]
struct Pending {
    start: u64,
    end: u64,
    n_left: u32,
    spacing: Duration,
    due: Instant,
}

/// Writes with copies to come at most. Beyond it the oldest have no further ones: who writes so
/// often in so short a time does not type.
const MAX_PENDING: usize = 32;

impl Copies {
    /// Plans copies of the bytes from `start` to `end`, `max` in each datagram.
    pub(super) fn plan(
        &mut self,
        mut start: u64,
        end: u64,
        max: u64,
        plan: CopyPlan,
        now: Instant,
    ) {
        let pending = self.pending.get_or_insert_default();
        while plan.n_copies > 0 && start < end {
            if pending.len() >= MAX_PENDING {
                pending.pop_front();
            }
            let until = end.min(start + max.max(1));
            pending.push_back(Pending {
                start,
                end: until,
                n_left: plan.n_copies,
                spacing: plan.spacing,
                due: now + plan.spacing,
            });
            start = until;
        }
    }

    /// Takes what is due by now: where it begins and ends. Of what the peer has, up to `acked`,
    /// nothing is copied. Neighbours that are due share a datagram of at most `max` bytes.
    pub(super) fn poll(&mut self, acked: u64, max: u64, now: Instant) -> Option<(u64, u64)> {
        let all = self.pending.as_mut()?;
        all.retain(|pending| pending.end > acked);
        let mut range: Option<(u64, u64)> = None;
        for pending in all.iter_mut() {
            if pending.due > now {
                continue;
            }
            let start = pending.start.max(acked);
            range = match range {
                None => Some((start, pending.end)),
                Some((first, end)) if end == start && pending.end - first <= max => {
                    Some((first, pending.end))
                }
                Some(_) => break,
            };
            pending.n_left -= 1;
            pending.due = now + pending.spacing;
        }
        all.retain(|pending| pending.n_left > 0);
        range
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let pending = self.pending.as_ref()?;
        pending.iter().map(|pending| pending.due).min()
    }

    pub(super) fn clear(&mut self) {
        self.pending = None;
    }

    /// Gives back memory that only a busy stream needs.
    pub(super) fn rest(&mut self) {
        if self.pending.as_ref().is_some_and(|all| all.is_empty()) {
            self.pending = None;
        }
    }

    /// What is allocated.
    #[cfg(test)]
    pub(super) fn heap(&self) -> usize {
        let capacity = self.pending.as_ref().map_or(0, |all| all.capacity());
        capacity * size_of::<Pending>()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a time to begin with")]
mod tests {
    use super::*;

    const PLAN: CopyPlan = CopyPlan {
        n_copies: 2,
        spacing: Duration::from_millis(3),
    };

    #[test]
    fn each_copy_leaves_a_moment_after_the_one_before() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut copies = Copies::default();
        copies.plan(10, 74, 1000, PLAN, start);
        assert_eq!(copies.poll(0, 1000, ms(2)), None, "not with the original");
        assert_eq!(copies.due(), Some(ms(3)));
        assert_eq!(copies.poll(0, 1000, ms(3)), Some((10, 74)));
        assert_eq!(copies.poll(0, 1000, ms(5)), None);
        // Bytes written in between do not wait for the last copy of these, nor go along before
        // their time.
        copies.plan(74, 100, 1000, PLAN, ms(4));
        assert_eq!(copies.poll(0, 1000, ms(6)), Some((10, 74)));
        assert_eq!(copies.poll(0, 1000, ms(7)), Some((74, 100)));
        assert_eq!(copies.poll(0, 1000, ms(10)), Some((74, 100)));
        assert_eq!((copies.poll(0, 1000, ms(99)), copies.due()), (None, None));
    }

    #[test]
    fn what_the_peer_has_is_not_copied() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let mut copies = Copies::default();
        copies.plan(0, 64, 1000, PLAN, start);
        copies.plan(64, 128, 1000, PLAN, start);
        assert_eq!(copies.poll(80, 1000, later), Some((80, 128)));
        assert_eq!(copies.poll(128, 1000, later + later.elapsed()), None);
        assert_eq!(copies.due(), None);
    }

    #[test]
    fn neighbours_that_are_due_share_a_datagram_that_has_room_for_both() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let mut copies = Copies::default();
        copies.plan(0, 2_500, 1000, PLAN, start);
        copies.plan(2_500, 2_600, 1000, PLAN, start);
        let parts: Vec<_> = std::iter::from_fn(|| copies.poll(0, 1000, later)).collect();
        assert_eq!(parts, [(0, 1000), (1000, 2000), (2000, 2600)]);
    }

    #[test]
    fn writes_with_copies_to_come_are_bounded() {
        let start = Instant::now();
        let mut copies = Copies::default();
        for n in 0..1000 {
            copies.plan(n, n + 1, 1000, PLAN, start);
        }
        assert_eq!(
            copies.pending.as_ref().map_or(0, |all| all.len()),
            MAX_PENDING
        );
        copies.clear();
        copies.rest();
        assert_eq!(copies.heap(), 0);
    }
}
