//! Small checked values: secrets, bandwidths, port sets, proxy URLs, certificate pins.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use url::Url;

/// Text that must not be shown: tokens, keys and passwords. Its `Debug` is `***`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes over `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the text is empty, which everywhere means "not set".
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whether there is one is no secret, and is what one looks for in a log.
        f.write_str(if self.0.is_empty() { "\"\"" } else { "***" })
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A bandwidth as frp writes it: `1.5MB` or `200KB`, 1024-based, upper case.
#[derive(Clone, Debug, PartialEq)]
pub struct Bandwidth {
    /// As it stood in the file, without surrounding blanks. It goes to the peer in this form.
    pub text: String,
    /// What it comes to. Never 0.
    pub bytes_per_second: u64,
}

impl Bandwidth {
    /// Reads `text`. Nothing at all, or a quantity of nothing, is no limit: `None`.
    pub fn parse(text: &str) -> Result<Option<Self>, BandwidthError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let (number, unit) = if let Some(number) = text.strip_suffix("MB") {
            (number, 1024.0 * 1024.0)
        } else if let Some(number) = text.strip_suffix("KB") {
            (number, 1024.0)
        } else {
            return Err(BandwidthError::Unit);
        };
        let amount: f64 = number
            .parse()
            .map_err(|_| BandwidthError::Number(number.to_owned()))?;
        if !amount.is_finite() {
            return Err(BandwidthError::Number(number.to_owned()));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the cast saturates, and a negative amount becomes 0, which is no limit"
        )]
        let bytes_per_second = (amount * unit) as u64;
        Ok((bytes_per_second > 0).then(|| Self {
            text: text.to_owned(),
            bytes_per_second,
        }))
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a bandwidth cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BandwidthError {
    /// Neither `KB` nor `MB` at the end. frp's text.
    #[error("unit not support")]
    Unit,
    /// What stands before the unit is not a number.
    #[error("strconv.ParseFloat: parsing {0:?}: invalid syntax")]
    Number(String),
}

/// A set of ports that proxies may use. Empty ranges allow nothing; no range at all allows all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortRanges {
    ranges: Vec<PortRange>,
}

/// One entry of `allowPorts`: a port, or all ports from `start` to `end`.
///
/// The bounds are as the file has them, so that they can be shown again; what lies outside of
/// 1 to 65535 allows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortRange {
    /// One port.
    Single(i64),
    /// A range, both ends included.
    Span {
        /// The first port.
        start: i64,
        /// The last port.
        end: i64,
    },
}

impl PortRange {
    /// The ports that it really allows.
    pub fn ports(self) -> RangeInclusive<u16> {
        let (start, end) = match self {
            Self::Single(port) => (port, port),
            Self::Span { start, end } => (start, end),
        };
        match (
            u16::try_from(start.max(1)),
            u16::try_from(end.min(i64::from(u16::MAX))),
        ) {
            (Ok(start), Ok(end)) => start..=end,
            _ => RangeInclusive::new(1, 0),
        }
    }
}

impl PortRanges {
    /// The set of all of `ranges`; with none, of every port.
    pub fn new(ranges: Vec<PortRange>) -> Self {
        Self { ranges }
    }

    /// Whether every port is allowed, because nothing was said.
    pub fn is_unrestricted(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether `port` may be used. Port 0 never.
    pub fn contains(&self, port: u16) -> bool {
        port != 0 && (self.ranges.is_empty() || self.spans().any(|span| span.contains(&port)))
    }

    /// The allowed ports as spans, in the order of the file. They may overlap or be empty.
    pub fn spans(&self) -> impl Iterator<Item = RangeInclusive<u16>> + '_ {
        let all = self.ranges.is_empty().then_some(1..=u16::MAX);
        all.into_iter()
            .chain(self.ranges.iter().map(|range| range.ports()))
    }

    /// The entries as the file has them.
    pub fn entries(&self) -> &[PortRange] {
        &self.ranges
    }
}

/// frp's text form, `1000-2000,3000`; empty when every port is allowed.
impl fmt::Display for PortRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, range) in self.ranges.iter().enumerate() {
            if idx > 0 {
                f.write_str(",")?;
            }
            match range {
                PortRange::Single(port) => write!(f, "{port}")?,
                PortRange::Span { start, end } => write!(f, "{start}-{end}")?,
            }
        }
        Ok(())
    }
}

/// Reads the text form of port ranges, `1000-2000,3000`, as frps's `--allow-ports` has it.
pub fn parse_port_ranges(text: &str) -> Result<PortRanges, RangeError> {
    let ranges = text.trim().split(',').map(|item| {
        Ok(match parse_range_item(item)? {
            (start, end) if start == end && !item.contains('-') => PortRange::Single(start),
            (start, end) => PortRange::Span { start, end },
        })
    });
    Ok(PortRanges::new(ranges.collect::<Result<_, _>>()?))
}

/// Reads `7` or `7-9` as the first and the last number. Shared with the template functions.
pub(super) fn parse_range_item(item: &str) -> Result<(i64, i64), RangeError> {
    let number = |text: &str| {
        let text = text.trim();
        text.parse::<i64>().map_err(|err| {
            RangeError::Number(match err.kind() {
                std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                    format!("strconv.ParseInt: parsing {text:?}: value out of range")
                }
                _ => format!("strconv.ParseInt: parsing {text:?}: invalid syntax"),
            })
        })
    };
    let mut parts = item.split('-');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(single), None, None) => number(single).map(|single| (single, single)),
        (Some(start), Some(end), None) => {
            let (start, end) = (number(start)?, number(end)?);
            if end < start {
                return Err(RangeError::Shape);
            }
            Ok((start, end))
        }
        _ => Err(RangeError::Shape),
    }
}

/// Why a number range cannot be read. The texts are frp's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Not `N` and not `N-M` with N at most M.
    #[error("range number is invalid")]
    Shape,
    /// A part is not a number.
    #[error("range number is invalid, {0}")]
    Number(String),
}

/// An outbound proxy (`transport.proxyURL`). It may hold a password: its `Debug` leaves that out.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(Url);

impl ProxyUrl {
    /// The URL, with user name and password in it.
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl From<Url> for ProxyUrl {
    fn from(url: Url) -> Self {
        Self(url)
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let credentials = if self.0.username().is_empty() && self.0.password().is_none() {
            ""
        } else {
            "***@"
        };
        write!(f, "{}://{credentials}", self.0.scheme())?;
        write!(f, "{}", self.0.host_str().unwrap_or_default())?;
        match self.0.port() {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// The SHA-256 of the public key (SubjectPublicKeyInfo) in the server's certificate, so that a
/// renewed certificate of the same key keeps it (`transport.tls.pin`): 64 hexadecimal digits, with or
/// without colons and a leading `sha256:`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CertificatePin(pub [u8; 32]);

impl FromStr for CertificatePin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let text = text.trim();
        let digits = match text.get(..7) {
            Some(prefix) if prefix.eq_ignore_ascii_case("sha256:") => &text[7..],
            _ => text,
        };
        let mut nibbles = digits
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()));
        let mut pin = [0; 32];
        for byte in &mut pin {
            let (Some(Some(high)), Some(Some(low))) = (nibbles.next(), nibbles.next()) else {
                return Err(PinError);
            };
            *byte = high << 4 | low;
        }
        match nibbles.next() {
            None => Ok(Self(pin)),
            Some(_) => Err(PinError),
        }
    }
}

impl fmt::Display for CertificatePin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CertificatePin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pin is the SHA-256 of the server's public key in 64 hexadecimal digits, as `frps fingerprint` prints it"
)]
pub struct PinError;
