//! A sender with acknowledgements, loss detection and pacing after RFC 9002, as quinn has them, and
//! its receiver.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lossy::{Acked, Controller, LossCause, Lost};

use crate::rival::Cubic;

pub const MTU: f64 = 1452.0;

pub enum Control {
    Lossy(Box<Controller>),
    Cubic(Cubic),
}

/// What there is to send.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    Bulk,
    /// Bytes per second.
    Limited(f64),
    /// A packet every 25 ms for so many seconds, and then bulk.
    Talk(f64),
    /// Bulk for so many seconds, nothing for so many.
    OnOff(f64, f64),
}

#[derive(Clone, Copy)]
struct Sent {
    at: f64,
    is_open: bool,
}

pub struct Flow {
    pub control: Control,
    load: Load,
    start: Instant,
    began_at: f64,
    sent: VecDeque<Sent>,
    first: u64,
    next: u64,
    n_open: u64,
    largest_acked: Option<u64>,
    srtt: f64,
    rttvar: f64,
    latest: f64,
    n_ptos: u32,
    last_sent_at: f64,
    pub timer: f64,
    tokens: f64,
    tokens_at: f64,
    is_app_limited: bool,
    n_probes: u32,
    packet_threshold: u64,
    time_threshold: f64,
    n_sent: u64,
    log_read: usize,
    pub receiver: Receiver,
}

/// What to put on the link.
pub struct Burst {
    pub first: u64,
    pub n: u64,
}

impl Flow {
    pub fn new(control: Control, load: Load, start: Instant, began_at: f64) -> Self {
        Self {
            control,
            load,
            start,
            began_at,
            sent: VecDeque::new(),
            first: 0,
            next: 0,
            n_open: 0,
            largest_acked: None,
            srtt: 0.1,
            rttvar: 0.05,
            latest: 0.1,
            n_ptos: 0,
            last_sent_at: began_at,
            timer: f64::INFINITY,
            tokens: 10.0 * MTU,
            tokens_at: began_at,
            is_app_limited: false,
            n_probes: 0,
            packet_threshold: 16,
            time_threshold: 1.125,
            n_sent: 0,
            log_read: 0,
            receiver: Receiver::default(),
        }
    }

    /// Loss detection that bears reordering.
    pub fn patient(mut self) -> Self {
        self.packet_threshold = 1000;
        self.time_threshold = 2.0;
        self
    }

    pub fn controller(&self) -> Option<&Controller> {
        match &self.control {
            Control::Lossy(controller) => Some(controller),
            Control::Cubic(_) => None,
        }
    }

    fn at(&self, now: f64) -> Instant {
        self.start + Duration::from_secs_f64(now)
    }

    fn window(&self) -> f64 {
        match &self.control {
            Control::Lossy(controller) => controller.window() as f64,
            Control::Cubic(cubic) => cubic.window * MTU,
        }
    }

    /// Seconds until there is something to send.
    fn load_wait(&self, now: f64) -> f64 {
        let time = now - self.began_at;
        match self.load {
            Load::Bulk => 0.0,
            Load::Limited(rate) => ((self.n_sent + 1) as f64 * MTU / rate - time).max(0.0),
            Load::Talk(until) if time >= until => 0.0,
            Load::Talk(_) => (self.n_sent as f64 * 0.025 - time).max(0.0),
            Load::OnOff(on, off) => {
                let phase = time.rem_euclid(on + off);
                if phase < on { 0.0 } else { on + off - phase }
            }
        }
    }

    /// Sends what may be sent, ten packets at a time, and sets the timer.
    pub fn poll(&mut self, now: f64) -> Option<Burst> {
        let window = self.window();
        let mut n = 0;
        let mut wake = f64::INFINITY;
        self.is_app_limited = false;
        while n < 10 {
            if self.n_probes > 0 {
                self.n_probes -= 1;
                n += 1;
                continue;
            }
            let in_flight = (self.n_open + n) as f64 * MTU;
            if in_flight + MTU >= window {
                break;
            }
            let wait = self.load_wait(now);
            if wait > 0.0 {
                self.is_app_limited = n == 0;
                wake = now + wait;
                break;
            }
            if let Control::Lossy(_) = self.control
                && let Some(ready_at) = self.pace(now, window)
            {
                wake = ready_at;
                break;
            }
            self.tokens -= MTU;
            self.n_sent += 1;
            n += 1;
        }
        let burst = (n > 0).then_some(Burst {
            first: self.next,
            n,
        });
        if n > 0 {
            for _ in 0..n {
                self.sent.push_back(Sent {
                    at: now,
                    is_open: true,
                });
            }
            self.next += n;
            self.n_open += n;
            self.last_sent_at = now;
            let at = self.at(now);
            if let Control::Lossy(controller) = &mut self.control {
                controller.on_sent(at, n * MTU as u64);
            }
        }
        if n == 10 {
            wake = now;
        }
        self.timer = wake.min(self.loss_time()).max(now);
        burst
    }

    /// quinn's token bucket.
    fn pace(&mut self, now: f64, window: f64) -> Option<f64> {
        let capacity = (window * 0.002 / self.srtt).clamp(10.0 * MTU, 256.0 * MTU);
        let rate = window * 1.25 / self.srtt;
        self.tokens = (self.tokens + (now - self.tokens_at) * rate).min(capacity);
        self.tokens_at = now;
        if self.tokens >= MTU {
            return None;
        }
        Some(now + (capacity - self.tokens) / rate)
    }

