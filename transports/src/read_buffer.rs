//! A receive buffer that is large while much arrives and nothing while idle.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// What a read starts with. An idle carrier holds nothing.
const MIN_LEN: usize = 4 * 1024;

/// What is moved to a larger allocation without a second thought: a header's beginning, say.
const MOVED_LEN_MAX: usize = 64;

/// Bytes as they come from a byte stream, to be cut into slices without copying.
///
/// The allocation follows what the last reads brought: doubled when a read fills it, halved when a
/// read leaves most of it empty. It is given back when there is nothing to read: allocating it
/// again costs less than a system call.
#[derive(Debug)]
pub(crate) struct ReadBuffer {
    bytes: BytesMut,
    /// The size of the next allocation.
    wanted_len: usize,
    max_len: usize,
}

impl ReadBuffer {
    /// A buffer that grows up to `max_len`.
    pub(crate) fn new(max_len: usize) -> Self {
        Self {
            bytes: BytesMut::new(),
            wanted_len: MIN_LEN.min(max_len),
            max_len,
        }
    }

    /// Sets how far the buffer may grow from here on.
    pub(crate) fn set_max_len(&mut self, max_len: usize) {
        self.max_len = max_len;
    }

    /// Reads once. `Ok(0)` is the end of the byte stream.
    pub(crate) fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        io: &mut R,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        // With next to nothing in it, moving to a larger allocation costs nothing.
        if self.spare_len() == 0
            || (self.bytes.len() < MOVED_LEN_MAX && self.spare_len() < self.wanted_len / 2)
        {
            self.bytes.reserve(self.wanted_len);
        }
        let spare_len = self.spare_len();
        let result = poll_read_buf(Pin::new(io), cx, &mut self.bytes);
        if result.is_pending() && self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        }
        let n = ready!(result)?;
        if n == spare_len {
            self.wanted_len = (self.wanted_len * 2).min(self.max_len);
        } else if n < self.wanted_len / 4 {
            self.wanted_len = (self.wanted_len / 2).max(MIN_LEN.min(self.max_len));
        }
        Poll::Ready(Ok(n))
    }

    /// What has been read and not been taken.
    pub(crate) fn bytes_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Takes up to `max` bytes, without copying.
    pub(crate) fn take(&mut self, max: usize) -> Bytes {
        let len = self.bytes.len().min(max);
        self.bytes.split_to(len).freeze()
    }

    /// Whether everything read has been taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How much fits without a new allocation.
    fn spare_len(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }
}
