//! Plain sockets as streams: users' connections and local services.
//!
//! A socket that waits for data holds no buffer. When it is readable it gets one whose size follows
//! what the last reads brought, and what was read leaves as slices of it.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::io::poll_read_buf;

use crate::{BoxStream, Stream};

/// Makes a stream of a TCP connection. `TCP_NODELAY` is turned on: whoever writes has coalesced
/// what belongs together.
pub fn boxed(socket: TcpStream) -> BoxStream {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    Box::new(SocketStream::new(socket))
}

/// Makes a stream of a Unix domain socket.
pub fn boxed_unix(socket: UnixStream) -> BoxStream {
    Box::new(SocketStream::new(socket))
}

/// A socket behind the contract for streams.
struct SocketStream<S: Socket> {
    /// Gone after a reset.
    socket: Option<S>,
    /// The size of the next buffer.
    wanted_len: usize,
}

impl<S: Socket> SocketStream<S> {
    fn new(socket: S) -> Self {
        Self {
            socket: Some(socket),
            wanted_len: MIN_READ_LEN,
        }
    }

    fn socket(&mut self) -> io::Result<Pin<&mut S>> {
        let socket = self
            .socket
            .as_mut()
            .ok_or(io::ErrorKind::ConnectionAborted)?;
        Ok(Pin::new(socket))
    }
}

impl<S: Socket> Stream for SocketStream<S> {
    fn poll_read_chunk(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<Bytes>> {
        let this = self.get_mut();
        let len = this.wanted_len.min(max);
        let socket = this.socket()?;
        ready!(socket.poll_read_ready(cx))?;
        let mut buf = BytesMut::with_capacity(len);
        let n = ready!(poll_read_buf(socket, cx, &mut buf))?;
        if n >= len {
            this.wanted_len = (this.wanted_len * 2).min(MAX_READ_LEN);
            return Poll::Ready(Ok(buf.freeze()));
        }
        if n < len / 4 {
            this.wanted_len = (this.wanted_len / 2).max(MIN_READ_LEN);
            // A few bytes must not keep a large buffer alive for as long as they are queued.
            return Poll::Ready(Ok(Bytes::copy_from_slice(&buf)));
        }
        Poll::Ready(Ok(buf.freeze()))
    }

    fn reset(&mut self) {
        if let Some(socket) = self.socket.take() {
            socket.abort();
        }
    }
}

impl<S: Socket> AsyncRead for SocketStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().socket()?.poll_read(cx, buf)
    }
}

impl<S: Socket> AsyncWrite for SocketStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().socket()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().socket()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket()?.poll_shutdown(cx)
    }
}

impl<S: Socket> fmt::Debug for SocketStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketStream")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl<S: Socket> Drop for SocketStream<S> {
    /// Linux answers the closing of a socket with unread data by a reset, and forgets what was
    /// written and not yet sent. So what is there is read first, within bounds.
    fn drop(&mut self) {
        let Some(mut socket) = self.socket.take() else {
            return;
        };
        let mut probe = [0];
        let has_unread_data = matches!(socket.try_read(&mut probe), Ok(1));
        if has_unread_data && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = tokio::time::timeout(LINGER, linger(&mut socket)).await;
            });
        }
    }
}

/// Sends the end, and reads what the peer has underway.
async fn linger<S: Socket>(socket: &mut S) -> io::Result<()> {
    socket.shutdown().await?;
    let mut discarded = vec![0; MIN_READ_LEN];
    while socket.read(&mut discarded).await? > 0 {}
    Ok(())
}

/// What TCP and Unix domain sockets have in common.
trait Socket: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin + 'static {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize>;
    /// Closes at once, forgetting what was not sent.
    fn abort(self);
}

impl Socket for TcpStream {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.try_read(buf)
    }

    fn abort(self) {
        abort_on_close(&self);
    }
}

impl Socket for UnixStream {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.try_read(buf)
    }

    /// Here the peer sees an error only if it has sent something that was not read.
    fn abort(self) {}
}

/// Makes the closing of `socket` a reset, which the peer sees as an error.
pub(crate) fn abort_on_close(socket: &TcpStream) {
    if let Err(error) = SockRef::from(socket).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "cannot set SO_LINGER");
    }
}

/// What a read starts with: most interactive traffic fits.
const MIN_READ_LEN: usize = 4 * 1024;

