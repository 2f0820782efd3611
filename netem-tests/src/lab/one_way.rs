//! One direction of a link, on paper: packets and times in, packets out. [`super::profile`] says
//! in which order a packet passes its parts.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use super::counters::WayCounters;
use super::fault::Policer;
use super::packet;
use super::profile::{Loss, Way};
use super::random::Random;

/// A direction with the packets that are in it.
#[derive(Debug)]
pub(crate) struct OneWay {
    way: Way,
    random: Random,
    /// The state of [`Loss::GilbertElliott`].
    is_bad: bool,
    queue: VecDeque<Vec<u8>>,
    /// When the first of the queue has left the bottleneck.
    head_leaves: Option<Instant>,
    travelling: BinaryHeap<Reverse<Travelling>>,
    n_travelled: u64,
    /// Buffers of packets that are gone.
    spare: Vec<Vec<u8>>,
    policers: Vec<Policer>,
    counters: WayCounters,
}

impl OneWay {
    pub(crate) fn new(way: &Way, seed: u64) -> Self {
        Self {
            way: way.clone(),
            random: Random::new(seed),
            is_bad: false,
            queue: VecDeque::new(),
            head_leaves: None,
            travelling: BinaryHeap::new(),
            n_travelled: 0,
            spare: Vec::new(),
            policers: Vec::new(),
            counters: WayCounters::default(),
        }
    }

    /// Changes what the direction is like. Packets that have passed the bottleneck arrive when they
    /// would have; those in the queue leave at the new rate.
    pub(crate) fn set_way(&mut self, now: Instant, way: &Way) {
        self.advance(now);
        self.way = way.clone();
        if let (Some(leaves), Some(head)) = (self.head_leaves, self.queue.front()) {
            self.head_leaves = Some(leaves.min(now + self.sending_time(head.len())));
        }
    }

    /// Drops what these do not let pass, from here on.
    pub(crate) fn set_policers(&mut self, policers: Vec<Policer>) {
        self.policers = policers;
    }

    /// Takes a packet that was sent at `now`.
    pub(crate) fn handle_packet(&mut self, now: Instant, data: &[u8]) {
        if !packet::is_ipv4(data) {
            return;
        }
        self.advance(now);
        self.counters.packets_in += 1;
        self.counters.bytes_in += data.len() as u64;

        if self.way.rate_mbit.is_none() && self.queue.is_empty() {
            let packet = self.store(data);
            self.leave_bottleneck(now, packet);
            return;
        }
        if self.queue.len() >= self.way.queue_packets {
            self.counters.overflowed += 1;
            return;
        }
        let packet = self.store(data);
        if self.queue.is_empty() {
            self.head_leaves = Some(now + self.sending_time(packet.len()));
        }
        self.queue.push_back(packet);
        self.counters.longest_queue = self.counters.longest_queue.max(self.queue.len());
    }

    /// Returns a packet that has arrived by `now`. Give its buffer back with [`OneWay::recycle`].
    pub(crate) fn poll_delivery(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.advance(now);
        let Reverse(first) = self.travelling.peek()?;
        if first.arrives > now {
            return None;
        }
        let Reverse(Travelling { packet, .. }) = self.travelling.pop()?;
        self.counters.packets_delivered += 1;
        self.counters.bytes_delivered += packet.len() as u64;
        Some(packet)
    }

