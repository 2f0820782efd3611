//! A session that is told frames and answers with headers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::mux::batch::Batch;
use crate::mux::frame::{ACK, FIN, HEADER_LEN, Header, Kind, SYN};
use crate::mux::session::Session;
use crate::mux::{MuxConfig, Role};

/// A session with its clock, and what it has sent as headers.
pub(super) struct Test {
    pub(super) session: Session,
    pub(super) now: Instant,
    pub(super) unparsed: BytesMut,
    pub(super) is_quiet: bool,
}

impl Test {
    pub(super) fn client() -> Self {
        Self::new(Role::Client, false)
    }

    /// A server's session that has sent its first ping and has its answer.
    pub(super) fn server() -> Self {
        Self::new(Role::Server, false)
    }

    pub(super) fn new(role: Role, is_stranger: bool) -> Self {
        Self::with_config(role, &MuxConfig::default(), is_stranger)
    }

    pub(super) fn with_config(role: Role, config: &MuxConfig, is_stranger: bool) -> Self {
        let now = Instant::now();
        let session = Session::new(role, config, is_stranger, now);
        let mut test = Self {
            session,
            now,
            unparsed: BytesMut::new(),
            is_quiet: false,
        };
        if role == Role::Server {
            test.transmit();
            test.receive(frame(Kind::Ping, ACK, 0, 0));
        }
        test
    }

    /// Answers pings from here on, and hides them.
    pub(super) fn keep_quiet(&mut self) {
        self.is_quiet = true;
    }

    pub(super) fn open(&mut self) -> u32 {
        self.session.open(self.now).unwrap().unwrap()
    }

    pub(super) fn accept(&mut self) -> u32 {
        self.session.accept().unwrap().unwrap()
    }

    /// The peer opens stream `id`, and it is accepted.
    pub(super) fn accept_one(&mut self, id: u32) -> u32 {
        self.receive(syn(id));
        let id = self.accept();
        self.transmit();
        id
    }

    pub(super) fn write(&mut self, id: u32, mut data: &[u8]) {
        while !data.is_empty() {
            let Poll::Ready(n) = self.session.write_copy(id, data, Waker::noop()) else {
                panic!("there is room")
            };
            data = &data[n.unwrap()..];
        }
    }

    pub(super) fn poll_read(&mut self, id: u32) -> Poll<std::io::Result<Bytes>> {
        self.session.read(id, usize::MAX, Waker::noop())
    }

    /// Reads `len` bytes, or up to where there are none.
    pub(super) fn read(&mut self, id: u32, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            match self.session.read(id, len - bytes.len(), Waker::noop()) {
                Poll::Ready(Ok(chunk)) if !chunk.is_empty() => bytes.extend_from_slice(&chunk),
                _ => break,
            }
        }
        bytes
    }

    pub(super) fn finish(&mut self, id: u32) {
        self.session.finish(id).unwrap();
    }

    pub(super) fn drop_stream(&mut self, id: u32) {
        self.session.drop_stream(id, self.now);
    }

    pub(super) fn receive(&mut self, header: Header) {
        self.receive_bytes(&header.encode());
    }

    pub(super) fn receive_data(&mut self, id: u32, len: usize) {
        self.receive(frame(Kind::Data, 0, id, u32::try_from(len).unwrap()));
        self.receive_bytes(&vec![0; len]);
    }

    pub(super) fn receive_bytes(&mut self, bytes: &[u8]) {
        self.unparsed.extend_from_slice(bytes);
        self.session.handle_bytes(&mut self.unparsed, self.now);
    }

    pub(super) fn wake_all(&mut self) {
        self.session
            .take_effects()
            .wakes
            .into_iter()
            .for_each(Waker::wake);
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.now += by;
    }

    /// What is sent once `by` has passed.
    pub(super) fn after(&mut self, by: Duration) -> Vec<Header> {
        self.advance(by);
        if self.is_quiet {
            self.session.health.handle_life(self.now);
        }
        self.session.handle_timeout(self.now);
        self.transmit()
    }

    /// The headers of what is sent now.
    pub(super) fn transmit(&mut self) -> Vec<Header> {
        let mut batch = Batch::default();
        self.session.poll_transmit(&mut batch, self.now);
        let mut headers = headers(&written(&mut batch));
        if self.is_quiet {
            for ping in headers.extract_if(.., |header| header.kind == Kind::Ping) {
                self.session.health.handle_pong(ping.len, self.now);
            }
        }
        headers
    }
}

#[derive(Default)]
pub(super) struct Count(pub(super) AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Everything in `batch`, as it goes over the wire.
pub(in crate::mux::session) fn written(batch: &mut Batch) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(batch.len());
    while !batch.is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); 8];
        let n = batch.fill(&mut slices);
        let before = bytes.len();
        slices[..n]
            .iter()
            .for_each(|slice| bytes.extend_from_slice(slice));
        let n_written = bytes.len() - before;
        batch.advance(n_written);
    }
    bytes
}

pub(super) fn headers(mut bytes: &[u8]) -> Vec<Header> {
    let mut headers = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>() {
        let header = Header::decode(*header).unwrap();
        let len = if header.kind == Kind::Data {
            header.len as usize
        } else {
            0
        };
        headers.push(header);
        bytes = &rest[len..];
    }
    assert!(bytes.is_empty());
    headers
}

pub(super) fn data_len(headers: &[Header]) -> usize {
    let data = headers.iter().filter(|header| header.kind == Kind::Data);
    data.map(|header| header.len as usize).sum()
}

pub(super) const fn frame(kind: Kind, flags: u16, stream_id: u32, len: u32) -> Header {
    Header {
        kind,
        flags,
        stream_id,
        len,
    }
}

pub(super) const fn syn(stream_id: u32) -> Header {
    frame(Kind::WindowUpdate, SYN, stream_id, 0)
}

pub(super) const fn fin(stream_id: u32) -> Header {
    frame(Kind::WindowUpdate, FIN, stream_id, 0)
}
