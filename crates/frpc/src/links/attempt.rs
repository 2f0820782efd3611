//! One attempt to open a carrier: dial, then log in, or join the session that lives.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use frp_core::hold::join::{self, JoinFailure, SessionStream};
use frp_core::hold::{CarrierId as HoldId, HeldSession};
use frp_core::proto::policy::{CarrierId, DialFailure};
use frp_core::session::Session;
use frp_core::transports::{Carrier, DialError, Endpoint, Transport, TransportKind};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::driver::Event;
use super::echo;
use crate::context::Context;
use crate::login::{ANSWER_TIMEOUT, LoggedIn, LoginError, Over, login};

/// A carrier over which a login was made.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) carrier: Arc<dyn Carrier>,
    /// A plain one over the carrier.
    pub(crate) session: Session,
    pub(crate) logged_in: LoggedIn,
}

/// An attempt that is under way.
#[derive(Debug)]
pub(super) struct Attempt {
    /// Index into the candidates.
    pub(super) candidate: usize,
    pub(super) stage: Stage,
    /// Ends with the attempt.
    task: Option<AbortOnDropHandle<()>>,
}

/// How far it has come.
#[derive(Debug)]
pub(super) enum Stage {
    Dialing,
    /// Somebody else is logging in. What that brings is a session to join.
    Waiting(Arc<dyn Carrier>),
    LoggingIn(Arc<dyn Carrier>),
    Joining(Arc<dyn Carrier>),
}

impl Attempt {
    /// One that has just begun.
    pub(super) fn new(candidate: usize, task: AbortOnDropHandle<()>) -> Self {
        Self {
            candidate,
            stage: Stage::Dialing,
            task: Some(task),
        }
    }

    /// It has come further. The task before is over, or is ended.
    pub(super) fn advance(&mut self, stage: Stage, task: Option<AbortOnDropHandle<()>>) {
        self.stage = stage;
        self.task = task;
    }

    /// Ends it, with its carrier.
    pub(super) fn close(mut self) {
        drop(self.task.take());
        match self.stage {
            Stage::Dialing => {}
            Stage::Waiting(carrier) | Stage::LoggingIn(carrier) | Stage::Joining(carrier) => {
                carrier.close();
            }
        }
    }
}

/// Where an attempt's task says what came of it.
#[derive(Clone, Debug)]
pub(super) struct Tasks {
    pub(super) context: Arc<Context>,
    pub(super) events: mpsc::Sender<Event>,
}

impl Tasks {
    pub(super) fn dial(
        &self,
        id: CarrierId,
        transport: Arc<dyn Transport>,
        server: Endpoint,
    ) -> AbortOnDropHandle<()> {
        self.spawn(async move { Event::Dialed(id, transport.dial(&server).await) })
    }

    /// Logs in after `wait`.
    pub(super) fn log_in(
        &self,
        wait: Duration,
        over: Over,
        transport: Arc<dyn Transport>,
        server: Endpoint,
    ) -> AbortOnDropHandle<()> {
        let context = self.context.clone();
        self.spawn(async move {
            tokio::time::sleep(wait).await;
            let carrier = over.carrier.clone();
            let session = Session::over(transport, server, carrier.clone());
            let outcome = login(&context, &session, &over).await;
            let opened = outcome.map(|logged_in| {
                Box::new(Opened {
                    carrier,
                    session,
                    logged_in,
                })
            });
            Event::LoggedIn(CarrierId(over.id.0), opened)
        })
    }

    pub(super) fn join(
        &self,
        id: CarrierId,
        session: Arc<HeldSession>,
        carrier: Arc<dyn Carrier>,
    ) -> AbortOnDropHandle<()> {
        self.spawn(async move {
            let outcome = join::join(&session, hold_id(id), &carrier, ANSWER_TIMEOUT).await;
            Event::Joined(id, *session.id(), outcome)
        })
    }

    /// Asks whether a server that needs no join is there.
    pub(super) fn knock(&self, id: CarrierId, carrier: Arc<dyn Carrier>) -> AbortOnDropHandle<()> {
        self.spawn(async move { Event::Knocked(id, echo::knock(&carrier, ANSWER_TIMEOUT).await) })
    }

    /// What is said to a driver that has ended is said to nobody. The queue's bound holds up the
    /// tasks, not the driver.
    fn spawn(&self, work: impl Future<Output = Event> + Send + 'static) -> AbortOnDropHandle<()> {
        let events = self.events.clone();
        let task = async move {
            let event = work.await;
            let _ = events.send(event).await;
        };
        AbortOnDropHandle::new(frp_core::task::spawn("attempt", task.in_current_span()))
    }
}

/// The number of a carrier in its held session is the policy's.
pub(super) fn hold_id(id: CarrierId) -> HoldId {
    HoldId(id.0)
}

/// What a dial's failure means to the policy.
pub(super) fn dial_failure(error: &DialError) -> DialFailure {
    match error {
        DialError::Resolve { .. } => DialFailure::Resolve,
        DialError::Timeout { .. } => DialFailure::Timeout,
        DialError::Connect { source, .. } | DialError::ConnectUdp { source, .. } => {
            match source.kind() {
                io::ErrorKind::ConnectionRefused => DialFailure::Refused,
                io::ErrorKind::TimedOut => DialFailure::Timeout,
                io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::NetworkDown
                | io::ErrorKind::AddrNotAvailable => DialFailure::Unreachable,
                _ => DialFailure::Handshake,
            }
        }
        DialError::Proxy { .. } | DialError::Tls { .. } | DialError::Upgrade { .. } => {
            DialFailure::Handshake
        }
    }
}

/// What a login's failure means to the policy.
pub(super) fn login_failure(error: &LoginError) -> DialFailure {
    use frp_core::conn::ConnError;
    match error {
        LoginError::Dial(error) => dial_failure(error),
        LoginError::Refused(_) | LoginError::NotHoldfast(_) => DialFailure::Login,
        LoginError::Conn(ConnError::Timeout(_)) => DialFailure::Timeout,
        LoginError::Open(_)
        | LoginError::Conn(_)
        | LoginError::RunId
        | LoginError::NoTransport(_)
        | LoginError::Hello(_)
        | LoginError::Random(_) => DialFailure::Handshake,
    }
}

/// What a join's failure means to the policy.
pub(super) fn join_failure(error: &JoinFailure) -> DialFailure {
    match error {
        JoinFailure::Timeout(_) => DialFailure::Timeout,
        JoinFailure::Carrier(_) | JoinFailure::Io(_) => DialFailure::Refused,
        _ => DialFailure::Handshake,
    }
}

/// How long a login may be unanswered before the next one is made over another carrier: whoever
/// answers late must not displace the session that was begun after it.
pub(super) fn login_patience(carrier: &Arc<dyn Carrier>) -> Duration {
    let rtt = carrier.path_stats().rtt.unwrap_or_default();
    (rtt * 3).max(Duration::from_secs(1))
}

/// Whether two Holdfasts could hold streams over what `kind` dials.
pub(crate) fn may_hold(config: &frp_core::config::ClientConfig, kind: TransportKind) -> bool {
    let transport = &config.transport;
    let is_multiplexed = transport.tcp_mux || kind == TransportKind::Quic;
    transport.hold.enable && is_multiplexed && crate::transport::has_tls(config, kind)
}

/// What a session stream brings to its carrier.
pub(super) type JoinOutcome = Result<SessionStream, JoinFailure>;
