//! Flows over a link, in the order in which things happen.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::OnceLock;
use std::time::Instant;

use lossy::{Config, Controller};

use crate::flow::{Control, Flow, Load, MTU};
use crate::link::{Link, Profile};
use crate::rival::Cubic;

pub struct World {
    link: Link,
    flows: Vec<Flow>,
    events: BinaryHeap<Event>,
    n_events: u64,
    now: f64,
    /// Bytes that arrived and were not sent again, for each flow and tenth of a second.
    delivered: Vec<Vec<f64>>,
    steps: Vec<Profile>,
}

struct Event {
    at: f64,
    order: u64,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Wake(usize),
    Packet(usize, u64),
    Ack(usize, usize, usize),
    AckTime(usize),
    Step(usize),
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    /// The earliest is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .at
            .total_cmp(&self.at)
            .then(other.order.cmp(&self.order))
    }
}

impl World {
    pub fn new(profile: Profile, seed: u64) -> Self {
        Self {
            link: Link::new(profile, seed),
            flows: Vec::new(),
            events: BinaryHeap::new(),
            n_events: 0,
            now: 0.0,
            delivered: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Adds a sender of ours that begins at a time.
    pub fn ours(self, load: Load, at: f64) -> Self {
        self.ours_with(load, at, None)
    }

    pub fn ours_with(mut self, load: Load, at: f64, max_rate: Option<u64>) -> Self {
        let config = Config {
            mtu: MTU as u64,
            max_rate,
        };
        let controller = Controller::new(config, start());
        let control = Control::Lossy(Box::new(controller));
        let mut flow = Flow::new(control, load, start(), at);
        if self.link.profile.jitter > 0.0 {
            flow = flow.patient();
        }
        self.add(flow, at);
        self
    }

    pub fn cubic(mut self, at: f64) -> Self {
        let control = Control::Cubic(Cubic::new());
        self.add(Flow::new(control, Load::Bulk, start(), at), at);
        self
    }

    fn add(&mut self, flow: Flow, at: f64) {
        self.flows.push(flow);
        self.delivered.push(Vec::new());
        self.schedule(at, Kind::Wake(self.flows.len() - 1));
    }

    /// Changes the link at a time.
    pub fn step(mut self, at: f64, profile: Profile) -> Self {
        self.steps.push(profile);
        self.schedule(at, Kind::Step(self.steps.len() - 1));
        self
    }

    fn schedule(&mut self, at: f64, kind: Kind) {
        self.n_events += 1;
        self.events.push(Event {
            at,
            order: self.n_events,
            kind,
        });
    }

    pub fn run(mut self, until: f64) -> Self {
        let trace = std::env::var_os("TRACE").is_some();
        let mut next_trace = self.now;
        while let Some(event) = self.events.peek() {
            if event.at > until {
                break;
            }
            let Some(event) = self.events.pop() else {
                break;
            };
            self.now = event.at;
            if trace && self.now >= next_trace {
                self.trace();
                next_trace = self.now + 0.1;
            }
            self.handle(event.kind);
        }
        self.now = until;
        self
    }

    fn trace(&self) {
        for (idx, flow) in self.flows.iter().enumerate() {
            if let Some(controller) = flow.controller() {
                let last = self.delivered[idx].last().copied().unwrap_or(0.0);
                eprintln!(
                    "{:.2} #{idx} {last:.0} {:?}",
                    self.now,
                    controller.snapshot()
                );
            }
        }
    }

    fn handle(&mut self, kind: Kind) {
        let now = self.now;
        match kind {
            Kind::Step(idx) => self.link.profile = self.steps[idx],
            Kind::Wake(idx) => {
                if self.flows[idx].timer < now - 1e-9 || self.flows[idx].timer > now + 1e-9 {
                    // Replaced by another one, or the first.
                    if self.flows[idx].timer.is_finite() {
                        return;
                    }
                }
                self.flows[idx].on_timer(now);
                self.send(idx);
            }
            Kind::Packet(idx, number) => {
                let flow = &mut self.flows[idx];
                if flow.is_open(number) {
                    let slot = (now * 10.0) as usize;
                    let slots = &mut self.delivered[idx];
                    slots.resize(slots.len().max(slot + 1), 0.0);
                    slots[slot] += MTU;
                }
                if flow.receiver.on_packet(now, number) {
                    self.send_ack(idx);
                } else if let Some(at) = self.flows[idx].receiver.ack_at {
                    self.schedule(at, Kind::AckTime(idx));
                }
            }
            Kind::AckTime(idx) => {
                let ack_at = self.flows[idx].receiver.ack_at;
                if ack_at.is_some_and(|at| at <= now + 1e-9) {
                    self.send_ack(idx);
                }
            }
            Kind::Ack(idx, from, upto) => {
                self.flows[idx].on_ack(now, from, upto);
                self.send(idx);
            }
        }
    }

    fn send(&mut self, idx: usize) {
        while let Some(burst) = self.flows[idx].poll(self.now) {
            for number in burst.first..burst.first + burst.n {
                if let Some(at) = self.link.send(self.now, MTU) {
                    self.schedule(at, Kind::Packet(idx, number));
                }
            }
        }
        let timer = self.flows[idx].timer;
        if timer.is_finite() {
            self.schedule(timer, Kind::Wake(idx));
        }
    }

    fn send_ack(&mut self, idx: usize) {
        let (from, upto) = self.flows[idx].receiver.ack();
        if let Some(at) = self.link.send_ack(self.now) {
            self.schedule(at, Kind::Ack(idx, from, upto));
        }
    }

    /// Bytes per second that arrived between two times.
    pub fn goodput(&self, idx: usize, from: f64, to: f64) -> f64 {
        let slots = (from * 10.0).round() as usize..(to * 10.0).round() as usize;
        let slots = slots.map(|slot| self.delivered[idx].get(slot).copied().unwrap_or(0.0));
        slots.sum::<f64>() / (to - from)
    }

    /// The first time from `from` on at which a half second brings this much per second.
    pub fn reaches(&self, idx: usize, goodput: f64, from: f64) -> f64 {
        let mut at = from;
        while at + 0.5 <= self.now && self.goodput(idx, at, at + 0.5) < goodput {
            at += 0.1;
        }
        at - from
    }

    /// Bytes per second that were put on the link until `time`.
    pub fn sent_rate(&self, time: f64) -> f64 {
        self.link.n_sent as f64 * MTU / time
    }

    /// Share of the packets that found the queue full.
    pub fn overflow(&self) -> f64 {
        self.link.n_overflowed as f64 / self.link.n_sent as f64
    }

    /// Mean time that packets waited.
    pub fn mean_queue(&self) -> f64 {
        self.link.queued / self.link.n_sent as f64
    }

    /// Forgets what queues and overflow were so far.
    pub fn fresh_counters(mut self) -> Self {
        self.link.queued = 0.0;
        self.link.n_sent = 0;
        self.link.n_overflowed = 0;
        self
    }
}

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}