    fn loss_time(&self) -> f64 {
        let Some(oldest) = self.sent.front() else {
            return f64::INFINITY;
        };
        if self
            .largest_acked
            .is_some_and(|largest| largest > self.first)
        {
            return oldest.at + self.loss_delay();
        }
        let pto = self.srtt + (4.0 * self.rttvar).max(0.001) + 0.025;
        self.last_sent_at + pto * 2.0_f64.powi(self.n_ptos.min(3) as i32)
    }

    fn loss_delay(&self) -> f64 {
        (self.srtt.max(self.latest) * self.time_threshold).max(0.001)
    }

    pub fn on_timer(&mut self, now: f64) {
        if self.loss_time() > now + 1e-9 {
            return;
        }
        if self
            .largest_acked
            .is_some_and(|largest| largest > self.first)
        {
            self.detect_lost(now);
        } else {
            self.n_ptos += 1;
            self.n_probes = 2;
        }
    }

    /// Takes an acknowledgement of what was received up to `upto` in the receiver's log.
    pub fn on_ack(&mut self, now: f64, from: usize, upto: usize) {
        let at = self.at(now);
        let mut largest_new = None;
        let mut is_news = false;
        for idx in from.max(self.log_read)..upto {
            let number = self.receiver.log[idx];
            let Some(offset) = number.checked_sub(self.first) else {
                continue;
            };
            let sent = &mut self.sent[offset as usize];
            if !sent.is_open {
                continue;
            }
            sent.is_open = false;
            let sent_at = sent.at;
            is_news = true;
            self.n_open -= 1;
            if self.largest_acked.is_none_or(|largest| number > largest) {
                self.largest_acked = Some(number);
                largest_new = Some(sent_at);
            }
            let acked = Acked {
                sent_at: self.start + Duration::from_secs_f64(sent_at),
                bytes: MTU as u64,
                is_app_limited: self.is_app_limited,
                is_exact: true,
            };
            match &mut self.control {
                Control::Lossy(controller) => controller.on_acked(at, acked),
                Control::Cubic(cubic) => cubic.on_acked(now, now - sent_at),
            }
        }
        self.log_read = self.log_read.max(upto);
        if !is_news {
            return;
        }
        let in_flight = self.n_open * MTU as u64;
        if let Control::Lossy(controller) = &mut self.control {
            controller.on_acks_end(at, in_flight);
        }
        if let Some(sent_at) = largest_new {
            self.note_rtt(now - sent_at);
        }
        self.n_ptos = 0;
        self.trim();
        self.detect_lost(now);
    }

    fn note_rtt(&mut self, rtt: f64) {
        let is_first = self.latest == 0.1 && self.rttvar == 0.05;
        self.latest = rtt;
        if is_first {
            (self.srtt, self.rttvar) = (rtt, rtt / 2.0);
        } else {
            self.rttvar = 0.75 * self.rttvar + 0.25 * (self.srtt - rtt).abs();
            self.srtt = 0.875 * self.srtt + 0.125 * rtt;
        }
    }

    fn trim(&mut self) {
        while self.sent.front().is_some_and(|sent| !sent.is_open) {
            self.sent.pop_front();
            self.first += 1;
        }
    }

    fn detect_lost(&mut self, now: f64) {
        let Some(largest) = self.largest_acked else {
            return;
        };
        let delay = self.loss_delay();
        let (mut n_lost, mut newest) = (0, 0.0);
        for (idx, sent) in self.sent.iter_mut().enumerate() {
            let number = self.first + idx as u64;
            let is_old = now - sent.at >= delay - 1e-9;
            if number >= largest || !(is_old || largest >= number + self.packet_threshold) {
                break;
            }
            if sent.is_open {
                sent.is_open = false;
                n_lost += 1;
                newest = sent.at;
            }
        }
        self.trim();
        if n_lost == 0 {
            return;
        }
        self.n_open -= n_lost;
        let lost = Lost {
            sent_at: self.at(newest),
            bytes: n_lost * MTU as u64,
            cause: LossCause::Overtaken,
        };
        let at = self.at(now);
        match &mut self.control {
            Control::Lossy(controller) => controller.on_lost(at, lost),
            Control::Cubic(cubic) => cubic.on_lost(now, newest),
        }
    }

    /// Whether the packet has not been given up.
    pub fn is_open(&self, number: u64) -> bool {
        let offset = number.checked_sub(self.first);
        offset.is_some_and(|offset| self.sent[offset as usize].is_open)
    }
}

/// Acknowledges every second packet, at once after a gap, and the last after a while.
#[derive(Default)]
pub struct Receiver {
    /// Packets in the order in which they came.
    log: Vec<u64>,
    largest: u64,
    n_unacked: u32,
    pub ack_at: Option<f64>,
}

impl Receiver {
    /// Whether an acknowledgement is to be sent at once.
    pub fn on_packet(&mut self, now: f64, number: u64) -> bool {
        self.log.push(number);
        let is_gap = number != self.largest + 1;
        self.largest = self.largest.max(number);
        self.n_unacked += 1;
        if self.n_unacked < 2 && !is_gap {
            self.ack_at = Some(now + 0.025);
            return false;
        }
        true
    }

    /// Makes an acknowledgement of the last packets, as far as its blocks reach.
    pub fn ack(&mut self) -> (usize, usize) {
        self.n_unacked = 0;
        self.ack_at = None;
        (self.log.len().saturating_sub(250), self.log.len())
    }
}
