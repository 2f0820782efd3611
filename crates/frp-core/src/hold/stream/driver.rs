//! The task of a held stream.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use frp_proto::hold::CarrierId;
use frp_proto::hold::frame::ResetCode;
use transports::{BoxFuture, BoxStream, CarrierError};

use super::Shared;
use super::inner::Plan;
use crate::hold::HeldSession;
use crate::hold::clock::now;
use crate::hold::session::carriers::HeldCarrier;

/// A route that was lost sooner than this after it was had was no good.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// The first pause before a carrier is asked again that has lost a route so soon, or has refused
/// one. It doubles each time.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The longest pause: who waits for a stream does so at most this much longer than need be.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often in a row a carrier may refuse a stream, over half a minute in all. Then the held
/// stream is reset: its user finds out, and a service has its place back.
const MAX_REFUSALS: u32 = 14;

/// Moves one held stream to its end.
pub(in crate::hold) struct Driver {
    shared: Arc<Shared>,
    session: Arc<HeldSession>,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    opening: Option<Opening>,
    /// When the stream was attached last, and how often in a row that was for nothing.
    attached_at: Option<Instant>,
    tried_on: Option<CarrierId>,
    n_failures: u32,
}

/// A stream of a carrier that is being opened.
struct Opening {
    carrier: Arc<HeldCarrier>,
    future: BoxFuture<'static, Result<BoxStream, CarrierError>>,
}

impl Driver {
    pub(in crate::hold) fn new(shared: Arc<Shared>, session: Arc<HeldSession>) -> Self {
        Self {
            shared,
            session,
            timer: None,
            opening: None,
            attached_at: None,
            tried_on: None,
            n_failures: 0,
        }
    }

    /// Ready when the stream has been attached, so that there is something to be sent.
    fn poll_attach(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some((carrier, is_planned)) = self.session.carrier_for_streams() else {
                // The session wakes the task when there is one.
                self.opening = None;
                return Poll::Pending;
            };
            let has_route_there = self.shared.with(|inner, _| {
                let is_there = inner.held().carrier() == Some(carrier.id);
                if is_there {
                    inner.cancel_switch();
                }
                is_there
            });
            if has_route_there {
                self.opening = None;
                return Poll::Pending;
            }
            let is_current = |opening: &Opening| Arc::ptr_eq(&opening.carrier, &carrier);
            if !self.opening.as_ref().is_some_and(is_current) {
                self.open(&carrier);
            }
            let Some(opening) = &mut self.opening else {
                return Poll::Pending;
            };
            let opened = ready!(opening.future.as_mut().poll(cx));
            self.opening = None;
            match opened {
                Ok(stream) => {
                    if self.attach(&carrier, stream, is_planned) {
                        return Poll::Ready(());
                    }
                    // Another carrier has come into use meanwhile.
                }
                Err(error) if error.is_carrier_lost() => {
                    // The session hears of it as well, and then of the next one.
                    self.session.lose_this_carrier(&carrier);
                }
                Err(error) => {
                    self.n_failures += 1;
                    tracing::debug!("no stream for a held one: {error}");
                    if self.n_failures > MAX_REFUSALS {
                        self.shared
                            .with(|inner, wakes| inner.reset(ResetCode::BROKEN, now(), wakes));
                        return Poll::Ready(());
                    }
                }
            }
        }
    }

    /// Begins to open a stream, after a pause if the last one was for nothing.
    fn open(&mut self, carrier: &Arc<HeldCarrier>) {
        let is_lost = self.shared.look(|inner| inner.held().carrier().is_none());
        if self.tried_on.replace(carrier.id) != Some(carrier.id) {
            self.n_failures = 0;
        } else if let Some(at) = self.attached_at.take().filter(|_| is_lost) {
            let is_short = now().saturating_duration_since(at) < SHORT_LIFE;
            self.n_failures = if is_short { self.n_failures + 1 } else { 0 };
        }
        let carrier = Arc::clone(carrier);
        let pause = pause(self.n_failures);
        let opened_on = Arc::clone(&carrier);
        let future = Box::pin(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            opened_on.carrier.open_stream().await
        });
        self.opening = Some(Opening { carrier, future });
    }

    /// False when the carrier is not in use any more.
    fn attach(
        &mut self,
        carrier: &Arc<HeldCarrier>,
        mut stream: BoxStream,
        is_planned: bool,
    ) -> bool {
        let last = self.shared.look(|inner| inner.generation());
        let Some(generation) = self.session.generation_on(carrier, last) else {
            stream.reset();
            return false;
        };
        self.shared.with(|inner, wakes| {
            inner.attach(carrier, generation, stream, is_planned, now(), wakes);
        });
        self.attached_at = Some(now());
        if last.is_some() {
            self.session.count_move();
        }
        true
    }

    /// Ready when the time has come.
    fn poll_timer(&mut self, cx: &mut Context<'_>, timeout: Option<Instant>) -> Poll<()> {
        let Some(at) = timeout else {
            // An idle stream has no timer.
            self.timer = None;
            return Poll::Pending;
        };
        let at = tokio::time::Instant::from_std(at);
        match &mut self.timer {
            // It fires early, and is set again then: cheaper than to set it at each change.
            Some(timer) if timer.deadline() <= at && !timer.is_elapsed() => {}
            Some(timer) => timer.as_mut().reset(at),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(at))),
        }
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

fn pause(n_failures: u32) -> Duration {
    match n_failures {
        // A route can be lost by a switch that overtakes another, or by a carrier that goes.
        0 | 1 => Duration::ZERO,
        n => RETRY_PAUSE
            .saturating_mul(1 << n.min(16))
            .min(RETRY_PAUSE_MAX),
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            let Plan {
                is_done,
                wants_route,
                timeout,
            } = this
                .shared
                .with(|inner, wakes| inner.drive(cx, now(), wakes));
            if is_done {
                return Poll::Ready(());
            }
            if wants_route {
                if this.poll_attach(cx).is_ready() {
                    continue;
                }
            } else {
                this.opening = None;
            }
            ready!(this.poll_timer(cx, timeout));
        }
    }
}

impl Drop for Driver {
    /// The stream is over; or the runtime ends, or the task has panicked.
    fn drop(&mut self) {
        self.shared.with(|inner, wakes| inner.abandon(wakes));
        self.session.forget_stream(&self.shared);
    }
}
