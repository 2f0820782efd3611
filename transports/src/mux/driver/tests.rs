//! The end of a carrier, over a byte stream that says what is done to it.

use std::net::SocketAddr;

use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};
use tokio::sync::mpsc;

use super::*;
use crate::TransportKind;
use crate::info::CarrierInfo;
use crate::mux::frame::{HEADER_LEN, Header, Kind, SYN};
use crate::mux::{MuxCarrier, MuxConfig, Role};

#[tokio::test]
async fn what_a_peer_asks_for_after_the_end_breaks_nothing_off() {
    let (near, mut far) = duplex(4096);
    let (deeds, mut done) = mpsc::unbounded_channel();
    let info = CarrierInfo::new(TransportKind::Tcp, SocketAddr::from(([127, 0, 0, 1], 7000)));
    let io = Told { io: near, deeds };
    let carrier = MuxCarrier::start(io, Role::Client, &MuxConfig::default(), info);
    carrier.close();
    let mut last_words = Vec::new();
    far.read_to_end(&mut last_words)
        .await
        .expect("an end in good order");
    assert!(!last_words.is_empty(), "the end is told");

    // A peer that has not read these yet asks for a sign of life, then reads them and ends as well.
    let ping = Header {
        kind: Kind::Ping,
        flags: SYN,
        stream_id: 0,
        len: 1,
    };
    far.write_all(&ping.encode()).await.expect("it is taken");
    let mut far = Some(far);

    let mut n_read = 0;
    let mut is_ended = false;
    while let Some(deed) = done.recv().await {
        match deed {
            Deed::Read(len) => n_read += len,
            Deed::Written => assert!(!is_ended, "nothing is written after the end"),
            Deed::Shutdown => is_ended = true,
        }
        if n_read == HEADER_LEN {
            far.take();
        }
    }
    assert!(is_ended && far.is_none());
}

/// What a driver does to its byte stream.
enum Deed {
    Read(usize),
    Written,
    Shutdown,
}

/// One end of a pipe that tells what is done to it. When the driver drops it there is no more.
struct Told {
    io: DuplexStream,
    deeds: mpsc::UnboundedSender<Deed>,
}

impl Told {
    fn tell(&self, deed: Deed) {
        self.deeds.send(deed).expect("the test listens");
    }
}

impl AsyncRead for Told {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n_before = buf.filled().len();
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        self.tell(Deed::Read(buf.filled().len() - n_before));
        result
    }
}

impl AsyncWrite for Told {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.tell(Deed::Written);
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tell(Deed::Shutdown);
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
