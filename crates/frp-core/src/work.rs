//! The layers of a work stream: bandwidth limit, cipher, compression.

use std::sync::Arc;

use frp_proto::cfb::{self, KEY_LEN};
use transports::BoxStream;

use crate::limit::{LimitedStream, RateLimiter};
use crate::transform::TransformStream;
use crate::transform::cfb::Cfb;
use crate::transform::snappy::Snappy;

/// What lies between a work stream's plain bytes and the carrier. Both ends must agree on cipher
/// and compression; the limit is one end's own business.
#[derive(Clone, Debug, Default)]
pub struct WorkOptions {
    /// `transport.useEncryption`: the key that both ends derive.
    pub encryption: Option<[u8; KEY_LEN]>,
    /// `transport.useCompression`.
    pub compression: bool,
    /// `transport.bandwidthLimit`, where this end enforces it.
    pub limit: Option<Limit>,
}

/// A bandwidth limit and the place where this end counts.
#[derive(Clone, Debug)]
pub enum Limit {
    /// Bytes as they are on the wire: the client counts these.
    Wire(Arc<RateLimiter>),
    /// Plain bytes: the server counts these.
    Plain(Arc<RateLimiter>),
}

impl WorkOptions {
    /// The layers without a limit. `secret` is the token, or the secret key on a visitor's leg.
    pub fn new(use_encryption: bool, use_compression: bool, secret: &[u8]) -> Self {
        Self {
            encryption: use_encryption.then(|| cfb::derive_key(secret)),
            compression: use_compression,
            limit: None,
        }
    }

    /// Whether there is no layer at all.
    pub fn is_plain(&self) -> bool {
        self.encryption.is_none() && !self.compression && self.limit.is_none()
    }
}

/// Puts the layers around `stream`, whose opening messages have been exchanged. On the wire the
/// plain bytes are compressed first and encrypted after.
pub fn wrap(stream: BoxStream, options: &WorkOptions) -> BoxStream {
    let mut stream = stream;
    if let Some(Limit::Wire(limiter)) = &options.limit {
        stream = Box::new(LimitedStream::new(stream, limiter.clone()));
    }
    if let Some(key) = &options.encryption {
        stream = Box::new(TransformStream::new(stream, Cfb::new(*key)));
    }
    if options.compression {
        stream = Box::new(TransformStream::new(stream, Snappy::default()));
    }
    if let Some(Limit::Plain(limiter)) = &options.limit {
        stream = Box::new(LimitedStream::new(stream, limiter.clone()));
    }
    stream
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::testing::pipe;

    fn options() -> impl Iterator<Item = WorkOptions> {
        [(false, false), (true, false), (false, true), (true, true)]
            .into_iter()
            .map(|(encrypt, compress)| WorkOptions::new(encrypt, compress, b"12345678"))
    }

    #[tokio::test]
    async fn both_ends_with_the_same_layers_understand_each_other() {
        for options in options() {
            let (a, b) = pipe(777);
            let (mut a, mut b) = (wrap(a, &options), wrap(b, &options));
            let plain: Vec<u8> = (0..200_000_u32)
                .flat_map(|n| (n / 9).to_be_bytes())
                .collect();

            let sent = plain.clone();
            let sending = tokio::spawn(async move {
                a.write_all(&sent).await.unwrap();
                a.shutdown().await.unwrap();
                let mut answer = String::new();
                a.read_to_string(&mut answer).await.unwrap();
                answer
            });
            let mut received = Vec::new();
            b.read_to_end(&mut received).await.unwrap();
            assert!(received == plain, "{options:?}");
            b.write_all(b"thanks").await.unwrap();
            b.shutdown().await.unwrap();
            assert_eq!(sending.await.unwrap(), "thanks", "{options:?}");
        }
    }

    #[tokio::test]
    async fn a_flush_brings_a_few_bytes_through_every_layer() {
        for options in options() {
            let (a, b) = pipe(1000);
            let (mut a, mut b) = (wrap(a, &options), wrap(b, &options));
            a.write_all(b"ping").await.unwrap();
            a.flush().await.unwrap();

            let mut received = [0; 4];
            b.read_exact(&mut received).await.unwrap();
            assert_eq!(&received, b"ping", "{options:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_snappy_is_an_error_and_not_data() {
        let (mut raw, b) = pipe(1000);
        let mut b = wrap(b, &WorkOptions::new(false, true, b""));
        raw.write_all(&[0x02; 64]).await.unwrap();
        raw.shutdown().await.unwrap();

        assert!(b.read_to_end(&mut Vec::new()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_10_kb_a_second_makes_50_kb_take_three_seconds() {
        let (a, mut b) = pipe(100_000);
        let options = WorkOptions {
            limit: Some(Limit::Wire(Arc::new(RateLimiter::new(10 * 1024)))),
            ..WorkOptions::default()
        };
        let mut a = wrap(a, &options);
        let started = tokio::time::Instant::now();

        a.write_all(&[0; 50 * 1024]).await.unwrap();
        a.shutdown().await.unwrap();

        let mut received = Vec::new();
        b.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len(), 50 * 1024);
        // The bucket is full at first, and the last second's worth is waited for by whoever writes
        // next: three of the five remain.
        assert!(
            started.elapsed().as_secs_f32() > 2.9,
            "{:?}",
            started.elapsed()
        );
    }
}
