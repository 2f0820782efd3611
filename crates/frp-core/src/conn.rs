//! frp's messages over a stream of a carrier.
//!
//! A [`MessageStream`] carries the opening exchange of a conn and never reads past the message it
//! returns: on a work or visitor conn the user's bytes may follow at once, and
//! [`MessageStream::into_stream`] hands them on untouched. Where nothing but messages follows (the
//! control conn after login, UDP payload) it is split into a [`MessageReader`] and a
//! [`MessageWriter`], which buffer.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use transports::{BoxStream, Class};

use frp_proto::v2::FrameType;
use frp_proto::{DecodeError, EncodeError, Message, WireVersion, v1, v2};

/// A conn on which single messages are exchanged.
#[derive(Debug)]
pub struct MessageStream {
    stream: BoxStream,
    wire: WireVersion,
    /// The v2 magic is still to be written, ahead of the first message.
    magic_due: bool,
    /// The type byte of the first v1 message, read while the version was detected.
    first_byte: Option<u8>,
}

/// What a conn carries before its payload.
#[derive(Debug)]
pub enum Frame {
    /// A message, in either version.
    Message(Message),
    /// The client's offer, v2 only: the JSON as it was sent.
    ClientHello(Bytes),
    /// The server's choice, v2 only: the JSON as it was sent.
    ServerHello(Bytes),
}

