//! What is told about a path, by the kinds of its frames and datagrams.

use std::ops::RangeInclusive;

use super::probe::Probe;
use super::report::PathReport;
use super::wire::PathDecodeError;

/// One message between the two ends of a carrier about its path, or about another carrier's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathPayload {
    /// A probe.
    Probe(Probe),
    /// What the sender knows of one of the session's carriers.
    Report(PathReport),
}

impl PathPayload {
    /// The bytes from which the kinds of these messages are taken.
    pub const KINDS: RangeInclusive<u8> = 0xa0..=0xaf;

    /// The byte that says what the payload is.
    #[must_use]
    pub fn kind(&self) -> u8 {
        match self {
            Self::Probe(_) => PROBE,
            Self::Report(_) => REPORT,
        }
    }

    /// Appends the payload, without its kind.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Probe(probe) => probe.encode(out),
            Self::Report(report) => report.encode(out),
        }
    }

    /// Reads a payload. `None` for kinds that this version does not know, which are passed over.
    pub fn decode(kind: u8, payload: &[u8]) -> Result<Option<Self>, PathDecodeError> {
        match kind {
            PROBE => Probe::decode(payload).map(Self::Probe).map(Some),
            REPORT => PathReport::decode(payload).map(Self::Report).map(Some),
            _ => Ok(None),
        }
    }
}

const PROBE: u8 = 0xa0;
const REPORT: u8 = 0xa1;
