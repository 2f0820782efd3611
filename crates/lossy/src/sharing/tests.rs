//! A connection that adapts, beside others and by itself.

use super::*;
use crate::tcp_sim::{Flow, Link, a_time};

#[test]
fn beside_a_cubic_flow_each_gets_a_third_of_the_link() {
    for (queue, begins) in [(500.0, 0.0), (500.0, 5.0), (1000.0, 0.0)] {
        // The first seconds are BBR's.
        let arrived_by = |seconds: f64| {
            let mut link = Link::new(1);
            link.queue = queue;
            let mut flows = [Flow::bbr(0.0), Flow::cubic(begins)];
            run(&mut link, &mut flows, begins + seconds);
            flows.map(|flow| flow.arrived)
        };
        let (before, after) = (arrived_by(20.0), arrived_by(60.0));
        let [ours, theirs] = [0, 1].map(|n| after[n] - before[n]);
        let share = ours / (ours + theirs);
        assert!(
            (0.3..0.7).contains(&share),
            "queue {queue}, from {begins} s on: {share}"
        );
    }
}

#[test]
fn a_queue_that_stays_empty_is_left_to_bbr_again() {
    let mut watched = Watched::new();
    watched.gives_way();
    let (at, turn) = watched.looks_until_turn(50, 0.0).unwrap();
    assert_eq!(turn, Turn::Return(Cause::NobodyElse));
    assert!((14.9..16.0).contains(&at), "{at} s");
}

#[test]
fn the_bound_goes_once_the_window_is_as_small() {
    let mut watched = Watched::new();
    let at_most = watched.gives_way();
    assert_eq!(watched.looks(100, 0.0, 5.0), None);
    // A round trip takes 100 ms.
    watched.window = at_most / 10;
    let (_, turn) = watched.looks_until_turn(100, 0.0).unwrap();
    assert_eq!(turn, Turn::Unbound);
    assert_eq!(watched.looks(100, 0.0, 60.0), None);
}

#[test]
fn each_return_because_of_losses_is_held_for_twice_as_long() {
    let mut watched = Watched::new();
    watched.gives_way();
    for expected in [30.0, 60.0, 120.0, 240.0, 480.0, 900.0, 900.0] {
        let (_, turn) = watched.looks_until_turn(50, 0.02).unwrap();
        assert_eq!(turn, Turn::Return(Cause::RandomLoss));
        let (at, _) = watched.gives_way_at();
        let until = expected + 10.0;
        assert!((expected..until).contains(&at), "{expected}: {at} s");
    }
}

#[test]
fn a_long_stay_forgets_how_long_returns_were_held() {
    let mut watched = Watched::new();
    for _ in 0..3 {
        watched.gives_way();
        watched.looks_until_turn(50, 0.02).unwrap();
    }
    watched.gives_way();
    assert_eq!(watched.looks(100, 0.0, 1000.0), None);
    watched.looks_until_turn(50, 0.02).unwrap();
    let (at, _) = watched.gives_way_at();
    assert!((30.0..40.0).contains(&at), "{at} s");
}

#[test]
fn after_a_rest_bbr_returns_and_may_give_way_at_once() {
    let mut watched = Watched::new();
    watched.gives_way();
    watched.has_more = false;
    let (at, turn) = watched.looks_until_turn(50, 0.0).unwrap();
    assert_eq!(turn, Turn::Return(Cause::Rest));
    assert!((30.0..31.0).contains(&at), "{at} s");
    watched.has_more = true;
    let (at, _) = watched.gives_way_at();
    assert!(at < 10.0, "{at} s");
}

/// Runs the flows, the first of which adapts, and does what its rule says.
fn run(link: &mut Link, flows: &mut [Flow], seconds: f64) {
    let mut rule = Sharing::default();
    let _: Option<(f64, ())> = link.run(flows, seconds, |look, flow| {
        let turn = rule.handle_look(look)?;
        match turn {
            Turn::GiveWay { at_most } => {
                flow.turn_to_cubic();
                flow.bound(at_most);
            }
            Turn::Bound { at_most } => flow.bound(at_most),
            Turn::Unbound => flow.bound(u64::MAX),
            Turn::Return(_) => {
                flow.turn_to_bbr();
                flow.bound(u64::MAX);
            }
        }
        None
    });
}

/// A connection that is told what it sees.
struct Watched {
    rule: Sharing,
    look: Look,
    window: u64,
    has_more: bool,
}

impl Watched {
    fn new() -> Self {
        let look = Look::quiet(a_time(), Duration::from_millis(50));
        Self {
            rule: Sharing::default(),
            look,
            window: 100_000_000,
            has_more: true,
        }
    }

    /// Looks behind a queue that stands until it gives way, and returns the bound.
    fn gives_way(&mut self) -> u64 {
        self.gives_way_at().1
    }

    /// Returns also when that is.
    fn gives_way_at(&mut self) -> (f64, u64) {
        let (seen, turn) = self.looks_until_turn(100, 0.0).unwrap();
        assert!(matches!(turn, Turn::Bound { .. }), "{turn:?}");
        let (drained, turn) = self.looks_until_turn(60, 0.0).unwrap();
        assert_eq!(turn, Turn::Unbound);
        match self.looks_until_turn(100, 0.0) {
            Some((sure, Turn::GiveWay { at_most })) => (seen + drained + sure, at_most),
            other => panic!("{other:?}"),
        }
    }

    /// Looks until something is to be done, and returns when and what. `lost` is the part of the
    /// segments that is sent again.
    fn looks_until_turn(&mut self, srtt_ms: u64, lost: f64) -> Option<(f64, Turn)> {
        self.looks(srtt_ms, lost, 10_000.0)
    }

    fn looks(&mut self, srtt_ms: u64, lost: f64, seconds: f64) -> Option<(f64, Turn)> {
        let begin = self.look.at;
        let mut n_lost = 0.0;
        loop {
            n_lost += lost * 100.0;
            let again = u64::from(n_lost >= 1.0);
            n_lost -= n_lost.floor();
            self.look = Look {
                at: self.look.at + Duration::from_millis(20),
                sent: self.look.sent + 100,
                sent_again: self.look.sent_again + again,
                acked: self.look.acked + 100_000,
                srtt: Duration::from_millis(srtt_ms),
                window: self.window,
                has_more: self.has_more,
                ..self.look
            };
            let passed = (self.look.at - begin).as_secs_f64();
            if passed > seconds {
                return None;
            }
            if let Some(turn) = self.rule.handle_look(self.look) {
                return Some((passed, turn));
            }
        }
    }
}
