//! What the policy speaks of: transports, carriers, causes, decisions, notices.

use std::fmt;
use std::time::Duration;

use crate::path::{Direction, Pace};

/// A way to reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// QUIC.
    Quic,
    /// KCP with yamux.
    Kcp,
    /// TCP with yamux.
    Tcp,
    /// WebSocket over TLS.
    Wss,
    /// WebSocket.
    WebSocket,
}

impl Transport {
    /// All, in the order in which they are preferred where nothing tells them apart.
    pub const ALL: [Self; 5] = [Self::Quic, Self::Kcp, Self::Tcp, Self::Wss, Self::WebSocket];

    /// What it runs over.
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Self::Quic | Self::Kcp => Family::Udp,
            Self::Tcp | Self::Wss | Self::WebSocket => Family::Tcp,
        }
    }

    /// The name in configuration and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Kcp => "kcp",
            Self::Tcp => "tcp",
            Self::Wss => "wss",
            Self::WebSocket => "websocket",
        }
    }

    /// The transport of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What networks treat alike: they block UDP, or drop it, without regard to what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// QUIC and KCP.
    Udp,
    /// TCP and WebSocket.
    Tcp,
}

/// One way to one address of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// How.
    pub transport: Transport,
    /// Over IPv6 rather than IPv4.
    pub is_ipv6: bool,
    /// Used only when no other candidate can be reached (`transport.auto.fallback`).
    pub is_fallback: bool,
}

/// Names a carrier, and the attempt to open it. Given by the policy, never twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CarrierId(pub u64);

impl fmt::Display for CarrierId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "carrier {}", self.0)
    }
}

/// What the owner of the policy should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Open a carrier: resolve the name anew, dial, log in or join.
    Dial {
        /// Its name from now on.
        carrier: CarrierId,
        /// Index into the candidates.
        candidate: usize,
        /// Why.
        purpose: Purpose,
    },
    /// Drop an attempt that has not ended.
    Abandon {
        /// Which.
        carrier: CarrierId,
    },
    /// Start a burst of probes.
    Burst {
        /// On which carrier.
        carrier: CarrierId,
        /// How many.
        n_probes: u32,
    },
    /// Probe at another pace.
    Probe {
        /// Which carrier.
        carrier: CarrierId,
        /// How.
        pace: Pace,
    },
    /// Send a bounded burst of padding and say at what rate it arrived
    /// ([`handle_measured_rate`](super::Policy::handle_measured_rate)).
    MeasureRate {
        /// On which carrier.
        carrier: CarrierId,
        /// How much at most.
        bytes: u64,
    },
    /// Choose congestion control and redundancy for this loss, before the transport is changed.
    AdaptToLoss {
        /// On which carrier.
        carrier: CarrierId,
        /// The loss in percent.
        loss_pct: u8,
    },
    /// Use this carrier from now on, and say when the streams have moved.
    Promote {
        /// The new one.
        carrier: CarrierId,
        /// The old one, if it may still deliver what it has.
        from: Option<CarrierId>,
        /// Number of the switch.
        generation: u64,
    },
    /// Follow a change of address without a new handshake.
    Rebind {
        /// Which carrier.
        carrier: CarrierId,
    },
    /// Close a carrier that is not needed: at once if it is dead, else when its streams are gone.
    Rest {
        /// Which.
        carrier: CarrierId,
    },
}

/// Why a carrier is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The first of a session, or the next after all were lost.
    Connect,
    /// To have one of the other family.
    Standby,
    /// Beside one of the same kind that is silent.
    Beside,
    /// Asked for by hand.
    Manual,
}

/// Why no carrier came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialFailure {
    /// Nobody answered in time.
    Timeout,
    /// The host answered that nobody listens, or something between said so.
    Refused,
    /// No route, or no address of this kind.
    Unreachable,
    /// The name has no address at the moment.
    Resolve,
    /// Somebody answered who is not the server: TLS, ALPN or framing was wrong.
    Handshake,
    /// The server has refused the login.
    Login,
}

