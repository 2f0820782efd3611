//! The link in user space: a TUN device on either side, and a thread for each direction that moves
//! packets from one to the other when [`OneWay`] says so.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use super::counters::WayCounters;
use super::fault::Policer;
use super::one_way::OneWay;
use super::place::Place;
use super::profile::{Profile, Way};
use super::{DEVICE, Direction, MTU, system};

/// A running link between two places. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct UserSpaceLink {
    to_far: Runner,
    to_near: Runner,
}

impl UserSpaceLink {
    /// Connects two places, both of which get the interface [`DEVICE`].
    pub(crate) fn start(near: &Place, far: &Place, profile: &Profile, seed: u64) -> Result<Self> {
        let near_tun = Arc::new(add_interface(near)?);
        let far_tun = Arc::new(add_interface(far)?);
        let to_far = OneWay::new(&profile.to_far, seed);
        // Another sequence: otherwise both directions would lose the same packets.
        let to_near = OneWay::new(&profile.to_near, !seed);
        Ok(Self {
            to_far: Runner::start("link-to-far", to_far, &near_tun, &far_tun, near)?,
            to_near: Runner::start("link-to-near", to_near, &far_tun, &near_tun, far)?,
        })
    }

    pub(crate) fn set_profile(&self, profile: &Profile) {
        self.to_far.set_way(&profile.to_far);
        self.to_near.set_way(&profile.to_near);
    }

    pub(crate) fn set_policers(&self, direction: Direction, policers: Vec<Policer>) {
        self.runner(direction)
            .shared
            .one_way()
            .set_policers(policers);
    }

    pub(crate) fn counters(&self, direction: Direction) -> Result<WayCounters> {
        let runner = self.runner(direction);
        let mut counters = runner.shared.one_way().counters();
        counters.missed = runner.missed()?;
        Ok(counters)
    }

    pub(crate) fn reset_counters(&self) {
        for direction in Direction::BOTH {
            self.runner(direction).shared.one_way().reset_counters();
        }
    }

    fn runner(&self, direction: Direction) -> &Runner {
        match direction {
            Direction::ToFar => &self.to_far,
            Direction::ToNear => &self.to_near,
        }
    }
}

/// Makes the interface of a place, with its address and a route to the rest of the lab's network.
fn add_interface(place: &Place) -> Result<OwnedFd> {
    let tun = place.enter(|| system::open_tun(DEVICE))?;
    place.turn_off_ipv6(DEVICE)?;
    place.add_address(place.ipv4())?;
    let (mtu, queue) = (MTU.to_string(), TUN_QUEUE_PACKETS.to_string());
    place.run(
        "ip",
        &[
            "link",
            "set",
            "dev",
            DEVICE,
            "mtu",
            &mtu,
            "txqueuelen",
            &queue,
            "up",
        ],
    )?;
    Ok(tun)
}

/// The thread of one direction.
#[derive(Debug)]
struct Runner {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    sender: Place,
}

#[derive(Debug)]
struct Shared {
    one_way: Mutex<OneWay>,
    /// Wakes the thread when the link has changed or ends.
    changed: OwnedFd,
    is_ending: AtomicBool,
}

