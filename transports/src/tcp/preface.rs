//! What a connection is, told by its first bytes.
//!
//! A list of rules, each with the bytes that it begins with, is gone through in order as bytes
//! come in. Only as many are read as it takes to decide: one, as long as no rule needs more.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// What follows on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// TLS. If it is marked, the rule's bytes come ahead of it and are not part of it.
    Tls {
        /// Whether the rule's bytes are to be thrown away.
        is_marked: bool,
    },
    /// An HTTP request for a WebSocket.
    Websocket,
    /// What is carried, without anything around it.
    Plain,
}

/// A connection that begins with `prefix` is an `opening`.
#[derive(Clone, Debug)]
struct Rule {
    prefix: Vec<u8>,
    opening: Opening,
}

/// The rules of one listener. The first that matches counts; where none does, it is
/// [`Opening::Plain`].
#[derive(Clone, Debug, Default)]
pub(super) struct Rules(Vec<Rule>);

impl Rules {
    /// Appends a rule. Its prefix must be at most [`MAX_PREFIX_LEN`] long, and not empty.
    pub(super) fn with(mut self, prefix: &[u8], opening: Opening) -> Self {
        assert!((1..=MAX_PREFIX_LEN).contains(&prefix.len()));
        self.0.push(Rule {
            prefix: prefix.into(),
            opening,
        });
        self
    }

    /// Reads the first bytes of `io` until the rules decide. Returns, too, what has to be read
    /// again by whoever takes over.
    pub(super) async fn read<IO>(&self, io: &mut IO) -> io::Result<(Opening, Preface)>
    where
        IO: AsyncRead + Unpin,
    {
        let mut preface = Preface::default();
        loop {
            if let Some(opening) = self.decide(preface.bytes()) {
                if opening == (Opening::Tls { is_marked: true }) {
                    preface.len = 0;
                }
                return Ok((opening, preface));
            }
            // No more than the longest undecided rule asks for: what follows is the handler's.
            let n_wanted = self.n_wanted(preface.bytes());
            let buf = &mut preface.buf[preface.len..n_wanted];
            match io.read(buf).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => preface.len += n,
            }
        }
    }

    /// `None` as long as a rule may still match that comes before the first that does.
    fn decide(&self, bytes: &[u8]) -> Option<Opening> {
        if bytes.is_empty() {
            return None;
        }
        for rule in &self.0 {
            if bytes.starts_with(&rule.prefix) {
                return Some(rule.opening);
            }
            if rule.prefix.starts_with(bytes) {
                return None;
            }
        }
        Some(Opening::Plain)
    }

    /// How many bytes the next decision needs: one, or all of the rule that may match.
    fn n_wanted(&self, bytes: &[u8]) -> usize {
        if bytes.is_empty() {
            return 1;
        }
        let undecided = self.0.iter().find(|rule| rule.prefix.starts_with(bytes));
        undecided.map_or(1, |rule| rule.prefix.len())
    }
}

/// The first bytes of a connection.
#[derive(Debug, Default)]
pub(super) struct Preface {
    buf: [u8; MAX_PREFIX_LEN],
    len: usize,
}

impl Preface {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buf[..self.len]
    }
}

/// The longest prefix that frp has is `GET /~!frp`, ten bytes.
pub(super) const MAX_PREFIX_LEN: usize = 16;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const MARKED: Opening = Opening::Tls { is_marked: true };
    const TLS: Opening = Opening::Tls { is_marked: false };

    #[tokio::test]
    async fn one_byte_decides_where_no_rule_needs_more() {
        assert_eq!(read(frp(), &[b"\x17\x16\x03"]).await, (MARKED, vec![], 2));
        assert_eq!(read(frp(), &[b"\x16\x03\x01"]).await, (TLS, vec![0x16], 2));
        assert_eq!(
            read(frp(), &[b"o\0\0"]).await,
            (Opening::Plain, vec![b'o'], 2)
        );
    }

    #[tokio::test]
    async fn a_longer_rule_is_waited_for_only_while_it_may_match() {
        let rules = || frp().with(b"GET /~!frp", TLS);
        let request: [&[u8]; 3] = [b"G", b"ET /", b"~!frp HTTP/1.1"];
        assert_eq!(
            read(rules(), &request).await,
            (TLS, b"GET /~!frp".to_vec(), 9)
        );
        assert_eq!(
            read(rules(), &[b"G", b"O!"]).await,
            (Opening::Plain, b"GO!".to_vec(), 0)
        );
        assert_eq!(
            read(rules(), &[b"\0\0"]).await,
            (Opening::Plain, vec![0], 1)
        );
    }

    #[tokio::test]
    async fn an_earlier_rule_goes_before_a_later_one() {
        let rules = Rules::default().with(b"ab", TLS).with(b"a", MARKED);
        assert_eq!(
            read(rules.clone(), &[b"a", b"b"]).await,
            (TLS, b"ab".to_vec(), 0)
        );
        assert_eq!(read(rules, &[b"a", b"c"]).await, (MARKED, vec![], 0));
    }

    #[tokio::test]
    async fn a_connection_that_ends_before_the_decision_is_an_error() {
        for bytes in [b"".as_slice(), b"GET"] {
            let rules = frp().with(b"GET /~!frp", TLS);
            let error = rules.read(&mut &*bytes).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    fn frp() -> Rules {
        Rules::default().with(&[0x17], MARKED).with(&[0x16], TLS)
    }

    /// Returns the decision, what is to be read again, and how much was left in the connection.
    async fn read(rules: Rules, segments: &[&[u8]]) -> (Opening, Vec<u8>, usize) {
        let mut io = tokio_test_io(segments);
        let (opening, preface) = rules.read(&mut io).await.unwrap();
        let mut rest = Vec::new();
        io.read_to_end(&mut rest).await.unwrap();
        (opening, preface.bytes().to_vec(), rest.len())
    }

    /// A reader that gives one segment at a time.
    fn tokio_test_io(segments: &[&[u8]]) -> Box<dyn AsyncRead + Unpin> {
        let mut io: Box<dyn AsyncRead + Unpin> = Box::new(tokio::io::empty());
        for segment in segments.iter().rev() {
            io = Box::new(io::Cursor::new(segment.to_vec()).chain(io));
        }
        io
    }
}