/// Why a carrier is at its end for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathCause {
    /// The peer, or something between, has reset or closed it.
    Closed,
    /// TLS has failed.
    Tls,
    /// The interface or address that it used is gone.
    AddressGone,
    /// ICMP said that nobody listens, and nothing authenticated came after: it said so twice, or
    /// what was asked since stayed unanswered.
    Refused,
    /// A burst stayed unanswered while another carrier answered.
    Silent(Direction),
    /// The peer has said goodbye.
    Goodbye,
}

/// Why the carrier in use was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// None was in use.
    Connected,
    /// The best of those that answered at start.
    BestAtStart,
    /// The one before it has died.
    Died(DeathCause),
    /// The one before it lost too many heartbeats, and this one is better.
    Loss,
    /// Data stood still on the one before it.
    Stall,
    /// The one before it was too slow for what waits.
    Slow,
    /// A preferred transport works again.
    Return,
    /// Somebody asked for it.
    Manual,
}

impl Cause {
    /// Whether the rules against flapping apply.
    #[must_use]
    pub fn is_quality(self) -> bool {
        matches!(self, Self::Loss | Self::Stall | Self::Slow | Self::Return)
    }

    /// A word for logs and metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::BestAtStart => "best_at_start",
            Self::Died(DeathCause::Closed) => "closed",
            Self::Died(DeathCause::Tls) => "tls",
            Self::Died(DeathCause::AddressGone) => "address_gone",
            Self::Died(DeathCause::Refused) => "refused",
            Self::Died(DeathCause::Silent(_)) => "silent",
            Self::Died(DeathCause::Goodbye) => "goodbye",
            Self::Loss => "loss",
            Self::Stall => "stall",
            Self::Slow => "slow",
            Self::Return => "return",
            Self::Manual => "manual",
        }
    }
}

/// How the session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A carrier is in use and healthy.
    Connected,
    /// The carrier in use is in doubt or compared with another.
    Degraded,
    /// Streams are moving.
    Switching,
    /// No carrier lives; streams are kept.
    Holding,
    /// No carrier lives, and no streams are kept.
    Reconnecting,
    /// The server has refused the login.
    Refused,
}

/// What a carrier was like in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Share of heartbeats that were lost or late.
    pub heartbeat_loss: f64,
    /// Share of packets that were lost.
    pub packet_loss: f64,
    /// Smoothed round-trip time.
    pub srtt: Duration,
    /// Longest stall.
    pub stall: Duration,
    /// Bytes a second that bulk can expect.
    pub bulk_rate: f64,
    /// How long interactive data takes: the less the better.
    pub interactive: Duration,
}

/// Something for the log, the metrics and the status page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Notice {
    /// The state has changed.
    State {
        /// From.
        from: State,
        /// To.
        to: State,
    },
    /// A carrier is silent; a burst is on its way.
    Suspect {
        /// Which.
        carrier: CarrierId,
        /// In which direction.
        direction: Direction,
        /// For how long.
        silence: Duration,
    },
    /// A carrier that was suspect lives.
    Revived {
        /// Which.
        carrier: CarrierId,
    },
    /// A carrier is gone.
    Dead {
        /// Which.
        carrier: CarrierId,
        /// Its transport.
        transport: Transport,
        /// Why.
        cause: DeathCause,
    },
    /// The carrier in use is compared with the standby.
    Questioned {
        /// Which.
        carrier: CarrierId,
        /// Share of heartbeats lost of late.
        heartbeat_loss: f64,
        /// Longest stall of late.
        stall: Duration,
    },
    /// A comparison was made and nothing came of it.
    Stayed {
        /// What is in use.
        from: Measured,
        /// What it was compared with.
        to: Measured,
        /// The standby was better, but a rule against flapping forbade the switch.
        is_barred: bool,
    },
    /// Another carrier is in use. In a dry run: would be.
    Switched {
        /// What was in use.
        from: Option<Transport>,
        /// What is.
        to: Transport,
        /// It goes over IPv6, where that is told apart.
        is_ipv6: bool,
        /// Why.
        cause: Cause,
        /// The window that decided, where one did.
        numbers: Option<(Measured, Measured)>,
        /// Nothing was done.
        is_dry_run: bool,
    },
    /// A candidate could not be reached.
    DialFailed {
        /// Index into the candidates.
        candidate: usize,
        /// Why.
        failure: DialFailure,
        /// When it is tried again, where that is known.
        retry_in: Option<Duration>,
    },
}