/// Why a message could not be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum ConnError {
    /// The peer closed the conn between two messages.
    #[error("closed by the peer")]
    Closed,
    /// The conn broke.
    #[error("conn broke: {0}")]
    Io(#[from] io::Error),
    /// The peer sent what is no message.
    #[error("{0}")]
    Decode(#[from] DecodeError),
    /// The message does not fit in a frame.
    #[error("cannot send: {0}")]
    Encode(#[from] EncodeError),
    /// Nothing came in time.
    #[error("no message within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// A message came, but not one that is allowed here.
    #[error("{0} where {1} was expected")]
    Unexpected(&'static str, &'static str),
    /// The first bytes belong to no version of the protocol.
    #[error("the first bytes are not frp's")]
    UnknownStart,
}

impl MessageStream {
    /// Begins a conn on the client's side. In v2 its first write starts with the magic.
    pub fn open(stream: BoxStream, wire: WireVersion) -> Self {
        Self {
            stream,
            wire,
            magic_due: wire == WireVersion::V2,
            first_byte: None,
        }
    }

    /// Begins a conn on the server's side: reads as much as tells the version.
    pub async fn accept(mut stream: BoxStream) -> Result<Self, ConnError> {
        let mut first = [0; 1];
        if stream.read(&mut first).await? == 0 {
            return Err(ConnError::Closed);
        }
        let [first] = first;
        // No v1 message has the type byte with which the magic starts.
        if first != v2::MAGIC[0] {
            return Ok(Self {
                stream,
                wire: WireVersion::V1,
                magic_due: false,
                first_byte: Some(first),
            });
        }
        let mut rest = [0; v2::MAGIC.len() - 1];
        stream.read_exact(&mut rest).await?;
        if rest != v2::MAGIC[1..] {
            return Err(ConnError::UnknownStart);
        }
        Ok(Self {
            stream,
            wire: WireVersion::V2,
            magic_due: false,
            first_byte: None,
        })
    }

    /// Goes on with messages on a conn that is open already: UDP payload on a work conn.
    pub fn resume(stream: BoxStream, wire: WireVersion) -> Self {
        Self {
            stream,
            wire,
            magic_due: false,
            first_byte: None,
        }
    }

    /// The version spoken on this conn.
    pub fn wire(&self) -> WireVersion {
        self.wire
    }

    /// Reads one frame, and not a byte further. Not cancel safe.
    pub async fn read_frame(&mut self) -> Result<Frame, ConnError> {
        match self.wire {
            WireVersion::V1 => {
                let mut head = [0; v1::Header::LEN];
                self.read_head(&mut head).await?;
                let header = v1::Header::decode(head)?;
                let payload = self.read_payload(header.payload_len).await?;
                Ok(Frame::Message(v1::decode_payload(
                    header.message_type,
                    &payload,
                )?))
            }
            WireVersion::V2 => {
                let mut head = [0; v2::FrameHeader::LEN];
                self.read_head(&mut head).await?;
                let header = v2::FrameHeader::decode(head)?;
                let payload = self.read_payload(header.payload_len).await?;
                if header.frame_type == FrameType::ClientHello.number() {
                    return Ok(Frame::ClientHello(payload));
                }
                if header.frame_type == FrameType::ServerHello.number() {
                    return Ok(Frame::ServerHello(payload));
                }
                header.expect(FrameType::Message)?;
                Ok(Frame::Message(v2::decode_message_payload(&payload)?))
            }
        }
    }

    /// Reads one message; a hello in its place is an error. Not cancel safe.
    pub async fn read(&mut self) -> Result<Message, ConnError> {
        match self.read_frame().await? {
            Frame::Message(message) => Ok(message),
            Frame::ClientHello(_) => Err(ConnError::Unexpected("ClientHello", "a message")),
            Frame::ServerHello(_) => Err(ConnError::Unexpected("ServerHello", "a message")),
        }
    }

    /// Reads one message that must come within `limit`.
    pub async fn read_within(&mut self, limit: Duration) -> Result<Message, ConnError> {
        tokio::time::timeout(limit, self.read())
            .await
            .map_err(|_| ConnError::Timeout(limit))?
    }

    /// Writes one message and flushes it.
    pub async fn write(&mut self, message: &Message) -> Result<(), ConnError> {
        let mut out = self.start_write();
        self.wire.encode(message, &mut out)?;
        self.finish_write(&out).await
    }

    /// Writes a hello frame (v2) with `payload`, without flushing: a message follows.
    pub async fn write_hello(&mut self, kind: FrameType, payload: &[u8]) -> Result<(), ConnError> {
        let mut out = self.start_write();
        v2::encode_frame(kind, payload, &mut out)?;
        self.stream.write_all(&out).await?;
        self.magic_due = false;
        Ok(())
    }

    /// Writes one message that must go out within `limit`.
    pub async fn write_within(
        &mut self,
        message: &Message,
        limit: Duration,
    ) -> Result<(), ConnError> {
        tokio::time::timeout(limit, self.write(message))
            .await
            .map_err(|_| ConnError::Timeout(limit))?
    }

    /// Tells the carrier what the conn is for.
    pub fn set_class(&mut self, class: Class) {
        self.stream.set_class(class);
    }

    /// Puts `layer` around the rest of the conn, in the same version.
    pub fn map(self, layer: impl FnOnce(BoxStream) -> BoxStream) -> Self {
        Self {
            stream: layer(self.stream),
            ..self
        }
    }

    /// The stream behind the last message.
    pub fn into_stream(self) -> BoxStream {
        self.stream
    }

    /// Splits a conn on which only messages follow.
    pub fn split(self) -> (MessageReader, MessageWriter) {
        let (read_half, write_half) = tokio::io::split(self.stream);
        let reader = MessageReader {
            half: read_half,
            wire: self.wire,
            buf: BytesMut::new(),
        };
        let writer = MessageWriter {
            half: write_half,
            wire: self.wire,
            buf: BytesMut::new(),
        };
        (reader, writer)
    }

    async fn read_head(&mut self, head: &mut [u8]) -> Result<(), ConnError> {
        let mut filled = 0;
        if let Some(byte) = self.first_byte.take() {
            head[0] = byte;
            filled = 1;
        } else if self.stream.read(&mut head[..1]).await? == 1 {
            filled = 1;
        }
        if filled == 0 {
            return Err(ConnError::Closed);
        }
        self.stream.read_exact(&mut head[filled..]).await?;
        Ok(())
    }

    /// `len` has been checked against the version's bound.
    async fn read_payload(&mut self, len: usize) -> Result<Bytes, ConnError> {
        let mut payload = vec![0; len];
        self.stream.read_exact(&mut payload).await?;
        Ok(payload.into())
    }

    fn start_write(&self) -> BytesMut {
        let mut out = BytesMut::new();
        if self.magic_due {
            out.extend_from_slice(&v2::MAGIC);
        }
        out
    }

    async fn finish_write(&mut self, out: &[u8]) -> Result<(), ConnError> {
        self.stream.write_all(out).await?;
        self.stream.flush().await?;
        self.magic_due = false;
        Ok(())
    }
}

/// The receiving half of a conn on which only messages follow.
#[derive(Debug)]
pub struct MessageReader {
    half: ReadHalf<BoxStream>,
    wire: WireVersion,
    /// Less than one message plus one read.
    buf: BytesMut,
}

impl MessageReader {
    /// Reads the next message. Cancel safe.
    pub async fn read(&mut self) -> Result<Message, ConnError> {
        loop {
            if let Some(message) = self.wire.decode(&mut self.buf)? {
                return Ok(message);
            }
            self.buf.reserve(READ_LEN);
            if self.half.read_buf(&mut self.buf).await? == 0 {
                return if self.buf.is_empty() {
                    Err(ConnError::Closed)
                } else {
                    Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
                };
            }
        }
    }
}

/// Room made for each read of messages. Small: a control conn is idle most of the time.
const READ_LEN: usize = 2 * 1024;

/// The sending half of a conn on which only messages follow.
#[derive(Debug)]
pub struct MessageWriter {
    half: WriteHalf<BoxStream>,
    wire: WireVersion,
    buf: BytesMut,
}

impl MessageWriter {
    /// Adds a message to what the next [`MessageWriter::flush`] sends. On an error nothing of it
    /// is added.
    pub fn push(&mut self, message: &Message) -> Result<(), ConnError> {
        let len = self.buf.len();
        if let Err(e) = self.wire.encode(message, &mut self.buf) {
            self.buf.truncate(len);
            return Err(e.into());
        }
        Ok(())
    }

    /// Bytes waiting for [`MessageWriter::flush`].
    pub fn n_pending(&self) -> usize {
        self.buf.len()
    }

    /// Sends what was pushed. Not cancel safe.
    pub async fn flush(&mut self) -> Result<(), ConnError> {
        let out = std::mem::take(&mut self.buf);
        self.half.write_all(&out).await?;
        self.half.flush().await?;
        Ok(())
    }

    /// Writes one message and flushes it. Not cancel safe.
    pub async fn write(&mut self, message: &Message) -> Result<(), ConnError> {
        self.push(message)?;
        self.flush().await
    }

    /// Ends the sending half.
    pub async fn shutdown(&mut self) -> Result<(), ConnError> {
        Ok(self.half.shutdown().await?)
    }
}
