//! The head of an HTTP message, and what follows it.

use std::io;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// A head with its empty line.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) bytes: BytesMut,
    /// What was read after it.
    pub(super) rest: BytesMut,
}

/// Why there is no head.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the head is longer than 8 KiB")]
    TooLong,
}

impl Head {
    /// Reads up to the empty line, and at most to [`MAX_HEAD_LEN`].
    pub(super) async fn read<IO: AsyncRead + Unpin>(io: &mut IO) -> Result<Self, HeadError> {
        let mut bytes = BytesMut::new();
        let mut n_searched = 0;
        loop {
            if let Some(len) = end_of_head(&bytes, n_searched) {
                let rest = bytes.split_off(len);
                return Ok(Self { bytes, rest });
            }
            // The end may lie across: a line feed, a carriage return, and then a line feed.
            n_searched = bytes.len().saturating_sub(2);
            let room = MAX_HEAD_LEN - bytes.len();
            if room == 0 {
                return Err(HeadError::TooLong);
            }
            bytes.reserve(room.min(READ_LEN));
            if io.read_buf(&mut (&mut bytes).limit(room)).await? == 0 {
                return Err(HeadError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

/// Where the empty line ends. A line may end without a carriage return, as in Go.
fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let line_feeds = (from..bytes.len()).filter(|at| bytes[*at] == b'\n');
    line_feeds
        .filter_map(|at| match &bytes[at + 1..] {
            [b'\n', ..] => Some(at + 2),
            [b'\r', b'\n', ..] => Some(at + 3),
            _ => None,
        })
        .next()
}

/// The value of the first header of this name, as Go's `Header.Get`.
pub(super) fn first<'a>(headers: &[httparse::Header<'a>], name: &str) -> Option<&'a [u8]> {
    all(headers, name).next()
}

/// The values of all headers of this name.
pub(super) fn all<'a>(
    headers: &[httparse::Header<'a>],
    name: &str,
) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value.trim_ascii())
}

/// The longest head. Those of frp have 230 bytes; proxies on the way add some of their own.
pub(super) const MAX_HEAD_LEN: usize = 8 * 1024;

/// The most headers in it.
pub(super) const MAX_HEADERS: usize = 64;

/// What is read at once.
const READ_LEN: usize = 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_head_ends_with_its_empty_line_wherever_it_is_cut() {
        for text in [
            "GET / HTTP/1.1\r\nA: b\r\n\r\nrest",
            "GET / HTTP/1.1\nA: b\n\nrest",
        ] {
            for cut in 1..text.len() {
                let (first, second) = text.as_bytes().split_at(cut);
                let mut io = first.chain(second);
                let mut head = Head::read(&mut io).await.unwrap();
                io.read_to_end(&mut Vec::new()).await.unwrap();
                head.bytes.unsplit(head.rest.split_off(head.rest.len()));
                assert!(head.bytes.ends_with(b"\n") && !head.bytes.ends_with(b"rest"));
                assert!(b"rest".starts_with(&head.rest));
            }
        }
    }

    #[tokio::test]
    async fn a_head_without_an_end_is_not_read_beyond_its_bound() {
        let endless = tokio::io::repeat(b'a');
        let mut io = endless.take(u64::MAX);
        let error = Head::read(&mut io).await.unwrap_err();
        assert!(matches!(error, HeadError::TooLong));
        assert_eq!(u64::MAX - io.limit(), MAX_HEAD_LEN as u64);
    }

    #[tokio::test]
    async fn a_head_that_breaks_off_is_an_error() {
        let error = Head::read(&mut &b"GET / HTTP/1.1\r\n"[..])
            .await
            .unwrap_err();
        assert!(matches!(error, HeadError::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof));
    }
}
