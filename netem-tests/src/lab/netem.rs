//! The link as the kernel's own `netem` makes it.
//!
//! Two routers stand between the places, each a network of its own:
//!
//! ```text
//! near --- [side] near router [middle] --- [middle] far router [side] --- far
//! ```
//!
//! A packet meets the bottleneck with its queue where it leaves the first router (`middle`), and
//! loss and delay where it leaves the second (`side`): the order of [`super::profile`]. On the
//! sender's own interface a full queue would be no loss but an error that its TCP sees, and on one
//! interface `netem` loses packets before they use up any rate and counts those that travel as
//! queued.
//!
//! What differs from the user-space link: random decisions follow no seed, the longest queue is not
//! known, copies are delivered but not counted, and corruption can hit headers.

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::counters::WayCounters;
use super::one_way::TRAVELLING_MAX;
use super::place::Place;
use super::profile::{CorruptChecksum, Loss, Profile, Way};
use super::{DEVICE, Direction, MTU};

/// A running link between two places.
#[derive(Debug)]
pub(crate) struct NetemLink {
    near_router: Place,
    far_router: Place,
    /// What had happened when counting started, for either direction.
    before: [WayCounters; 2],
}

impl NetemLink {
    /// Connects two places, both of which get the interface [`DEVICE`].
    pub(crate) fn start(near: &Place, far: &Place, profile: &Profile) -> Result<Self> {
        let near_router = router("near router", near, far)?;
        let far_router = router("far router", far, near)?;
        let path = far_router.namespace_path();
        near_router.run("ip", &veth(MIDDLE, MIDDLE, &path))?;
        for (place, router) in [(near, &near_router), (far, &far_router)] {
            place.turn_off_ipv6("default")?;
            place.run("ip", &veth(DEVICE, SIDE, &router.namespace_path()))?;
            start_interface(place, DEVICE)?;
            start_interface(router, SIDE)?;
            place.add_address(place.ipv4())?;
        }
        let near_host = format!("{}/32", near.ipv4());
        let [a, b, c, _] = near.ipv4().octets();
        let network = format!("{a}.{b}.{c}.0/24");
        for (router, to_near, to_far) in [(&near_router, SIDE, MIDDLE), (&far_router, MIDDLE, SIDE)]
        {
            start_interface(router, MIDDLE)?;
            router.run("ip", &["route", "add", &near_host, "dev", to_near])?;
            router.run("ip", &["route", "add", &network, "dev", to_far])?;
        }
        let link = Self {
            near_router,
            far_router,
            before: [WayCounters::default(); 2],
        };
        link.set_profile(profile)?;
        Ok(link)
    }

    pub(crate) fn set_profile(&self, profile: &Profile) -> Result<()> {
        for direction in Direction::BOTH {
            let way = profile.way(direction);
            let (first, second) = self.routers(direction);
            shape(first, MIDDLE, &bottleneck(way))?;
            shape(second, SIDE, &journey(way)?)?;
        }
        Ok(())
    }

    pub(crate) fn counters(&self, direction: Direction) -> Result<WayCounters> {
        let now = self.total(direction)?;
        let before = &self.before[direction as usize];
        Ok(WayCounters {
            packets_in: now.packets_in - before.packets_in,
            bytes_in: now.bytes_in - before.bytes_in,
            packets_delivered: now.packets_delivered - before.packets_delivered,
            bytes_delivered: now.bytes_delivered - before.bytes_delivered,
            lost: now.lost - before.lost,
            overflowed: now.overflowed - before.overflowed,
            ..WayCounters::default()
        })
    }

    pub(crate) fn reset_counters(&mut self) -> Result<()> {
        for direction in Direction::BOTH {
            self.before[direction as usize] = self.total(direction)?;
        }
        Ok(())
    }

    fn total(&self, direction: Direction) -> Result<WayCounters> {
        let (first, second) = self.routers(direction);
        let bottleneck = statistics(first, MIDDLE)?;
        let journey = statistics(second, SIDE)?;
        let bytes = |queue: &Statistics| queue.bytes.saturating_sub(queue.packets * ETHERNET_LEN);
        Ok(WayCounters {
            packets_in: bottleneck.packets + bottleneck.drops + bottleneck.qlen,
            bytes_in: bytes(&bottleneck),
            packets_delivered: journey.packets,
            bytes_delivered: bytes(&journey),
            lost: journey.drops,
            overflowed: bottleneck.drops,
            ..WayCounters::default()
        })
    }