/// What a read grows to under bulk: beyond it the system call no longer shows.
const MAX_READ_LEN: usize = 128 * 1024;

/// How long a closed socket's last bytes may take, a second or two of round trips.
const LINGER: Duration = Duration::from_secs(2);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn chunks_come_as_they_arrive_and_end_with_an_empty_one() {
        let (mut peer, mut stream) = tcp_pair().await;
        peer.write_all(b"hello").await.unwrap();
        assert_eq!(read_chunk(&mut stream, 3).await.unwrap(), "hel");
        assert_eq!(read_chunk(&mut stream, 100).await.unwrap(), "lo");
        peer.shutdown().await.unwrap();
        assert_eq!(read_chunk(&mut stream, 100).await.unwrap(), "");
        // The other direction is still open.
        stream.write_all(b"bye").await.unwrap();
        drop(stream);
        let mut received = Vec::new();
        peer.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"bye");
    }

    #[tokio::test]
    async fn chunks_grow_under_bulk_and_what_is_short_is_small() {
        let (mut peer, mut stream) = tcp_pair().await;
        let sending = tokio::spawn(async move {
            peer.write_all(&vec![7; 8 * 1024 * 1024]).await.unwrap();
            peer
        });
        let (mut n_received, mut longest) = (0, 0);
        while n_received < 8 * 1024 * 1024 {
            let chunk = read_chunk(&mut stream, usize::MAX).await.unwrap();
            assert!(chunk.iter().all(|byte| *byte == 7));
            assert!(chunk.len() <= MAX_READ_LEN);
            n_received += chunk.len();
            longest = longest.max(chunk.len());
        }
        assert!(longest > MIN_READ_LEN, "{longest}");
        let mut peer = sending.await.unwrap();
        peer.write_all(b"x").await.unwrap();
        let chunk = read_chunk(&mut stream, usize::MAX).await.unwrap();
        // A unique owner can have its buffer back, whose size shows what was kept.
        let kept = chunk.try_into_mut().unwrap().capacity();
        assert!(kept < MIN_READ_LEN, "{kept}");
    }

    #[tokio::test]
    async fn a_reset_is_an_error_on_both_sides() {
        let (mut peer, mut stream) = tcp_pair().await;
        stream.reset();
        let error = peer.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let error = read_chunk(&mut stream, 10).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        stream.write_all(b"x").await.unwrap_err();
        stream.reset();
    }

    #[tokio::test]
    async fn a_drop_with_unread_data_still_delivers_what_was_written() {
        let (mut peer, mut stream) = tcp_pair().await;
        let data = vec![9; 2 * 1024 * 1024];
        let mut written = 0;
        // As much as the system takes without the peer reading: the rest of it must not get lost.
        while let Ok(Ok(n)) =
            tokio::time::timeout(Duration::from_millis(50), stream.write(&data)).await
        {
            written += n;
        }
        peer.write_all(b"unread").await.unwrap();
        poll_fn(|cx| Pin::new(&mut stream).poll_flush(cx))
            .await
            .unwrap();
        // Only once it is there, closing the socket would throw the answer away.
        tokio::task::yield_now().await;
        drop(stream);
        let mut received = Vec::new();
        peer.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len(), written);
    }

    #[tokio::test]
    async fn a_unix_domain_socket_is_a_stream_as_well() {
        let (mut peer, socket) = UnixStream::pair().unwrap();
        let mut stream = boxed_unix(socket);
        peer.write_all(b"hello").await.unwrap();
        assert_eq!(read_chunk(&mut stream, 100).await.unwrap(), "hello");
        let mut bytes = Bytes::from_static(b"bye");
        while !bytes.is_empty() {
            poll_fn(|cx| Pin::new(&mut *stream).poll_write_chunk(cx, &mut bytes))
                .await
                .unwrap();
        }
        stream.reset();
        let mut received = Vec::new();
        peer.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"bye");
    }

    async fn read_chunk(stream: &mut BoxStream, max: usize) -> io::Result<Bytes> {
        poll_fn(|cx| Pin::new(&mut **stream).poll_read_chunk(cx, max)).await
    }

    async fn tcp_pair() -> (TcpStream, BoxStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (peer, accepted) = tokio::join!(TcpStream::connect(addr), listener.accept());
        (peer.unwrap(), boxed(accepted.unwrap().0))
    }
}
