//! Checks of the connections between the two programs.

use transports::tcp::DEFAULT_NOTSENT_LOWAT;

use super::super::raw::{RawQuic, RawTcp};
use super::super::{MaxRate, QuicBackend, QuicConfig, QuicCongestion, TcpConfig, TcpCongestion};
use super::Context;
use super::common::{or, seconds_or_off};

impl Context<'_> {
    pub(super) fn quic(&mut self, raw: &RawQuic) -> QuicConfig {
        let number = |raw: isize, default| or(i64::try_from(raw).unwrap_or(i64::MAX), default);
        let max_streams = number(raw.max_incoming_streams, 100_000);
        QuicConfig {
            keepalive_period: seconds_or_off(number(raw.keepalive_period, 10)),
            max_idle_timeout: self.seconds(
                "transport.quic.maxIdleTimeout",
                number(raw.max_idle_timeout, 30),
            ),
            max_incoming_streams: u64::try_from(max_streams).unwrap_or_else(|_| {
                let key = "transport.quic.maxIncomingStreams";
                self.error(key, format!("{key}: {max_streams} must be positive"));
                1
            }),
            congestion: self.quic_congestion(raw),
            backend: self.quic_backend(&raw.backend),
        }
    }

    fn quic_congestion(&mut self, raw: &RawQuic) -> QuicCongestion {
        let key = "transport.quic.congestion";
        let is_s2n = raw.backend == "s2n";
        match raw.congestion.as_str() {
            "" if is_s2n => QuicCongestion::Bbr,
            "" => QuicCongestion::default(),
            "lossy" if is_s2n => {
                let message = "\"lossy\" needs transport.quic.backend \"quinn\"; s2n-quic has \
                               \"cubic\" and \"bbr\"";
                self.error(key, message);
                QuicCongestion::Bbr
            }
            "lossy" => QuicCongestion::Lossy,
            "cubic" => QuicCongestion::Cubic,
            "bbr" => QuicCongestion::Bbr,
            _ => {
                let values = "[lossy cubic bbr]";
                self.error(key, format!("invalid {key}, optional values are {values}"));
                QuicCongestion::default()
            }
        }
    }

    fn quic_backend(&mut self, name: &str) -> QuicBackend {
        let key = "transport.quic.backend";
        match name {
            "" | "quinn" => QuicBackend::Quinn,
            "s2n" => QuicBackend::S2N.unwrap_or_else(|| {
                let message = "this program was built without s2n-quic: build it with \
                               `--features s2n`, or leave the key out";
                self.error(key, message);
                QuicBackend::Quinn
            }),
            _ => {
                let values = "[quinn s2n]";
                self.error(key, format!("invalid {key}, optional values are {values}"));
                QuicBackend::Quinn
            }
        }
    }

    pub(super) fn tcp(&mut self, raw: &RawTcp) -> TcpConfig {
        let congestion = match raw.congestion.as_str() {
            "" => TcpCongestion::default(),
            "auto" => TcpCongestion::Auto,
            "bbr" => TcpCongestion::Bbr,
            "system" => TcpCongestion::System,
            name if is_congestion_name(name) => TcpCongestion::Named(name.to_owned()),
            _ => {
                let key = "transport.tcp.congestion";
                let message = format!(
                    "{key}: not the name of a congestion control, which is up to \
                     {MAX_CONGESTION_NAME_LEN} letters, digits, '-' and '_', such as \"cubic\""
                );
                self.error(key, message);
                TcpCongestion::default()
            }
        };
        TcpConfig {
            congestion,
            // More than Linux takes is no bound any more.
            notsent_lowat: u32::try_from(or(raw.notsent_lowat, DEFAULT_NOTSENT_LOWAT.into())).ok(),
        }
    }

    pub(super) fn max_rate(&mut self, text: &str) -> Option<MaxRate> {
        MaxRate::parse(text).unwrap_or_else(|err| {
            let key = "transport.maxRate";
            self.error(key, format!("{key}: {text:?}: {err}"));
            None
        })
    }
}

/// The longest name of a congestion control that Linux takes (`TCP_CA_NAME_MAX` with its end).
const MAX_CONGESTION_NAME_LEN: usize = 15;

fn is_congestion_name(name: &str) -> bool {
    let is_fit = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    name.len() <= MAX_CONGESTION_NAME_LEN && name.bytes().all(is_fit)
}
