//! The link lab: two networks with a bad link between them.
//!
//! A [`Lab`] has two [`Place`]s. *Near* is the public side: `frps` and its users. *Far* is behind
//! the link: `frpc` and the services. A [`Profile`] says what the link is like, and may change while
//! traffic runs:
//!
//! ```no_run
//! # use netem_tests::{Lab, Profile};
//! # fn main() -> anyhow::Result<()> {
//! let lab = Lab::new(&Profile::delay_ms(40).rate_mbit(20))?;
//! let server = lab.near().command("iperf3").args(["-s", "-1"]).spawn()?;
//! lab.set_link(&Profile::delay_ms(40).rate_mbit(20).loss_pct(15))?;
//! println!("{}", lab.counters()?);
//! # Ok(())
//! # }
//! ```
//!
//! What a profile cannot say is a [`Fault`] ([`Lab::fault`]), another address of the far side
//! ([`Lab::change_far_address`]) or a router in front of it ([`Lab::start_nat`]).
//!
//! Both networks are namespaces without a name: what happens in them reaches nobody else, any
//! number of labs run side by side, and the kernel removes them with the last process inside. Those
//! end with their lab, or before the next one when the lab's own process was killed. Their
//! addresses (198.18.0.0/15, set apart for measurements between devices) exist nowhere else.
//!
//! A lab needs root. [`Lab::available`] says what is missing, and [`Lab::is_available_for`] says it
//! loudly, for tests that then skip.

use std::hash::{BuildHasher, RandomState};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, io, process, thread};

use anyhow::{Context, Result, bail};

pub use counters::{Counters, WayCounters};
pub use direction::Direction;
pub use fault::{Fault, POLICE_BURST_PACKETS};
pub use place::Place;
pub use profile::{CorruptChecksum, Loss, Profile, ProfileError, Way};

use fault::Policer;
use netem::NetemLink;
use user_space::UserSpaceLink;

mod counters;
mod direction;
mod fault;
pub mod gauge;
mod leftovers;
mod nat;
mod netem;
mod one_way;
mod packet;
mod place;
mod profile;
mod random;
mod system;
mod user_space;

/// Two places with a link between them.
#[derive(Debug)]
pub struct Lab {
    // The link ends before the places it connects.
    connection: Mutex<Connection>,
    near: Place,
    far: Place,
    state: Mutex<State>,
    seed: u64,
    network: Network,
    back_end: BackEnd,
}

/// What makes the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackEnd {
    /// A program of ours between two TUN devices: every machine can do it, every fault is possible,
    /// and a seed repeats it.
    UserSpace,
    /// The kernel's `netem`. Few kernels of containers and virtual machines have it.
    Netem,
}

#[derive(Debug)]
enum Connection {
    UserSpace(UserSpaceLink),
    Netem(NetemLink),
}

/// What changes while traffic runs.
#[derive(Debug)]
struct State {
    profile: Profile,
    faults: Vec<Fault>,
    n_far_addresses: u32,
    /// How often the router in front of the far side has started, if there is one.
    n_router_starts: u16,
}

impl Lab {
    /// Opens a lab with a name of no interest.
    pub fn new(profile: &Profile) -> Result<Self> {
        Self::start("lab", profile)
    }

    /// Opens a lab, with netem where `LAB_BACKEND` says `netem` and else in user space. Its random
    /// decisions follow the seed in `LAB_SEED`, or one of its own choice; the seed is printed.
    pub fn start(name: &str, profile: &Profile) -> Result<Self> {
        let seed = match env::var("LAB_SEED") {
            Ok(text) => text.parse().context("LAB_SEED is not a number")?,
            Err(_) => RandomState::new().hash_one(process::id()),
        };
        Self::start_seeded(name, profile, seed)
    }

    /// The same with this seed.
    pub fn start_seeded(name: &str, profile: &Profile, seed: u64) -> Result<Self> {
        Self::start_on(BackEnd::from_env()?, name, profile, seed)
    }

