//! What goes wrong, and for how long.

use std::fmt;
use std::time::Duration;

use netem_tests::{Direction, Fault, Profile, Transport};

use super::dice::Dice;

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum Mishap {
    /// Somebody drops, rejects or polices.
    Broken(&'static str, Fault),
    /// The link gets bad.
    Bad(&'static str, Profile),
    /// The client gets another address, after so long without one.
    Moved(Duration),
    /// An operator has the client switch.
    SwitchedByHand(Transport),
    /// A program is killed or stopped, and started again.
    Restarted(Restart),
}

/// Which program, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    KilledServer,
    KilledClient,
    StoppedClient,
}

impl Mishap {
    /// Decides what goes wrong next, and for how long.
    pub(crate) fn roll(
        dice: &mut Dice,
        transport: Transport,
        may_restart: bool,
    ) -> (Self, Duration) {
        if may_restart && dice.below(6) == 0 {
            let restart = match dice.below(3) {
                0 => Restart::KilledServer,
                1 => Restart::KilledClient,
                _ => Restart::StoppedClient,
            };
            return (Self::Restarted(restart), Duration::ZERO);
        }
        if transport == Transport::Auto && dice.below(6) == 0 {
            let choices = [
                Transport::Tcp,
                Transport::Kcp,
                Transport::Quic,
                // Back to its own choice.
                Transport::Auto,
            ];
            let to = dice.pick(&choices).copied().unwrap_or(Transport::Auto);
            return (Self::SwitchedByHand(to), Duration::ZERO);
        }
        let direction = if dice.below(2) == 0 {
            Direction::ToFar
        } else {
            Direction::ToNear
        };
        let loss = dice.between(1.0, 30.0);
        let link = Profile::default;
        let mishap = match dice.below(15) {
            0 => Self::Broken("UDP dropped", Fault::drop_udp()),
            1 => Self::Broken("UDP rejected", Fault::reject_udp()),
            2 => Self::Broken("TCP dropped", Fault::drop_tcp()),
            3 | 4 => Self::Broken("everything dropped", Fault::drop_all()),
            5 => Self::Broken("one direction dropped", Fault::drop_all().only(direction)),
            6 => Self::Broken("half of UDP dropped", Fault::drop_udp().pct(50)),
            7 => Self::Broken("UDP policed to 3 Mbit/s", Fault::police_udp(3)),
            8 => Self::Moved(dice.seconds(0.0, 3.0)),
            9 | 10 => Self::Bad("loss", link().loss_pct(loss)),
            11 => Self::Bad("bursts of loss", link().gilbert_elliott(1, 10)),
            12 => Self::Bad("jitter", link().jitter_ms(15).loss_pct(1)),
            13 => Self::Bad(
                "copies, disorder and flipped bits",
                link().duplicate_pct(5).reorder_pct(5).corrupt_pct(1),
            ),
            _ => Self::Bad("2 Mbit/s", link().rate_mbit(2).queue_packets(30)),
        };
        let time = match mishap {
            Self::Moved(_) => Duration::ZERO,
            // Well within the grace time of a minute.
            Self::Broken(..) => dice.seconds(0.5, 35.0),
            _ => dice.seconds(3.0, 25.0),
        };
        (mishap, time)
    }
}

impl fmt::Display for Mishap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(what, _) | Self::Bad(what, _) => f.write_str(what),
            Self::Moved(gap) => write!(f, "another address after {:.1} s", gap.as_secs_f64()),
            Self::SwitchedByHand(to) => write!(f, "told to use {}", to.name()),
            Self::Restarted(Restart::KilledServer) => f.write_str("frps killed"),
            Self::Restarted(Restart::KilledClient) => f.write_str("frpc killed"),
            Self::Restarted(Restart::StoppedClient) => f.write_str("frpc stopped"),
        }
    }
}
