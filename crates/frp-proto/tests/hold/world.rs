//! Both ends of a session, their programs, and what befalls them.

mod arrivals;
mod carriers;
mod faults;
mod programs;
mod pump;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use frp_proto::hold::datagram::Datagram;
use frp_proto::hold::frame::{Ack, Attached, Frame, ResetCode, put_data_header};
use frp_proto::hold::session::{AttachTo, Class, Config, Role};
use frp_proto::hold::stream::Event;
use frp_proto::hold::{
    Budget, CarrierId, CopyPlan, Generation, HeldStream, MAX_WINDOW, Output, Route, Session,
};

use crate::app::App;
use crate::carrier::{Carrier, Item, Mux};
use crate::random::Random;

const CLIENT: usize = 0;
const SERVER: usize = 1;

/// How long a run may take, in its own time: everything in it takes seconds.
const MAX_TIME: Duration = Duration::from_secs(3600);
const MAX_EVENTS: u64 = 3_000_000;

/// What a run is drawn from its seed.
pub struct Plan {
    n_streams: u64,
    n_faults: u64,
    process_bytes: u64,
    reset_percent: u64,
    datagram_percent: u64,
    restart_percent: u64,
}

impl Plan {
    pub fn random(random: &mut Random) -> Self {
        Self {
            n_streams: 1 + random.below(3),
            n_faults: random.below(10),
            process_bytes: random.pick(&[0, 50_000, 1 << 20, 1 << 30]),
            reset_percent: random.pick(&[0, 0, 20]),
            datagram_percent: random.pick(&[0, 30, 100]),
            restart_percent: random.pick(&[0, 0, 0, 10]),
        }
    }
}

/// How often things came up that a run is for.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    runs: u64,
    bytes: u64,
    ends: u64,
    resets: u64,
    attaches: u64,
    drains: u64,
    kills: u64,
    one_way_kills: u64,
    refused_attaches: u64,
    refused_frames: u64,
    datagrams: u64,
    restarts: u64,
    forgotten: u64,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        for (sum, n) in self.fields().into_iter().zip(other.clone().fields()) {
            *sum += *n;
        }
    }

    pub fn assert_all_came_up(&mut self) {
        let fields = self.fields().map(|n| *n);
        assert!(fields.iter().all(|n| *n > 100), "{fields:?}");
    }

    fn fields(&mut self) -> [&mut u64; 13] {
        [
            &mut self.runs,
            &mut self.bytes,
            &mut self.ends,
            &mut self.resets,
            &mut self.attaches,
            &mut self.drains,
            &mut self.kills,
            &mut self.one_way_kills,
            &mut self.refused_attaches,
            &mut self.refused_frames,
            &mut self.datagrams,
            &mut self.restarts,
            &mut self.forgotten,
        ]
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    /// Something arrives at the end of a pipe.
    Arrive {
        mux: usize,
        direction: usize,
    },
    Datagram {
        carrier: usize,
        end: usize,
        bytes: Bytes,
    },
    /// An end learns that a carrier is gone.
    Notice {
        end: usize,
        carrier: usize,
    },
    /// A new carrier has joined, at the end.
    Joined {
        end: usize,
        carrier: usize,
        number: u64,
    },
    Use {
        carrier: usize,
        number: u64,
    },
    Write {
        end: usize,
        stream: u64,
    },
    Read {
        end: usize,
        stream: u64,
    },
    Timeout {
        end: usize,
        stream: u64,
    },
    /// The client finds a carrier for a stream that has none.
    Reattach {
        stream: u64,
    },
    Open,
    Fault,
}

struct End {
    session: Session,
    streams: BTreeMap<u64, HeldStream>,
    muxes: BTreeMap<(u64, Route), usize>,
    timers: BTreeMap<u64, Instant>,
    budget: Budget,
}

pub struct World {
    plan: Plan,
    random: Random,
    start: Instant,
    now: Instant,
    n_actions: u64,
    agenda: BinaryHeap<Reverse<(Instant, u64, Action)>>,
    carriers: Vec<Carrier>,
    muxes: Vec<Mux>,
    ends: [End; 2],
    apps: BTreeMap<u64, [Option<App>; 2]>,
    /// ATTACHes of long ago, to be said again.
    recorded: Vec<(u64, Bytes)>,
    is_connecting: bool,
    /// Everything is printed: `SEED=123 TRACE=1`.
    is_traced: bool,
    reattaching: BTreeSet<u64>,
    out: Output,
    seen: Seen,
}

impl World {
    pub fn new(plan: Plan, random: Random) -> Self {
        let start = Instant::now();
        let ends = [Role::Client, Role::Server].map(|role| End::new(role, &plan));
        Self {
            plan,
            random,
            start,
            now: start,
            n_actions: 0,
            agenda: BinaryHeap::new(),
            carriers: Vec::new(),
            muxes: Vec::new(),
            ends,
            apps: BTreeMap::new(),
            recorded: Vec::new(),
            is_connecting: false,
            is_traced: std::env::var_os("TRACE").is_some(),
            reattaching: BTreeSet::new(),
            out: Output::default(),
            seen: Seen {
                runs: 1,
                ..Seen::default()
            },
        }
    }

