//! The probe as a payload.
//!
//! | field | form | present |
//! |---|---|---|
//! | flags | byte | always |
//! | number | varint | always |
//! | sent at | 4 bytes | always |
//! | next in | varint, ms | always |
//! | heard: last number, time held | varint, varint µs | flag `HEARD` |
//! | gaps: bitmap | 8 bytes | flag `GAPS`, which needs `HEARD` |
//! | queues: interactive, bulk, delay | varint, varint, varint ms | flag `QUEUES` |

use std::time::Duration;

use super::wire::{PathDecodeError, Reader, put_micros, put_varint};

/// A small numbered message by which one end of a carrier shows that it lives, and tells what it
/// has heard of the other. Either end sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Counts the probes of this end on this carrier, from 1.
    pub number: u32,
    /// The sender's clock in microseconds, from an origin of its own and modulo 2^32. Differences
    /// tell the receiver how the delay of this direction varies.
    pub sent_at: u32,
    /// Whether the receiver answers.
    pub ask: Ask,
    /// When the sender asks again at the latest. Zero when it asks only on occasion.
    pub next_in: Duration,
    /// What the sender has received; nothing in the first probes of a carrier.
    pub heard: Option<Heard>,
    /// What waits at the sender. Left out when nothing does.
    pub queues: Queues,
}

/// Whether a probe is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ask {
    /// An answer, or news for the other end.
    #[default]
    No,
    /// A heartbeat.
    Once,
    /// A heartbeat of a burst: two answers, so that the loss of one does not look like silence.
    Twice,
}

/// Which of the peer's probes have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The highest number.
    pub last: u32,
    /// How long ago it came. The peer takes it off its round-trip time.
    pub held: Duration,
    /// Bit `i` is set when number `last - 1 - i` has *not* come. Clean paths need no bitmap so.
    pub missing: u64,
}

impl Heard {
    /// Whether `number` has arrived, or `None` where the bitmap does not reach.
    #[must_use]
    pub fn has(&self, number: u32) -> Option<bool> {
        match self.last.checked_sub(number)? {
            0 => Some(true),
            back @ 1..=64 => Some(self.missing & (1 << (back - 1)) == 0),
            _ => None,
        }
    }
}

/// What waits at one end to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// Bytes of streams with little in flight.
    pub interactive: u64,
    /// Bytes of all other streams.
    pub bulk: u64,
    /// How long the next byte of bulk will wait, as far as the sender can tell.
    pub delay: Duration,
}

impl Queues {
    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Probe {
    /// The longest encoded probe.
    pub const MAX_LEN: usize = 1 + 8 + 4 + 8 + 8 + 8 + 8 + 8 + 8 + 8;

    /// Appends the payload to `out`. Times beyond the bounds are cut to them.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let gaps = self.heard.is_some_and(|heard| heard.missing != 0);
        let mut flags = match self.ask {
            Ask::No => 0,
            Ask::Once => ASK,
            Ask::Twice => ASK | TWICE,
        };
        for (is_set, flag) in [
            (self.heard.is_some(), HEARD),
            (gaps, GAPS),
            (!self.queues.is_empty(), QUEUES),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        out.push(flags);
        put_varint(out, self.number.into());
        out.extend_from_slice(&self.sent_at.to_be_bytes());
        put_varint(out, millis(self.next_in.min(MAX_NEXT_IN)));
        if let Some(heard) = self.heard {
            put_varint(out, heard.last.into());
            put_micros(out, heard.held, MAX_HELD);
            if gaps {
                out.extend_from_slice(&heard.missing.to_be_bytes());
            }
        }
        if !self.queues.is_empty() {
            put_varint(out, self.queues.interactive);
            put_varint(out, self.queues.bulk);
            put_varint(out, millis(self.queues.delay.min(MAX_QUEUE_DELAY)));
        }
    }

    /// Reads a payload, which must be one probe and nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, PathDecodeError> {
        let mut reader = Reader::new(bytes);
        let flags = reader.byte()?;
        if flags & !(ASK | TWICE | HEARD | GAPS | QUEUES) != 0 {
            return Err(PathDecodeError::UnknownFlags(flags));
        }
        let ask = match (flags & ASK != 0, flags & TWICE != 0) {
            (false, false) => Ask::No,
            (true, false) => Ask::Once,
            (true, true) => Ask::Twice,
            (false, true) => return Err(PathDecodeError::UnknownFlags(flags)),
        };
        let number = read_number(&mut reader, "probe number")?;
        let sent_at = u32::from_be_bytes(reader.array()?);
        let next_in = read_millis(&mut reader, MAX_NEXT_IN, "time to the next probe")?;
        let heard = match (flags & HEARD != 0, flags & GAPS != 0) {
            (false, false) => None,
            (false, true) => return Err(PathDecodeError::UnknownFlags(flags)),
            (true, has_gaps) => Some(Heard {
                last: read_number(&mut reader, "echoed number")?,
                held: reader.micros(MAX_HELD, "time held")?,
                missing: match has_gaps {
                    true => u64::from_be_bytes(reader.array()?),
                    false => 0,
                },
            }),
        };
        let mut queues = Queues::default();
        if flags & QUEUES != 0 {
            queues = Queues {
                interactive: reader.varint()?,
                bulk: reader.varint()?,
                delay: read_millis(&mut reader, MAX_QUEUE_DELAY, "queueing delay")?,
            };
        }
        reader.finish()?;
        Ok(Self {
            number,
            sent_at,
            ask,
            next_in,
            heard,
            queues,
        })
    }
}

