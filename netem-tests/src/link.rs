//! How the two programs are connected: the matrix that every proxy type is tested on.

use std::fmt;

/// frp's wire protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// The default of frp.
    V1,
    /// Asked for by `transport.wireProtocol`.
    V2,
}

/// How the carrier is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// As frp does it when nothing is configured: on, with a certificate that nobody checks.
    Default,
    /// Off.
    Off,
    /// Both ends show a certificate and check the other's.
    Mutual,
}

/// Whether all streams share one connection (`transport.tcpMux`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mux {
    /// All streams in one connection.
    On,
    /// A connection for each stream.
    Off,
}

/// What carries the streams (`transport.protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// WebSocket over TCP, with TLS inside of it.
    Websocket,
    /// WebSocket inside of TLS. frp's server needs something in front of it for that.
    Wss,
    /// KCP over UDP, with TLS and multiplexing inside of it.
    Kcp,
    /// QUIC, which has its own encryption and multiplexing whatever the link says.
    Quic,
    /// Whichever of them is best at the moment: between Holdfasts.
    Auto,
}

impl Transport {
    /// Returns the name that configurations have for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Websocket => "websocket",
            Self::Wss => "wss",
            Self::Kcp => "kcp",
            Self::Quic => "quic",
            Self::Auto => "auto",
        }
    }

    /// Says whether it can go over UDP.
    pub fn has_udp(self) -> bool {
        matches!(self, Self::Kcp | Self::Quic | Self::Auto)
    }

    /// Says whether it can go over TCP.
    pub fn has_tcp(self) -> bool {
        !matches!(self, Self::Kcp | Self::Quic)
    }
}

/// One way of connecting the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The wire protocol.
    pub wire: Wire,
    /// The encryption.
    pub tls: Tls,
    /// The multiplexing.
    pub mux: Mux,
    /// What is below.
    pub transport: Transport,
}

impl Link {
    /// What two programs use that are told nothing.
    pub const DEFAULT: Self = Self {
        wire: Wire::V1,
        tls: Tls::Default,
        mux: Mux::On,
        transport: Transport::Tcp,
    };

    /// The same over QUIC.
    pub const QUIC: Self = Self {
        transport: Transport::Quic,
        ..Self::DEFAULT
    };

    /// The same over KCP.
    pub const KCP: Self = Self {
        transport: Transport::Kcp,
        ..Self::DEFAULT
    };

    /// The same over whichever transport is best.
    pub const AUTO: Self = Self {
        transport: Transport::Auto,
        ..Self::DEFAULT
    };

    /// The same over WebSocket.
    pub const WEBSOCKET: Self = Self {
        transport: Transport::Websocket,
        ..Self::DEFAULT
    };
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.wire {
            Wire::V1 => "wire v1, ",
            Wire::V2 => "wire v2, ",
        })?;
        f.write_str(match self.tls {
            Tls::Default => "TLS by default, ",
            Tls::Off => "no TLS, ",
            Tls::Mutual => "mutual TLS, ",
        })?;
        f.write_str(match self.mux {
            Mux::On => "multiplexed",
            Mux::Off => "a connection per stream",
        })?;
        f.write_str(match self.transport {
            Transport::Tcp => "",
            Transport::Websocket => ", websocket",
            Transport::Wss => ", wss",
            Transport::Kcp => ", KCP",
            Transport::Quic => ", QUIC",
            Transport::Auto => ", auto",
        })
    }
}

/// Makes a test of `$check` (a function that takes a [`Link`]) on each of the links: all that TCP
/// has, and of the other transports what differs below the messages. KCP without multiplexing is
/// not among them: frp's server takes the last acknowledgement of a connection that it has closed
/// for a new one, and accepts nobody else for ten seconds, whoever the client is.
#[macro_export]
macro_rules! on_every_link {
    ($check:path) => {
        $crate::on_every_link! { $check;
            wire_v1_with_default_tls_multiplexed:    V1 Default On  Tcp,
            wire_v1_with_default_tls_unmultiplexed:  V1 Default Off Tcp,
            wire_v1_without_tls_multiplexed:         V1 Off     On  Tcp,
            wire_v1_without_tls_unmultiplexed:       V1 Off     Off Tcp,
            wire_v1_with_mutual_tls_multiplexed:     V1 Mutual  On  Tcp,
            wire_v1_with_mutual_tls_unmultiplexed:   V1 Mutual  Off Tcp,
            wire_v2_with_default_tls_multiplexed:    V2 Default On  Tcp,
            wire_v2_with_default_tls_unmultiplexed:  V2 Default Off Tcp,
            wire_v2_without_tls_multiplexed:         V2 Off     On  Tcp,
            wire_v2_without_tls_unmultiplexed:       V2 Off     Off Tcp,
            wire_v2_with_mutual_tls_multiplexed:     V2 Mutual  On  Tcp,
            wire_v2_with_mutual_tls_unmultiplexed:   V2 Mutual  Off Tcp,
            websocket_with_wire_v1:                  V1 Default On  Websocket,
            websocket_with_wire_v2:                  V2 Default On  Websocket,
            websocket_without_tls:                   V1 Off     On  Websocket,
            websocket_without_tls_unmultiplexed:     V2 Off     Off Websocket,
            websocket_with_mutual_tls_unmultiplexed: V1 Mutual  Off Websocket,
            kcp_with_wire_v1:                        V1 Default On  Kcp,
            kcp_with_wire_v2:                        V2 Default On  Kcp,
            kcp_without_tls:                         V1 Off     On  Kcp,
            quic_with_wire_v1:                       V1 Default On  Quic,
            quic_with_wire_v2:                       V2 Default On  Quic,
            quic_with_mutual_tls:                    V1 Mutual  On  Quic,
            quic_without_tls_and_multiplexing:       V2 Off     Off Quic,
        }
    };
    ($check:path; $($name:ident: $wire:ident $tls:ident $mux:ident $transport:ident,)+) => {
        $(
            #[test]
            fn $name() {
                $check($crate::Link {
                    wire: $crate::Wire::$wire,
                    tls: $crate::Tls::$tls,
                    mux: $crate::Mux::$mux,
                    transport: $crate::Transport::$transport,
                });
            }
        )+
    };
}