    /// Opens a lab whose link is made by `back_end`. Netem follows no seed.
    pub fn start_on(back_end: BackEnd, name: &str, profile: &Profile, seed: u64) -> Result<Self> {
        leftovers::end_all();
        let network = Network::next();
        let near = Place::new(&format!("{name}, near"), network.host(NEAR_HOST))?;
        let far = Place::new(&format!("{name}, far"), network.host(FAR_HOST))?;
        let connection = match back_end {
            BackEnd::UserSpace => {
                announce(&format!("lab \"{name}\": LAB_SEED={seed}"));
                Connection::UserSpace(UserSpaceLink::start(&near, &far, profile, seed)?)
            }
            BackEnd::Netem => {
                announce(&format!("lab \"{name}\": netem, which has no seed"));
                Connection::Netem(NetemLink::start(&near, &far, profile)?)
            }
        };
        Ok(Self {
            connection: Mutex::new(connection),
            near,
            far,
            state: Mutex::new(State {
                profile: profile.clone(),
                faults: Vec::new(),
                n_far_addresses: 1,
                n_router_starts: 0,
            }),
            seed,
            network,
            back_end,
        })
    }

    /// Says whether labs work here, and if not, what is missing.
    pub fn available() -> Result<(), String> {
        if !system::is_root() {
            return Err("it needs root".to_owned());
        }
        if !Path::new("/dev/net/tun").exists() {
            return Err("there is no /dev/net/tun".to_owned());
        }
        for (program, package) in [("ip", "iproute2"), ("nft", "nftables")] {
            if !is_installed(program) {
                return Err(format!(
                    "`{program}` is missing (apt-get install {package})"
                ));
            }
        }
        system::new_network_namespace()
            .map(drop)
            .map_err(|error| format!("{error:#}"))
    }

    /// Says whether the kernel has `netem`, beside what a lab needs anyway.
    pub fn netem_available() -> Result<(), String> {
        Self::available()?;
        if !is_installed("tc") {
            return Err("`tc` is missing (apt-get install iproute2)".to_owned());
        }
        let trial = Place::new("a trial of netem", Ipv4Addr::LOCALHOST)
            .and_then(|place| place.run("tc", &["qdisc", "add", "dev", "lo", "root", "netem"]));
        trial
            .map(drop)
            .map_err(|error| format!("the kernel has no netem: {error:#}"))
    }

    /// Says whether labs work here. If not, says so on standard error, past what the test runner
    /// keeps to itself: `what` is skipped.
    pub fn is_available_for(what: &str) -> bool {
        let Err(reason) = Self::available() else {
            return true;
        };
        let bar = "*".repeat(78);
        let notice =
            format!("\n{bar}\n***  SKIPPED: {what}\n***  The link lab: {reason}.\n{bar}\n");
        // Straight to the file: the print macros are what the runner catches.
        let _ = io::stderr().write_all(notice.as_bytes());
        false
    }

    /// The public side: `frps` and its users.
    pub fn near(&self) -> &Place {
        &self.near
    }

    /// The side behind the link: `frpc` and the services.
    pub fn far(&self) -> &Place {
        &self.far
    }

    /// Returns what makes the link.
    pub fn back_end(&self) -> BackEnd {
        self.back_end
    }

    /// Returns the seed of its random decisions.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Changes the link while traffic runs.
    pub fn set_link(&self, profile: &Profile) -> Result<()> {
        match &*self.connection() {
            Connection::UserSpace(link) => link.set_profile(profile),
            Connection::Netem(link) => link.set_profile(profile)?,
        }
        self.state().profile = profile.clone();
        Ok(())
    }

    /// Returns what the link is like.
    pub fn link(&self) -> Profile {
        self.state().profile.clone()
    }

    /// Lets something go wrong, beside what goes wrong already.
    pub fn fault(&self, fault: Fault) -> Result<()> {
        let mut state = self.state();
        state.faults.push(fault);
        self.apply(&state.faults)
    }

    /// Ends all faults.
    pub fn clear_faults(&self) -> Result<()> {
        let mut state = self.state();
        state.faults.clear();
        self.apply(&state.faults)
    }