const ASK: u8 = 0x01;
const TWICE: u8 = 0x02;
const HEARD: u8 = 0x04;
const GAPS: u8 = 0x08;
const QUEUES: u8 = 0x10;

/// No prober waits longer, and a peer that says so would never be missed.
const MAX_NEXT_IN: Duration = Duration::from_secs(3600);
/// Beyond it nothing of a round-trip time can be told from an echo.
const MAX_HELD: Duration = Duration::from_secs(3600);
/// A queue of an hour is no measurement.
const MAX_QUEUE_DELAY: Duration = Duration::from_secs(3600);

/// Numbers start at 1, so that no number means nothing.
fn read_number(reader: &mut Reader<'_>, name: &'static str) -> Result<u32, PathDecodeError> {
    let number = reader.varint()?;
    match u32::try_from(number) {
        Ok(0) | Err(_) => Err(PathDecodeError::OutOfRange(name)),
        Ok(number) => Ok(number),
    }
}

fn read_millis(
    reader: &mut Reader<'_>,
    max: Duration,
    name: &'static str,
) -> Result<Duration, PathDecodeError> {
    reader.bounded(millis(max), name).map(Duration::from_millis)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(probe: &Probe) -> Vec<u8> {
        let mut out = Vec::new();
        probe.encode(&mut out);
        out
    }

    fn full() -> Probe {
        Probe {
            number: u32::MAX,
            sent_at: 0x0102_0304,
            ask: Ask::Twice,
            next_in: MAX_NEXT_IN,
            heard: Some(Heard {
                last: u32::MAX,
                held: MAX_HELD,
                missing: u64::MAX,
            }),
            queues: Queues {
                interactive: super::super::wire::MAX_VARINT,
                bulk: 1,
                delay: MAX_QUEUE_DELAY,
            },
        }
    }

    #[test]
    fn a_probe_survives_the_wire() {
        let plain = Probe {
            number: 1,
            sent_at: 7,
            ask: Ask::Once,
            next_in: Duration::from_millis(250),
            heard: None,
            queues: Queues::default(),
        };
        for probe in [plain, full()] {
            let bytes = encoded(&probe);
            assert!(bytes.len() <= Probe::MAX_LEN);
            assert_eq!(Probe::decode(&bytes), Ok(probe));
        }
        assert_eq!(encoded(&plain), [1, 1, 0, 0, 0, 7, 0x40, 250]);
    }

    #[test]
    fn a_probe_that_is_cut_anywhere_is_refused() {
        let bytes = encoded(&full());
        for len in 0..bytes.len() {
            assert_eq!(
                Probe::decode(&bytes[..len]),
                Err(PathDecodeError::Incomplete)
            );
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(
            Probe::decode(&longer),
            Err(PathDecodeError::TrailingData(1))
        );
    }

    #[test]
    fn numbers_that_no_prober_sends_are_refused() {
        let zero = [ASK, 0, 0, 0, 0, 0, 0];
        assert_eq!(
            Probe::decode(&zero),
            Err(PathDecodeError::OutOfRange("probe number"))
        );
        for flags in [0x20, TWICE, GAPS] {
            assert_eq!(
                Probe::decode(&[flags, 1, 0, 0, 0, 0, 0]),
                Err(PathDecodeError::UnknownFlags(flags))
            );
        }
    }

    #[test]
    fn the_bitmap_reaches_64_probes_back() {
        let heard = Heard {
            last: 100,
            held: Duration::ZERO,
            missing: 0b10,
        };
        let known = |number| heard.has(number);
        assert_eq!(known(101), None, "not yet");
        assert_eq!(
            (known(100), known(99), known(98)),
            (Some(true), Some(true), Some(false))
        );
        assert_eq!((known(36), known(35)), (Some(true), None));
    }
}
