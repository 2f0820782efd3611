//! Takes frames apart, wherever they are cut.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::ReadBuf;

use super::frame::{FrameError, Header, Mask, Opcode, Side};

/// Reads the frames of one sender. Data frames of every kind are one byte stream, as in frp: their
/// payload goes out as it comes, however long the frame, and nothing is held for it.
#[derive(Debug)]
pub(super) struct Decoder {
    sender: Side,
    /// What is left of the current data frame.
    payload: Payload,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Payload {
    n_left: u64,
    mask: Option<Mask>,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Data, to be had by [`Decoder::take`].
    Data,
    /// A ping, with what its pong has to carry: at most 125 bytes.
    Ping(Bytes),
    /// The sender has ended the stream. Whatever follows is not for us.
    Close,
    /// Nothing, before there is more input.
    Nothing,
}

impl Decoder {
    pub(super) fn new(sender: Side) -> Self {
        Self {
            sender,
            payload: Payload::default(),
            is_closed: false,
        }
    }

    /// Goes on to the next thing to be done. What stays in `input` is less than a control frame
    /// and its header, or data.
    pub(super) fn poll(&mut self, input: &mut BytesMut) -> Result<Event, FrameError> {
        loop {
            if self.is_closed {
                input.clear();
                return Ok(Event::Close);
            }
            if self.payload.n_left > 0 {
                return Ok(if input.is_empty() {
                    Event::Nothing
                } else {
                    Event::Data
                });
            }
            let Some((header, header_len)) = Header::decode(input, self.sender)? else {
                return Ok(Event::Nothing);
            };
            if !header.opcode.is_control() {
                input.advance(header_len);
                self.payload = Payload {
                    n_left: header.payload_len,
                    mask: header.mask,
                };
                continue;
            }
            let payload_len = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
            if input.len() - header_len < payload_len {
                return Ok(Event::Nothing);
            }
            input.advance(header_len);
            let mut payload = input.split_to(payload_len);
            match header.opcode {
                Opcode::Close => self.is_closed = true,
                Opcode::Ping => {
                    if let Some(mut mask) = header.mask {
                        mask.apply(&mut payload);
                    }
                    // Copied, so as not to hold on to the receive buffer.
                    return Ok(Event::Ping(Bytes::copy_from_slice(&payload)));
                }
                // Nobody asked for it (section 5.5.3).
                _ => {}
            }
        }
    }

    /// After [`Event::Data`]: moves as much of it to `out` as there is and as fits.
    pub(super) fn take(&mut self, input: &mut BytesMut, out: &mut ReadBuf<'_>) {
        let n_fits = input.len().min(out.remaining());
        let n = usize::try_from(self.payload.n_left).map_or(n_fits, |n_left| n_left.min(n_fits));
        let start = out.filled().len();
        out.put_slice(&input[..n]);
        input.advance(n);
        self.payload.n_left -= n as u64;
        if let Some(mask) = &mut self.payload.mask {
            mask.apply(&mut out.filled_mut()[start..]);
        }
    }

    /// Whether the sender has ended the stream.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether all frames so far are complete.
    pub(super) fn is_between_frames(&self, input: &BytesMut) -> bool {
        self.payload.n_left == 0 && input.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::frame::MAX_CONTROL_LEN;
    use super::*;

    #[test]
    fn data_frames_of_every_kind_are_one_byte_stream() {
        // A continuation that continues nothing is data for frp as well.
        let frames = b"\x80\x01a\x01\x02bc\x00\x01d\x80\x00\x82\x00\x82\x03efg";
        assert_eq!(data(frames), b"abcdefg");
    }

    #[test]
    fn control_frames_may_stand_between_the_fragments_of_a_message() {
        assert_eq!(data(b"\x02\x01a\x89\x00\x8a\x03xyz\x80\x01b"), b"ab");
    }

    #[test]
    fn a_frame_of_any_length_goes_through_without_being_held() {
        let mut decoder = Decoder::new(Side::Server);
        let mut input = BytesMut::from(&b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"[..]);
        assert_eq!(decoder.poll(&mut input), Ok(Event::Nothing));
        for _ in 0..100 {
            input.extend_from_slice(&[7; 1000]);
            assert_eq!(decoder.poll(&mut input), Ok(Event::Data));
            let mut out = [0; 1000];
            let mut out = ReadBuf::new(&mut out);
            decoder.take(&mut input, &mut out);
            assert_eq!(out.filled(), [7; 1000]);
            assert!(decoder.is_between_frames(&input) || input.is_empty());
        }
    }

    #[test]
    fn a_ping_is_unmasked_and_nothing_is_read_after_a_close() {
        let mut decoder = Decoder::new(Side::Client);
        let mut input = BytesMut::new();
        input.extend_from_slice(&[0x89, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2]);
        input.extend_from_slice(&[0x88, 0x82, 0, 0, 0, 0, 3, 0xe8, 0xff, 0xff, 0xff]);
        let ping = Event::Ping(Bytes::from_static(b"hi"));
        assert_eq!(decoder.poll(&mut input), Ok(ping));
        assert_eq!(decoder.poll(&mut input), Ok(Event::Close));
        assert!(input.is_empty());
        input.extend_from_slice(b"\xff\xff");
        assert_eq!(decoder.poll(&mut input), Ok(Event::Close));
    }

    #[test]
    fn a_control_frame_is_waited_for_and_is_never_long() {
        let mut decoder = Decoder::new(Side::Server);
        let mut input = BytesMut::from(&b"\x89\x7d"[..]);
        for _ in 0..MAX_CONTROL_LEN - 1 {
            input.extend_from_slice(b"p");
            assert_eq!(decoder.poll(&mut input), Ok(Event::Nothing));
        }
        input.extend_from_slice(b"p");
        let payload = vec![b'p'; MAX_CONTROL_LEN];
        assert_eq!(decoder.poll(&mut input), Ok(Event::Ping(payload.into())));
    }

    /// The data in a server's frames, which is the same wherever they are cut.
    fn data(frames: &[u8]) -> Vec<u8> {
        let cuts = [frames.len(), 1, 2, 3];
        let mut all = cuts.map(|cut| {
            let mut decoder = Decoder::new(Side::Server);
            let mut input = BytesMut::new();
            let mut data = Vec::new();
            for piece in frames.chunks(cut) {
                input.extend_from_slice(piece);
                loop {
                    match decoder.poll(&mut input).unwrap() {
                        Event::Data => {
                            let mut out = [0; 2];
                            let mut out = ReadBuf::new(&mut out);
                            decoder.take(&mut input, &mut out);
                            data.extend_from_slice(out.filled());
                        }
                        Event::Nothing => break,
                        _ => {}
                    }
                }
            }
            assert!(decoder.is_between_frames(&input));
            data
        });
        assert!(all.iter().all(|data| *data == all[0]));
        std::mem::take(&mut all[0])
    }
}