    /// Takes the far side's address away and, after `gap`, gives it another one: a client that
    /// dials in again. Sockets bound to the old address are dead for good.
    pub fn change_far_address(&self, gap: Duration) -> Result<IpAddr> {
        let number = {
            let mut state = self.state();
            state.n_far_addresses += 1;
            state.n_far_addresses
        };
        let new = self.network.host(FAR_HOST + (number - 1) % N_FAR_HOSTS);
        self.far.remove_address()?;
        thread::sleep(gap);
        self.far.add_address(new)?;
        Ok(IpAddr::V4(new))
    }

    /// Puts a router with address translation in front of the far side, which the near side then
    /// cannot connect to. If there is one, it starts over: all its connections get new ports.
    pub fn start_nat(&self) -> Result<()> {
        let mut state = self.state();
        let turn = state.n_router_starts;
        state.n_router_starts += 1;
        nat::translate(&self.far, self.network.host(ROUTER_HOST), turn)
    }

    /// Returns what the link has done so far.
    pub fn counters(&self) -> Result<Counters> {
        let connection = self.connection();
        let of = |direction| match &*connection {
            Connection::UserSpace(link) => link.counters(direction),
            Connection::Netem(link) => link.counters(direction),
        };
        Ok(Counters {
            to_far: of(Direction::ToFar)?,
            to_near: of(Direction::ToNear)?,
        })
    }

    /// Starts counting anew, except for packets that were missed.
    pub fn reset_counters(&self) -> Result<()> {
        match &mut *self.connection() {
            Connection::UserSpace(link) => link.reset_counters(),
            Connection::Netem(link) => link.reset_counters()?,
        }
        Ok(())
    }

    fn apply(&self, faults: &[Fault]) -> Result<()> {
        let connection = self.connection();
        for (direction, receiver) in [
            (Direction::ToFar, &self.far),
            (Direction::ToNear, &self.near),
        ] {
            let link = match &*connection {
                Connection::UserSpace(link) => Some(link),
                Connection::Netem(_) => None,
            };
            fault::apply(faults, direction, receiver, link.is_some())?;
            if let Some(link) = link {
                link.set_policers(direction, Policer::of(faults, direction));
            }
        }
        Ok(())
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A program that a failed test has left behind would keep its network, and its port.
        self.near.end_all();
        self.far.end_all();
    }
}

impl BackEnd {
    fn from_env() -> Result<Self> {
        match env::var("LAB_BACKEND").as_deref() {
            Ok("netem") => Ok(Self::Netem),
            Ok("user-space") | Err(_) => Ok(Self::UserSpace),
            Ok(other) => bail!("LAB_BACKEND is {other}, and not netem or user-space"),
        }
    }
}

/// The addresses of a lab: 256 of them.
#[derive(Clone, Copy, Debug)]
struct Network(u32);

impl Network {
    /// Returns one that neither this process nor, most likely, another uses. Two labs with the same
    /// addresses would not meet either; different ones are easier to read in logs.
    fn next() -> Self {
        static N_USED: AtomicU32 = AtomicU32::new(0);
        let n_used = N_USED.fetch_add(1, Ordering::Relaxed);
        Self(process::id().wrapping_mul(7).wrapping_add(n_used) % N_NETWORKS)
    }

    fn host(self, host: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(FIRST_ADDRESS.to_bits() + self.0 * 256 + host)
    }
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

#[expect(clippy::print_stderr, reason = "whoever repeats a run needs the seed")]
fn announce(line: &str) {
    eprintln!("{line}");
}

/// The interface that is the link, on either side.
pub const DEVICE: &str = "link";

/// The longest IP packet of the link.
pub const MTU: usize = 1500;

/// The first address of 198.18.0.0/15 (RFC 2544).
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// How many networks of 256 addresses are in there.
const N_NETWORKS: u32 = 512;
const NEAR_HOST: u32 = 1;
/// The far side's first address; those after it are for [`Lab::change_far_address`].
const FAR_HOST: u32 = 2;
const N_FAR_HOSTS: u32 = 100;
/// What the near side sees of the far side behind address translation.
const ROUTER_HOST: u32 = 200;
