//! Checks of what both programs have.

use std::path::PathBuf;
use std::time::Duration;

use super::super::raw::{RawLog, RawWebServer};
use super::super::unsupported;
use super::super::{LogConfig, LogFormat, LogLevel, LogTarget, Secret, WebServerConfig};
use super::Context;

/// The longest time-out, ten years: far beyond any use, and no clock overflows by it.
const MAX_SECONDS: i64 = 10 * 365 * 24 * 3600;

/// The largest payload of a UDP packet.
const MAX_UDP_PACKET_SIZE: i64 = 65_535;

/// What an empty value means.
pub(super) fn or_default(text: &str, default: &str) -> String {
    if text.is_empty() { default } else { text }.to_owned()
}

/// What 0 means.
pub(super) fn or(number: i64, default: i64) -> i64 {
    if number == 0 { default } else { number }
}

/// A path, unless it is empty.
pub(super) fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// Seconds, where frp takes negative ones for "never".
pub(super) fn seconds_or_off(seconds: i64) -> Option<Duration> {
    let seconds = u64::try_from(seconds.min(MAX_SECONDS)).ok();
    seconds
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
}

/// A count; a negative one is none.
pub(super) fn count(number: i64) -> u32 {
    u32::try_from(number.clamp(0, i64::from(u32::MAX))).unwrap_or(u32::MAX)
}

impl Context<'_> {
    /// Seconds that must be more than none.
    pub(super) fn seconds(&mut self, key: &str, seconds: i64) -> Duration {
        seconds_or_off(seconds).unwrap_or_else(|| {
            self.error(
                key,
                format!("{key}: {seconds} seconds is not a time; it must be positive"),
            );
            Duration::from_secs(1)
        })
    }

    /// A port, or 0.
    pub(super) fn port(&mut self, key: &str, frp_key: &str, port: isize) -> u16 {
        u16::try_from(port).unwrap_or_else(|_| {
            self.error(key, port_error(frp_key, port));
            0
        })
    }

    pub(super) fn udp_packet_size(&mut self, size: i64) -> usize {
        let size = or(size, 1500);
        match usize::try_from(size) {
            Ok(checked) if size <= MAX_UDP_PACKET_SIZE => checked,
            _ => {
                let message =
                    format!("udpPacketSize: {size} must be in the range 1..{MAX_UDP_PACKET_SIZE}");
                self.error("udpPacketSize", message);
                1500
            }
        }
    }

    pub(super) fn log(&mut self, raw: &RawLog) -> LogConfig {
        let level = or_default(&raw.level, "info");
        let level: LogLevel = level.parse().unwrap_or_else(|err| {
            self.error("log.level", format!("{err}"));
            LogLevel::Info
        });
        let format = match raw.format.as_str() {
            "" | "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => {
                self.error(
                    "log.format",
                    "invalid log format, optional values are [text json]",
                );
                LogFormat::Text
            }
        };
        LogConfig {
            to: match raw.to.as_str() {
                "" | "console" => LogTarget::Console,
                file => LogTarget::File(PathBuf::from(file)),
            },
            level,
            max_days: or(raw.max_days, 3),
            disable_print_color: raw.disable_print_color,
            format,
        }
    }

    pub(super) fn web_server(&mut self, raw: &RawWebServer) -> WebServerConfig {
        // frp stops at the first of these.
        let mut port = 0;
        match &raw.tls {
            Some(tls) if tls.cert_file.is_empty() => {
                let message = "tls.certFile must be specified when tls is enabled";
                self.error("webServer.tls.certFile", message);
            }
            Some(tls) if tls.key_file.is_empty() => {
                let message = "tls.keyFile must be specified when tls is enabled";
                self.error("webServer.tls.keyFile", message);
            }
            _ => port = self.port("webServer.port", "webServer.port", raw.port),
        }
        self.refuse(unsupported::WEB_SERVER, raw);
        WebServerConfig {
            addr: or_default(&raw.addr, "127.0.0.1"),
            port,
            user: raw.user.clone(),
            password: Secret::new(raw.password.as_str()),
            pprof_enable: raw.pprof_enable,
        }
    }
}

/// frp's text for a port that is none.
pub(super) fn port_error(frp_key: &str, port: isize) -> String {
    format!("{frp_key}: port number {port} must be in the range 0..65535")
}