    pub fn run(mut self) -> Seen {
        self.connect();
        for _ in 0..self.plan.n_streams {
            let at = self.random.pick(&[0, 50_000, 600_000]);
            self.plan_in(at, Action::Open);
        }
        for _ in 0..self.plan.n_faults {
            let at = self.random.pick(&[1, 50_000, 400_000, 1_500_000]);
            let at = self.random.below(at);
            self.plan_in(at, Action::Fault);
        }
        while let Some(Reverse((at, _, action))) = self.agenda.pop() {
            self.now = at;
            self.n_actions += 1;
            assert!(
                at - self.start < MAX_TIME && self.n_actions < MAX_EVENTS,
                "it goes on for ever"
            );
            self.act(action);
        }
        self.check_the_end();
        self.seen
    }

    fn act(&mut self, action: Action) {
        if self.is_traced {
            eprintln!("{:?} {action:?}", self.now - self.start);
        }
        match action {
            Action::Arrive { mux, direction } => self.arrive(mux, direction),
            Action::Datagram {
                carrier,
                end,
                bytes,
            } => self.receive_datagram(carrier, end, bytes),
            Action::Notice { end, carrier } => self.notice(end, carrier),
            Action::Joined {
                end,
                carrier,
                number,
            } => self.join(end, carrier, number),
            Action::Use { carrier, number } => {
                // It may have been overtaken, or the carrier be gone.
                let _ = self.ends[SERVER]
                    .session
                    .handle_use(id(carrier), Generation(number));
            }
            Action::Write { end, stream } => self.write(end, stream),
            Action::Read { end, stream } => self.read(end, stream),
            Action::Timeout { end, stream } => {
                if let Some(held) = self.ends[end].streams.get_mut(&stream) {
                    held.handle_timeout(self.now);
                    self.pump(end, stream);
                }
            }
            Action::Reattach { stream } => self.reattach(stream),
            Action::Open => self.open(),
            Action::Fault => self.fault(),
        }
    }

    fn plan_in(&mut self, micros: u64, action: Action) {
        self.plan_at(self.now + Duration::from_micros(micros), action);
    }

    fn plan_at(&mut self, at: Instant, action: Action) {
        self.n_actions += 1;
        self.agenda.push(Reverse((at, self.n_actions, action)));
    }

    fn check_the_end(&mut self) {
        for (stream, apps) in &self.apps {
            let was_reset = check_prefix(apps);
            for (end, app) in apps.iter().enumerate() {
                let held = self.ends[end].streams.get(stream);
                if was_reset {
                    // An end that was at its own end already need not have heard of it.
                    let is_known = app.as_ref().is_none_or(App::is_done);
                    assert!(is_known, "stream {stream} hangs at {end}: {app:?} {held:?}");
                } else {
                    let app = app.as_ref().expect("both ends know the stream");
                    assert!(app.saw_end, "no end of {stream} at {end}: {app:?} {held:?}");
                }
                self.seen.bytes += app.as_ref().map_or(0, |app| app.read);
                assert!(held.is_none(), "kept for ever: {app:?} {held:?}");
            }
        }
        for end in &self.ends {
            assert_eq!(end.budget.used(), 0, "what ends gives back what it had");
        }
    }
}

/// The bytes were compared as they were read. True when somebody reset the stream.
fn check_prefix(apps: &[Option<App>; 2]) -> bool {
    for (reader, writer) in [(&apps[0], &apps[1]), (&apps[1], &apps[0])] {
        let Some(reader) = reader else {
            continue;
        };
        let (written, has_finished) = writer
            .as_ref()
            .map_or((0, false), |writer| (writer.written, writer.has_finished));
        assert!(reader.read <= written, "more was read than was written");
        if reader.saw_end {
            assert!(has_finished && reader.read == written, "a false end");
        }
    }
    let was_reset = apps.iter().flatten().any(|app| app.did_reset);
    let saw_reset = apps.iter().flatten().any(|app| app.saw_reset.is_some());
    assert!(!saw_reset || was_reset, "nobody reset it: {apps:?}");
    was_reset
}

impl End {
    fn new(role: Role, plan: &Plan) -> Self {
        let budget = Budget::new(plan.process_bytes);
        let config = Config {
            role,
            instance: [1; 16],
            grace: MAX_TIME,
            max_streams: 100,
            max_bytes: plan.process_bytes,
        };
        Self {
            session: Session::new(config, &budget),
            streams: BTreeMap::new(),
            muxes: BTreeMap::new(),
            timers: BTreeMap::new(),
            budget,
        }
    }
}

fn held_mut(end: &mut End, stream: u64) -> &mut HeldStream {
    end.streams.get_mut(&stream).unwrap()
}

fn is_closed_at(muxes: &[Mux], mux: usize, end: usize) -> bool {
    muxes[mux].is_closed[end]
}

fn id(carrier: usize) -> CarrierId {
    CarrierId(carrier as u64)
}