    /// Returns when there may be something to deliver. That can turn out to be too early, as when
    /// the next packet gets lost.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let shortest_delay = if self.way.reorder_pct > 0.0 {
            Duration::ZERO
        } else {
            self.way.delay.saturating_sub(self.way.jitter)
        };
        let from_queue = self.head_leaves.map(|leaves| leaves + shortest_delay);
        let arrival = self.travelling.peek().map(|Reverse(first)| first.arrives);
        from_queue.into_iter().chain(arrival).min()
    }

    /// Takes back the buffer of a packet.
    pub(crate) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    pub(crate) fn counters(&self) -> WayCounters {
        self.counters
    }

    pub(crate) fn reset_counters(&mut self) {
        self.counters = WayCounters::default();
    }

    /// Moves what has passed the bottleneck by `now` on its way.
    fn advance(&mut self, now: Instant) {
        while let Some(left) = self.head_leaves.filter(|leaves| *leaves <= now) {
            let Some(packet) = self.queue.pop_front() else {
                self.head_leaves = None;
                return;
            };
            self.head_leaves = self
                .queue
                .front()
                .map(|next| left + self.sending_time(next.len()));
            self.leave_bottleneck(left, packet);
        }
    }

    fn leave_bottleneck(&mut self, now: Instant, mut packet: Vec<u8>) {
        if self.is_lost() {
            self.counters.lost += 1;
            self.recycle(packet);
            return;
        }
        if !self
            .policers
            .iter_mut()
            .all(|policer| policer.passes(now, &packet))
        {
            self.counters.policed += 1;
            self.recycle(packet);
            return;
        }
        if self.random.happens(self.way.duplicate_pct) {
            self.counters.duplicated += 1;
            let copy = self.store(&packet);
            self.travel(now, copy);
        }
        if self.random.happens(self.way.corrupt_pct)
            && packet::corrupt(&mut packet, self.way.corrupt_checksum, &mut self.random)
        {
            self.counters.corrupted += 1;
        }
        self.travel(now, packet);
    }

    fn travel(&mut self, now: Instant, packet: Vec<u8>) {
        if self.travelling.len() >= TRAVELLING_MAX {
            self.counters.overflowed += 1;
            self.recycle(packet);
            return;
        }
        let delay = self.delay();
        self.n_travelled += 1;
        self.travelling.push(Reverse(Travelling {
            arrives: now + delay,
            number: self.n_travelled,
            packet,
        }));
    }

    fn is_lost(&mut self) -> bool {
        match self.way.loss {
            Loss::Random { pct } => self.random.happens(pct),
            Loss::GilbertElliott { p_pct, r_pct } => {
                // As netem: the state before the change decides about this packet.
                let is_lost = self.is_bad;
                let pct = if self.is_bad { r_pct } else { p_pct };
                self.is_bad ^= self.random.happens(pct);
                is_lost
            }
        }
    }

    fn delay(&mut self) -> Duration {
        if self.random.happens(self.way.reorder_pct) {
            self.counters.reordered += 1;
            return Duration::ZERO;
        }
        if self.way.jitter.is_zero() {
            return self.way.delay;
        }
        let earliest = self.way.delay.saturating_sub(self.way.jitter);
        earliest + (self.way.jitter * 2).mul_f64(self.random.unit())
    }

    fn sending_time(&self, len: usize) -> Duration {
        match self.way.rate_mbit {
            // Megabits per second are bits per microsecond.
            Some(rate) => Duration::from_secs_f64(len as f64 * 8.0 / rate / 1e6),
            None => Duration::ZERO,
        }
    }

    fn store(&mut self, data: &[u8]) -> Vec<u8> {
        let mut buffer = self
            .spare
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(super::MTU));
        buffer.extend_from_slice(data);
        buffer
    }
}

/// A packet behind the bottleneck.
#[derive(Debug)]
struct Travelling {
    arrives: Instant,
    /// Those that arrive at the same time do so in the order in which they left.
    number: u64,
    packet: Vec<u8>,
}

impl Ord for Travelling {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.arrives, self.number).cmp(&(other.arrives, other.number))
    }
}

impl PartialOrd for Travelling {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Travelling {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Travelling {}

/// How many packets can be on their way behind the bottleneck: 75 MB of memory, and a second of
/// 600 Mbit/s. What comes on top counts as overflowed.
pub(crate) const TRAVELLING_MAX: usize = 50_000;

/// How many buffers are kept for packets to come.
const SPARE_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Profile;

    /// A simulated link, and the times of arrival since its start.
    struct Run {
        link: OneWay,
        start: Instant,
        arrivals: Vec<(Duration, Vec<u8>)>,
    }

    impl Run {
        fn on(profile: &Profile) -> Self {
            Self {
                link: OneWay::new(&profile.to_far, 1),
                start: Instant::now(),
                arrivals: Vec::new(),
            }
        }

        fn send(&mut self, at_ms: u64, len: usize) {
            let at = self.start + Duration::from_millis(at_ms);
            self.deliver_until(at);
            let mut packet = vec![0; len];
            packet[0] = 0x45;
            self.link.handle_packet(at, &packet);
        }

        fn deliver_until(&mut self, end: Instant) {
            while let Some(at) = self.link.poll_timeout().filter(|at| *at <= end) {
                while let Some(packet) = self.link.poll_delivery(at) {
                    self.arrivals.push((at - self.start, packet));
                }
            }
        }

        fn finish(&mut self) -> WayCounters {
            self.deliver_until(self.start + Duration::from_secs(3600));
            self.link.counters()
        }

        fn arrival_ms(&self) -> Vec<u128> {
            let ms = |(at, _): &(Duration, Vec<u8>)| at.as_millis();
            self.arrivals.iter().map(ms).collect()
        }
    }

    #[test]
    fn packets_leave_one_after_the_other_at_the_rate() {
        // 1250 bytes take 10 ms at 1 Mbit/s.
        let mut run = Run::on(&Profile::delay_ms(100).rate_mbit(1));

        run.send(0, 1250);
        run.send(0, 1250);
        run.send(50, 1250);
        run.finish();

        assert_eq!(run.arrival_ms(), [110, 120, 160]);
    }

