//! Bandwidth limits of proxies: one token bucket per proxy, shared by all its connections and both
//! directions, as frp has it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use transports::{BoxStream, Class, Stream};

/// A token bucket that holds one second's worth of bytes.
#[derive(Debug)]
pub struct RateLimiter {
    bytes_per_second: u64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Bytes that may pass at once. Negative while bytes that have passed are being paid off.
    tokens: f64,
    updated: Instant,
}

impl RateLimiter {
    /// Returns a full bucket that refills with `bytes_per_second` (at least 1).
    pub fn new(bytes_per_second: u64) -> Self {
        let bytes_per_second = bytes_per_second.max(1);
        let bucket = Bucket {
            tokens: as_f64(bytes_per_second),
            updated: Instant::now(),
        };
        Self {
            bytes_per_second,
            bucket: Mutex::new(bucket),
        }
    }

    /// The most bytes that should pass in one go, so that the flow is even.
    fn burst(&self) -> usize {
        usize::try_from(self.bytes_per_second).unwrap_or(usize::MAX)
    }

    /// Takes `n` tokens, on credit where there are too few, and returns how long whoever sent
    /// these bytes must wait before sending more.
    fn take(&self, n: usize, now: Instant) -> Duration {
        let rate = as_f64(self.bytes_per_second);
        let mut bucket = self.bucket.lock();
        let elapsed = now.saturating_duration_since(bucket.updated).as_secs_f64();
        bucket.tokens = elapsed.mul_add(rate, bucket.tokens).min(rate);
        bucket.updated = now;
        bucket.tokens -= as_f64(n as u64);
        if bucket.tokens >= 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64((-bucket.tokens / rate).min(MAX_WAIT_SECS))
        }
    }
}

/// Keeps a wait within what timers can express, whatever the rate.
const MAX_WAIT_SECS: f64 = 3600.0;

#[expect(
    clippy::cast_precision_loss,
    reason = "rates and sizes are far below 2^53"
)]
fn as_f64(n: u64) -> f64 {
    n as f64
}

/// A stream whose bytes, read and written, all pass one [`RateLimiter`].
pub struct LimitedStream {
    inner: BoxStream,
    limiter: Arc<RateLimiter>,
    read_wait: Option<Pin<Box<Sleep>>>,
    write_wait: Option<Pin<Box<Sleep>>>,
}

impl LimitedStream {
    /// Puts `limiter` around `inner`.
    pub fn new(inner: BoxStream, limiter: Arc<RateLimiter>) -> Self {
        Self {
            inner,
            limiter,
            read_wait: None,
            write_wait: None,
        }
    }

    fn charge(limiter: &RateLimiter, n: usize) -> Option<Pin<Box<Sleep>>> {
        let wait = limiter.take(n, Instant::now());
        (wait > Duration::ZERO).then(|| Box::pin(tokio::time::sleep(wait)))
    }
}

fn poll_wait(wait: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<()> {
    if let Some(sleep) = wait {
        ready!(sleep.as_mut().poll(cx));
        *wait = None;
    }
    Poll::Ready(())
}

impl fmt::Debug for LimitedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitedStream")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl Stream for LimitedStream {
    fn poll_read_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<Bytes>> {
        let this = &mut *self;
        ready!(poll_wait(&mut this.read_wait, cx));
        let max = max.min(this.limiter.burst());
        let chunk = ready!(Pin::new(&mut *this.inner).poll_read_chunk(cx, max))?;
        this.read_wait = Self::charge(&this.limiter, chunk.len());
        Poll::Ready(Ok(chunk))
    }

    fn poll_write_chunk(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        chunk: &mut Bytes,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(poll_wait(&mut this.write_wait, cx));
        let mut part = chunk.slice(..chunk.len().min(this.limiter.burst()));
        let offered = part.len();
        ready!(Pin::new(&mut *this.inner).poll_write_chunk(cx, &mut part))?;
        let taken = offered - part.len();
        bytes::Buf::advance(chunk, taken);
        this.write_wait = Self::charge(&this.limiter, taken);
        Poll::Ready(Ok(()))
    }

    fn set_class(&mut self, class: Class) {
        self.inner.set_class(class);
    }

    fn reset(&mut self) {
        self.inner.reset();
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let chunk = ready!(self.poll_read_chunk(cx, buf.remaining()))?;
        buf.put_slice(&chunk);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(poll_wait(&mut this.write_wait, cx));
        let part = &buf[..buf.len().min(this.limiter.burst())];
        let taken = ready!(Pin::new(&mut *this.inner).poll_write(cx, part))?;
        this.write_wait = Self::charge(&this.limiter, taken);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::RateLimiter;
    use std::time::Duration;
    use tokio::time::Instant;

    #[test]
    fn a_full_bucket_lets_one_second_of_bytes_pass_at_once() {
        let limiter = RateLimiter::new(1000);
        let now = Instant::now();

        assert_eq!(limiter.take(1000, now), Duration::ZERO);
        assert_eq!(limiter.take(500, now), Duration::from_millis(500));
    }

    #[test]
    fn what_was_taken_on_credit_is_paid_off_by_time() {
        let limiter = RateLimiter::new(1000);
        let start = Instant::now();
        limiter.take(3000, start);

        let wait = limiter.take(0, start + Duration::from_secs(1));
        assert_eq!(wait, Duration::from_secs(1), "2000 of credit, 1000 paid");
        assert_eq!(
            limiter.take(1000, start + Duration::from_secs(3)),
            Duration::ZERO
        );
    }

    #[test]
    fn an_idle_bucket_never_holds_more_than_one_second() {
        let limiter = RateLimiter::new(1000);
        let later = Instant::now() + Duration::from_secs(100);

        assert_eq!(limiter.take(2000, later), Duration::from_secs(1));
    }
}
