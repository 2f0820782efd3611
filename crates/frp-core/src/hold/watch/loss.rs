//! What a carrier loses on the way to the peer, for those who send copies.

use frp_proto::path::Tally;

/// Estimates loss from a carrier's counters.
///
/// What is judged are the last one or two windows of packets. A path of which little is known is
/// taken for a bad one: interactive data is little, and the first key press should not find out.
#[derive(Debug)]
pub(in crate::hold) struct LossMeter {
    /// The window before that which is being counted.
    before: Tally,
    current: Tally,
    /// Where the window that is being counted began.
    from: Tally,
    loss: f64,
}

/// What is assumed of a path of which nothing is known.
pub(in crate::hold) const UNKNOWN_LOSS: f64 = 0.05;

/// It stands for a lost packet among these, until a window is full.
const ASSUMED: Tally = Tally { total: 20, lost: 1 };

/// Packets of a window: half a percent of loss shows in one.
const WINDOW: u64 = 200;

/// Packets that show by themselves that loss has risen.
const ENOUGH: u64 = 40;

/// What counts as loss begins above this: the hundredth part of round trips then waits for a
/// repetition. It ends when two windows have lost nothing.
const LOSS_FROM: f64 = 0.004;

impl Default for LossMeter {
    fn default() -> Self {
        Self {
            before: ASSUMED,
            current: Tally::default(),
            from: Tally::default(),
            loss: UNKNOWN_LOSS,
        }
    }
}

impl LossMeter {
    /// Takes what a carrier has counted since its beginning, and returns the share that is lost; 0
    /// where that is not worth a copy.
    pub(in crate::hold) fn look(&mut self, counted: Tally) -> f64 {
        self.current = counted.since(&self.from);
        let both = Tally {
            total: self.before.total + self.current.total,
            lost: self.before.lost + self.current.lost,
        };
        let risen = match self.current.total {
            ENOUGH.. => self.current.share(),
            _ => 0.0,
        };
        let share = both.share().max(risen);
        let is_lossy = match self.loss > 0.0 {
            true => both.lost > 0,
            false => share > LOSS_FROM,
        };
        self.loss = if is_lossy { share } else { 0.0 };
        if self.current.total >= WINDOW {
            self.before = self.current;
            self.from = counted;
        }
        self.loss
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the meter says when each further packet is lost with every `lost_each`.
    fn run(meter: &mut LossMeter, counted: &mut Tally, n: u64, lost_each: Option<u64>) -> f64 {
        let mut loss = 0.0;
        for _ in 0..n {
            let is_lost = lost_each.is_some_and(|each| counted.total.is_multiple_of(each));
            counted.add(is_lost);
            loss = meter.look(*counted);
        }
        loss
    }

    #[test]
    fn an_unknown_path_is_taken_for_a_bad_one_until_it_has_shown_that_it_is_not() {
        let (mut meter, mut counted) = (LossMeter::default(), Tally::default());
        assert!(meter.look(counted) > 0.01);
        assert!(run(&mut meter, &mut counted, 150, None) > 0.0);
        assert!(run(&mut meter, &mut counted, 300, None) <= 0.0);
    }

    #[test]
    fn loss_is_noticed_within_a_few_packets_and_forgotten_after_two_windows() {
        let (mut meter, mut counted) = (LossMeter::default(), Tally::default());
        run(&mut meter, &mut counted, 10_000, None);
        assert!(run(&mut meter, &mut counted, ENOUGH, Some(10)) > 0.05);
        let loss = run(&mut meter, &mut counted, 2_000, Some(10));
        assert!((0.09..0.11).contains(&loss), "{loss}");
        assert!(run(&mut meter, &mut counted, WINDOW, None) > 0.0);
        assert!(run(&mut meter, &mut counted, 2 * WINDOW, None) <= 0.0);
    }

    #[test]
    fn a_packet_lost_now_and_then_does_not_switch_copies_on_and_off() {
        let (mut meter, mut counted) = (LossMeter::default(), Tally::default());
        run(&mut meter, &mut counted, 10_000, None);
        // Two in a thousand: below what copies begin with.
        assert!(run(&mut meter, &mut counted, 5_000, Some(500)) <= 0.0);
        run(&mut meter, &mut counted, 500, Some(20));
        for _ in 0..20 {
            assert!(
                run(&mut meter, &mut counted, 100, Some(150)) > 0.0,
                "on it stays"
            );
        }
    }
}
