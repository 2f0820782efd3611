//! Two sessions with a link each way, and a writer and a reader on both ends.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kcp_proto::control::{SendControl, Unlimited};
use kcp_proto::{Config, Session};

use super::link::{Link, Profile, Random};

/// Datagrams that an end hands out at once.
const BATCH: usize = 8;

pub struct Pair {
    pub ends: [End; 2],
    /// Link 0 leads from end 0 to end 1.
    pub links: [Link; 2],
    pub began_at: Instant,
    pub now: Duration,
    pub n_steps: u64,
}

/// One session with its user.
pub struct End {
    pub session: Session,
    pub to_write: u64,
    pub n_written: u64,
    pub n_read: u64,
    /// Bytes written at once at most.
    pub write_size: usize,
    /// Bytes read a second at most; `None` reads whatever there is.
    pub read_rate: Option<u64>,
    pub is_reading: bool,
    /// The control's window may become less than what is under way.
    pub may_window_shrink: bool,
    /// Each byte written is told from the others and is checked when it is read.
    pub are_bytes_checked: bool,
    pending: Bytes,
}

impl Pair {
    pub fn new(profile: Profile, seed: u64) -> Self {
        let config = || Config {
            conv: 0x1122_3344,
            ..Config::frp(0)
        };
        Self::with(profile, seed, [config(), config()])
    }

    pub fn with(profile: Profile, seed: u64, configs: [Config; 2]) -> Self {
        let unlimited = || -> Box<dyn SendControl> { Box::new(Unlimited::FRP) };
        Self::controlled(profile, seed, configs, [unlimited(), unlimited()])
    }

    pub fn controlled(
        profile: Profile,
        seed: u64,
        configs: [Config; 2],
        controls: [Box<dyn SendControl>; 2],
    ) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let began_at = Instant::now();
        let mut random = Random::new(seed);
        let links = [random.next(), random.next()].map(|seed| Link::new(profile, seed));
        let [a, b] = configs;
        let [control_a, control_b] = controls;
        let ends = [(a, control_a), (b, control_b)]
            .map(|(config, control)| End::new(Session::new(config, control, began_at)));
        Self {
            ends,
            links,
            began_at,
            now: Duration::ZERO,
            n_steps: 0,
        }
    }

    /// Has end `from` write so many bytes more.
    pub fn write(&mut self, from: usize, n_bytes: u64) {
        self.ends[from].to_write += n_bytes;
    }

    /// Runs until everything has been read, and fails when that takes longer than `limit`.
    pub fn run(&mut self, limit: Duration) -> Duration {
        let began_at = self.now;
        loop {
            let next_at = self.step(began_at + limit);
            if self.is_done() {
                return self.now - began_at;
            }
            self.now = next_at;
            assert!(
                self.now < began_at + limit,
                "stalled after {:?}: {:?}",
                self.now,
                self.ends.each_ref().map(|end| (
                    end.n_read,
                    end.to_write,
                    end.session.n_waiting(),
                    end.session.peer_window(),
                    end.session.stats()
                )),
            );
        }
    }

    /// Runs for a while, whatever happens.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now = self.step(end);
        }
    }

    pub fn is_done(&self) -> bool {
        let [a, b] = &self.ends;
        a.n_written == a.to_write
            && b.n_written == b.to_write
            && a.n_read == b.to_write
            && b.n_read == a.to_write
    }

    /// Does what is to be done now, and returns the next time at which there is something.
    fn step(&mut self, end: Duration) -> Duration {
        self.n_steps += 1;
        let mut next_at = end;
        for i in 0..2 {
            let now = self.began_at + self.now;
            let (this, other) = (i, 1 - i);
            while let Some(datagram) = self.links[other].receive(self.now) {
                self.ends[this]
                    .session
                    .handle_datagram(&datagram, now)
                    .expect("own datagrams");
            }
            let end = &mut self.ends[this];
            end.session.handle_timeout(now);
            end.use_stream(self.now, now);
            end.transmit(&mut self.links[this], self.now, now);
            end.assert_bounds();
            if let Some(at) = end.session.poll_timeout() {
                let at = at.saturating_duration_since(self.began_at);
                assert!(at > self.now, "asks to be called again at once");
                next_at = next_at.min(at);
            }
            if end.read_rate.is_some() && end.session.is_readable() {
                next_at = next_at.min(self.now + Duration::from_millis(10));
            }
        }
        for link in &self.links {
            next_at = link.next_at().map_or(next_at, |at| next_at.min(at));
        }
        // What one end has sent without delay the other gets in the same instant.
        next_at.max(self.now)
    }
}

impl End {
    fn new(session: Session) -> Self {
        Self {
            session,
            to_write: 0,
            n_written: 0,
            n_read: 0,
            write_size: 16 * 1024,
            read_rate: None,
            is_reading: true,
            may_window_shrink: false,
            are_bytes_checked: true,
            pending: Bytes::new(),
        }
    }

    fn use_stream(&mut self, since_start: Duration, now: Instant) {
        while self.n_written < self.to_write {
            if self.pending.is_empty() {
                let len = (self.to_write - self.n_written).min(self.write_size as u64);
                self.pending = if self.are_bytes_checked {
                    (self.n_written..self.n_written + len)
                        .map(byte_at)
                        .collect()
                } else {
                    Bytes::from(vec![0; len as usize])
                };
            }
            let n_taken = self.session.send(&mut self.pending, now);
            assert!(n_taken == 0 || self.session.n_waiting() > 0);
            self.n_written += n_taken as u64;
            if n_taken == 0 {
                assert!(!self.session.is_writable());
                break;
            }
        }
        let allowed = self.read_rate.map_or(u64::MAX, |rate| {
            (since_start.as_millis() as u64 * rate / 1000).saturating_sub(self.n_read)
        });
        let mut left = if self.is_reading { allowed } else { 0 };
        while left > 0 {
            let max = usize::try_from(left).unwrap_or(usize::MAX).min(5000);
            let Some(data) = self.session.read(max, now) else {
                break;
            };
            assert!(!data.is_empty() && data.len() <= max);
            let checked = if self.are_bytes_checked { &*data } else { &[] };
            for (i, &byte) in checked.iter().enumerate() {
                assert_eq!(
                    byte,
                    byte_at(self.n_read + i as u64),
                    "at {}",
                    self.n_read + i as u64
                );
            }
            self.n_read += data.len() as u64;
            left -= data.len() as u64;
        }
    }

    fn transmit(&mut self, link: &mut Link, since_start: Duration, now: Instant) {
        let mut out = Vec::new();
        while let Some(transmit) = self.session.poll_transmit(&mut out, BATCH, now) {
            assert!((1..=BATCH).contains(&transmit.n_datagrams));
            assert!(transmit.datagram_len <= self.session.config().max_datagram_len());
            let n_full = out.len() / transmit.datagram_len;
            let n_datagrams = n_full + usize::from(out.len() % transmit.datagram_len != 0);
            assert_eq!(
                n_datagrams, transmit.n_datagrams,
                "only the last one may be shorter"
            );
            for datagram in out.chunks(transmit.datagram_len) {
                link.send(datagram, since_start);
            }
            out.clear();
        }
    }

    fn assert_bounds(&self) {
        let session = &self.session;
        assert!(session.n_waiting() <= session.config().send_window as usize);
        assert!(session.n_in_flight() as usize <= session.n_waiting());
        let has_kept = session.n_in_flight() <= session.control().window();
        assert!(has_kept || self.may_window_shrink);
    }
}

/// The byte that is written at `position`.
fn byte_at(position: u64) -> u8 {
    let mixed = position.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}