    #[test]
    fn a_full_queue_drops_the_newest() {
        let mut run = Run::on(&Profile::delay_ms(0).rate_mbit(1).queue_packets(3));

        for _ in 0..5 {
            run.send(0, 1250);
        }
        run.send(10, 1250);
        let counters = run.finish();

        assert_eq!(run.arrival_ms(), [10, 20, 30, 40]);
        assert_eq!(counters.overflowed, 2);
        assert_eq!(counters.longest_queue, 3);
        assert_eq!(counters.packets_in, 6);
    }

    #[test]
    fn a_new_rate_holds_for_what_stands_in_the_queue() {
        let mut run = Run::on(&Profile::delay_ms(0).rate_mbit(0.01));
        run.send(0, 1250);
        run.send(0, 1250);

        let faster = Profile::delay_ms(0).rate_mbit(1);
        run.link.set_way(run.start, &faster.to_far);
        run.finish();

        assert_eq!(run.arrival_ms(), [10, 20]);
    }

    #[test]
    fn loss_takes_its_share() {
        let mut run = Run::on(&Profile::delay_ms(1).loss_pct(10));
        for at_ms in 0..50_000 {
            run.send(at_ms, 100);
        }

        let counters = run.finish();

        assert!((4_800..5_200).contains(&counters.lost), "{counters}");
        assert_eq!(counters.packets_delivered + counters.lost, 50_000);
    }

    #[test]
    fn bursts_are_as_long_and_as_many_as_the_model_says() {
        let profile = Profile::delay_ms(1).gilbert_elliott(1, 10);
        let mut run = Run::on(&profile);
        let mut fates = Vec::new();
        for at_ms in 0..100_000 {
            run.send(at_ms, 100);
            fates.push(run.link.counters().lost);
        }

        let counters = run.finish();

        let expected_pct = profile.to_far.loss.mean_pct();
        let ratio = counters.loss_pct() / expected_pct;
        assert!((0.9..1.1).contains(&ratio), "{counters}, {expected_pct} %");
        let is_start = |three: &&[u64]| three[0] == three[1] && three[1] < three[2];
        let n_bursts = fates.windows(3).filter(is_start).count();
        let mean_len = counters.lost as f64 / n_bursts as f64;
        assert!(
            (9.0..11.0).contains(&mean_len),
            "{mean_len} packets per burst"
        );
    }

    #[test]
    fn jitter_lets_packets_overtake_within_its_bounds() {
        let mut run = Run::on(&Profile::delay_ms(50).jitter_ms(10));
        for at_ms in 0..1000 {
            run.send(at_ms, 100 + usize::try_from(at_ms).unwrap_or(0));
        }

        run.finish();

        let mut n_overtaken = 0;
        for (index, (at, packet)) in run.arrivals.iter().enumerate() {
            let sent = Duration::from_millis(packet.len() as u64 - 100);
            let delay = at.saturating_sub(sent);
            assert!(delay >= Duration::from_millis(40), "{delay:?}");
            assert!(delay <= Duration::from_millis(60), "{delay:?}");
            let later = run.arrivals.get(index + 1);
            n_overtaken += usize::from(later.is_some_and(|(_, later)| later.len() < packet.len()));
        }
        assert!(n_overtaken > 100, "{n_overtaken} of 1000");
    }

    #[test]
    fn reordered_packets_skip_the_delay_and_copies_arrive_twice() {
        let mut run = Run::on(&Profile::delay_ms(50).reorder_pct(20).duplicate_pct(10));
        for at_ms in 0..10_000 {
            run.send(at_ms, 100);
        }

        let counters = run.finish();

        assert!((2_000..2_400).contains(&counters.reordered), "{counters}");
        assert!((900..1_100).contains(&counters.duplicated), "{counters}");
        assert_eq!(counters.packets_delivered, 10_000 + counters.duplicated);
    }

    #[test]
    fn a_seed_repeats_its_losses() {
        let lost_of = |seed| {
            let mut run = Run::on(&Profile::delay_ms(1).loss_pct(50));
            run.link.random = Random::new(seed);
            for at_ms in 0..100 {
                run.send(at_ms, 100);
            }
            run.finish();
            run.arrival_ms()
        };

        assert_eq!(lost_of(7), lost_of(7));
        assert_ne!(lost_of(7), lost_of(8));
    }

    #[test]
    fn what_is_not_ipv4_does_not_exist_here() {
        let mut run = Run::on(&Profile::unlimited());

        run.link.handle_packet(run.start, &[0x60; 60]);

        assert_eq!(run.finish(), WayCounters::default());
    }
}