    /// Returns the routers in the order in which packets pass them.
    fn routers(&self, direction: Direction) -> (&Place, &Place) {
        match direction {
            Direction::ToFar => (&self.near_router, &self.far_router),
            Direction::ToNear => (&self.far_router, &self.near_router),
        }
    }
}

fn router(name: &str, own: &Place, other: &Place) -> Result<Place> {
    let name = format!("{name} between {} and {}", own.name(), other.name());
    let router = Place::new(&name, own.ipv4())?;
    router.turn_off_ipv6("default")?;
    router.set("net/ipv4/ip_forward", "1")?;
    Ok(router)
}

fn veth<'a>(name: &'a str, peer: &'a str, peer_namespace: &'a str) -> [&'a str; 11] {
    [
        "link",
        "add",
        "name",
        name,
        "type",
        "veth",
        "peer",
        "name",
        peer,
        "netns",
        peer_namespace,
    ]
}

/// Starts an interface that neither asks for addresses nor sends several packets as one.
fn start_interface(place: &Place, name: &str) -> Result<()> {
    let mtu = MTU.to_string();
    let settings = [
        "link",
        "set",
        "dev",
        name,
        "address",
        ETHERNET_ADDRESS,
        "arp",
        "off",
        "mtu",
        &mtu,
        "gso_max_segs",
        "1",
        "up",
    ];
    place.run("ip", &settings)?;
    Ok(())
}

/// Returns what `netem` has to be told for rate and queue.
fn bottleneck(way: &Way) -> Vec<String> {
    let (rate_bit, limit) = match way.rate_mbit {
        Some(rate) => (rate * 1e6, way.queue_packets),
        // There is no word for "no rate" that takes an earlier one back.
        None => (UNLIMITED_BIT, TRAVELLING_MAX),
    };
    // Rates are those of IP packets, and netem sees Ethernet frames.
    let text = format!("limit {limit} rate {rate_bit:.0}bit -{ETHERNET_LEN}");
    words(&text)
}

/// Returns what `netem` has to be told for all that happens behind the bottleneck. Everything is
/// said, also what is 0: what is not said stays as it was.
fn journey(way: &Way) -> Result<Vec<String>> {
    if way.corrupt_pct > 0.0 && way.corrupt_checksum == CorruptChecksum::Right {
        bail!("netem cannot repair the checksums of corrupted packets: use the user-space link");
    }
    let (delay, jitter) = (way.delay.as_micros(), way.jitter.as_micros());
    let mut text = format!("limit {TRAVELLING_MAX} delay {delay}us {jitter}us");
    text += &match way.loss {
        Loss::Random { pct } => format!(" loss random {pct}%"),
        Loss::GilbertElliott { p_pct, r_pct } => format!(" loss gemodel {p_pct}% {r_pct}%"),
    };
    text += &format!(
        " duplicate {}% corrupt {}%",
        way.duplicate_pct, way.corrupt_pct
    );
    if way.reorder_pct > 0.0 {
        text += &format!(" reorder {}%", way.reorder_pct);
    }
    Ok(words(&text))
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn shape(router: &Place, device: &str, settings: &[String]) -> Result<()> {
    let mut args = vec!["qdisc", "replace", "dev", device, "root", "netem"];
    args.extend(settings.iter().map(String::as_str));
    router.run("tc", &args)?;
    Ok(())
}

/// What `tc -s -j qdisc` says of one queue.
#[derive(Debug, Deserialize)]
struct Statistics {
    kind: String,
    bytes: u64,
    packets: u64,
    drops: u64,
    #[serde(default)]
    qlen: u64,
}

fn statistics(router: &Place, device: &str) -> Result<Statistics> {
    let json = router.run("tc", &["-s", "-j", "qdisc", "show", "dev", device])?;
    let queues: Vec<Statistics> =
        serde_json::from_str(&json).with_context(|| format!("tc answers {json}"))?;
    let netem = queues.into_iter().find(|queue| queue.kind == "netem");
    netem.context("the interface has no netem")
}

/// The interface of a router towards its place.
const SIDE: &str = "side";
/// The interface of a router towards the other router.
const MIDDLE: &str = "middle";

/// All interfaces have this address, so that each takes what its peer sends without asking for it.
const ETHERNET_ADDRESS: &str = "02:00:00:00:00:01";
const ETHERNET_LEN: u64 = 14;

/// More than any machine carries: 100 Gbit/s.
const UNLIMITED_BIT: f64 = 1e11;