impl Runner {
    fn start(
        name: &str,
        one_way: OneWay,
        from: &Arc<OwnedFd>,
        to: &Arc<OwnedFd>,
        sender: &Place,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            one_way: Mutex::new(one_way),
            changed: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            is_ending: AtomicBool::new(false),
        });
        let (state, from, to) = (Arc::clone(&shared), Arc::clone(from), Arc::clone(to));
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                system::run_before_others();
                state.carry(&from, &to);
            })
            .context("cannot start a thread for the link")?;
        Ok(Self {
            shared,
            thread: Some(thread),
            sender: sender.clone(),
        })
    }

    fn set_way(&self, way: &Way) {
        self.shared.one_way().set_way(Instant::now(), way);
        self.shared.wake();
    }

    /// Returns how many packets the kernel dropped because the thread did not fetch them.
    fn missed(&self) -> Result<u64> {
        let devices = self
            .sender
            .enter(|| std::fs::read_to_string("/proc/thread-self/net/dev"))?;
        let line = devices
            .lines()
            .find_map(|line| line.trim().strip_prefix(DEVICE)?.strip_prefix(':'))
            .context("the link's interface is gone")?;
        let dropped = line.split_whitespace().nth(TX_DROPPED_FIELD);
        Ok(dropped.context("/proc/net/dev is short")?.parse()?)
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Relaxed);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // It panics only with a bug in `OneWay`, which the test has seen as a dead link.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn one_way(&self) -> MutexGuard<'_, OneWay> {
        self.one_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Fails only when the counter is at its limit, and then the thread wakes anyway.
        let _ = rustix::io::write(&self.changed, &1u64.to_ne_bytes());
    }

    fn carry(&self, from: &OwnedFd, to: &OwnedFd) {
        let mut buffer = vec![0; READ_LEN];
        while !self.is_ending.load(Ordering::Relaxed) {
            let (is_idle, next) = {
                let mut one_way = self.one_way();
                deliver(&mut one_way, to);
                let is_idle = collect(&mut one_way, from, &mut buffer);
                (is_idle, one_way.poll_timeout())
            };
            if is_idle && !self.wait(from, next) {
                return;
            }
        }
    }

    /// Waits for a packet, a change, or `next`. Says no when the device is gone.
    fn wait(&self, from: &OwnedFd, next: Option<Instant>) -> bool {
        let left = next.map(|next| next.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return true;
        }
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut handles = [
            PollFd::new(from, PollFlags::IN),
            PollFd::new(&self.changed, PollFlags::IN),
        ];
        // Interrupted or timed out: the caller looks at everything anyway.
        let _ = poll(&mut handles, timeout.as_ref());
        if handles[1].revents().contains(PollFlags::IN) {
            let _ = rustix::io::read(&self.changed, &mut [0u8; 8]);
        }
        !handles[0]
            .revents()
            .intersects(PollFlags::ERR | PollFlags::NVAL)
    }
}

/// Hands what has arrived to the receiving kernel.
fn deliver(one_way: &mut OneWay, to: &OwnedFd) {
    let due = Instant::now() + EARLY_MAX;
    for _ in 0..BATCH_PACKETS {
        let Some(packet) = one_way.poll_delivery(due) else {
            return;
        };
        // The kernel refuses what nobody could send either, and everything once it is going down.
        let _ = rustix::io::write(to, &packet);
        one_way.recycle(packet);
    }
}

/// Takes what the sending kernel has. Says whether that is all for the moment.
fn collect(one_way: &mut OneWay, from: &OwnedFd, buffer: &mut [u8]) -> bool {
    for _ in 0..BATCH_PACKETS {
        match rustix::io::read(from.as_fd(), &mut *buffer) {
            Ok(n) => one_way.handle_packet(Instant::now(), &buffer[..n]),
            Err(Errno::INTR) => {}
            // Nothing there, or the device is going down: waiting will tell.
            Err(_) => return true,
        }
    }
    false
}

/// Packets that become due within this time are delivered together: ten times fewer wake-ups at a
/// high rate, for an error far below a millisecond.
const EARLY_MAX: Duration = Duration::from_micros(50);

/// How many packets are moved one way before it is the other way's turn.
const BATCH_PACKETS: usize = 64;

/// How many packets the sending kernel keeps for a thread that is late: 100 ms at 600 Mbit/s.
const TUN_QUEUE_PACKETS: usize = 5000;

/// Longer than the MTU, so that a packet that is too long shows and is not cut.
const READ_LEN: usize = 64 * 1024;

/// Where `/proc/net/dev` has the packets that were dropped before they were sent.
const TX_DROPPED_FIELD: usize = 11;
