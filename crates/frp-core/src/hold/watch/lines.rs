//! The session stream, and the datagrams where the carrier has them.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use frp_proto::hold::frame::FrameError;
use frp_proto::hold::session_frame::SessionFrame;
use frp_proto::path::PathPayload;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use transports::{BoxStream, Carrier, Class, DatagramError};

/// Both ways to say something over a carrier.
#[derive(Debug)]
pub(super) struct Lines {
    carrier: Arc<dyn Carrier>,
    /// Gone when the stream has ended in either direction.
    halves: Option<(ReadHalf<BoxStream>, WriteHalf<BoxStream>)>,
    input: BytesMut,
    output: BytesMut,
    needs_flush: bool,
    /// The stream takes nothing any more; what it has brought is still to be read.
    is_mute: bool,
}

/// What the stream has brought.
#[derive(Debug)]
pub(super) enum Heard {
    /// A frame.
    Frame(SessionFrame),
    /// Everything is written, or cannot be any more.
    AllSaid,
    /// The stream is over: the peer has ended it, or it broke.
    End,
    /// The peer sent what is no frame.
    Nonsense(FrameError),
}

impl Lines {
    pub(super) fn new(carrier: Arc<dyn Carrier>, mut stream: BoxStream) -> Self {
        stream.set_class(Class::Control);
        Self {
            carrier,
            halves: Some(tokio::io::split(stream)),
            input: BytesMut::new(),
            output: BytesMut::new(),
            needs_flush: false,
            is_mute: false,
        }
    }

    /// Whether there is still a session stream.
    pub(super) fn is_open(&self) -> bool {
        self.halves.is_some()
    }

    /// Sends a message about a path: as a datagram if it can be, since these wait for nothing.
    /// On a stream that takes nothing it is dropped, as a datagram would be.
    pub(super) fn tell(&mut self, payload: &PathPayload) {
        let kind = payload.kind();
        let mut datagram = Vec::with_capacity(EXPECTED_LEN);
        datagram.push(kind);
        payload.encode(&mut datagram);
        let datagram = Bytes::from(datagram);
        match self.carrier.send_datagram(datagram.clone()) {
            // Over some carriers that is so only until the peer has shown that it takes them.
            Err(DatagramError::Unsupported | DatagramError::TooLong) => {}
            Ok(()) | Err(DatagramError::Carrier(_)) => return,
        }
        if self.output.len() < MAX_WAITING {
            let body = datagram.slice(1..);
            self.say(&SessionFrame::Probe { kind, body });
        }
    }

    /// Sends a frame over the stream.
    pub(super) fn say(&mut self, frame: &SessionFrame) {
        if self.halves.is_none() || self.is_mute {
            return;
        }
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.output.extend_from_slice(&bytes);
    }

    /// Reads and writes until there is something to tell. Cancel safe.
    pub(super) async fn run(&mut self) -> Heard {
        let Some((reader, writer)) = &mut self.halves else {
            return std::future::pending().await;
        };
        loop {
            match SessionFrame::decode(&mut self.input) {
                Ok(Some(frame)) => return Heard::Frame(frame),
                Ok(_) => {}
                Err(error) => return Heard::Nonsense(error),
            }
            let writing = write(writer, &mut self.output, &mut self.needs_flush);
            self.input.reserve(READ_LEN);
            tokio::select! {
                read = reader.read_buf(&mut self.input) => match read {
                    Ok(0) | Err(_) => return Heard::End,
                    Ok(_) => {}
                },
                wrote = writing => {
                    if wrote.is_err() {
                        // A peer that has left may have said goodbye before.
                        self.is_mute = true;
                        self.output.clear();
                        self.needs_flush = false;
                    }
                    if self.output.is_empty() && !self.needs_flush {
                        return Heard::AllSaid;
                    }
                }
            }
        }
    }

    /// Lets go of the stream.
    pub(super) fn close(&mut self) {
        self.halves = None;
        self.input = BytesMut::new();
        self.output = BytesMut::new();
    }
}

/// Writes a piece, or flushes what was written; pending without either. Cancel safe.
async fn write(
    writer: &mut WriteHalf<BoxStream>,
    output: &mut BytesMut,
    needs_flush: &mut bool,
) -> io::Result<()> {
    if !output.is_empty() {
        let n = writer.write_buf(output).await?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        *needs_flush = true;
        return Ok(());
    }
    if !*needs_flush {
        return std::future::pending().await;
    }
    writer.flush().await?;
    *needs_flush = false;
    Ok(())
}

/// Most reports are shorter.
const EXPECTED_LEN: usize = 80;

/// Room for each read: a dozen probes.
const READ_LEN: usize = 512;

/// While so much waits for the stream, no probes are added: they would tell of the past. A bound on
/// what a path that takes nothing costs.
const MAX_WAITING: usize = 2 * 1024;
