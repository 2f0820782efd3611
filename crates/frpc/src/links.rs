//! The ways to the server, where there is a choice or streams are held.
//!
//! One task, the [`driver`], owns the switch policy and does what it decides: it dials, logs in or
//! joins, watches the carriers, moves the session from one to another, and says goodbye. What comes
//! out are sessions, one after the other; whoever runs them need not know what they go over.
//!
//! 1. `candidates`: which transports are tried, and at which ports.
//! 2. `attempt`: one attempt, from the dial to the login or the join.
//! 3. `driver`: what happens is told to the policy, and what it decides is done.
//!    Towards a server that holds nothing, `echo` watches the carriers.
//! 4. `report`: decisions in words and numbers, for the log, metrics and status.
//! 5. `memory`: what outlives the process. `network`: when this host's addresses change.

mod attempt;
mod candidates;
mod driver;
mod echo;
pub mod memory;
mod network;
mod report;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use frp_core::proto::hold::key::SessionId;
use frp_core::proto::policy::{CarrierId, Transport};
use frp_core::session::Session;
use frp_core::task;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::context::Context;
use crate::login::{LoggedIn, LoginError};
use crate::transport::Dialers;
use driver::Driver;
use memory::Memory;

pub(crate) use report::is_way_of;
pub use report::{CarrierStatus, EventStatus, LinksStatus, WayStatus};

/// A session that has logged in.
#[derive(Debug)]
pub(crate) struct Begun {
    /// Where conns come from.
    pub(crate) session: Arc<Session>,
    /// The login.
    pub(crate) logged_in: LoggedIn,
}

/// A login that was made before there were [`Links`], for a carrier of the first candidate.
pub(crate) use attempt::{Opened, may_hold};
pub(crate) use echo::knock;

/// The task that finds ways to the server. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Links {
    handle: LinksHandle,
    begun: mpsc::Receiver<Result<Begun, LoginError>>,
    _task: AbortOnDropHandle<()>,
}

/// What the rest of the program can ask of it.
#[derive(Clone)]
pub(crate) struct LinksHandle(mpsc::Sender<Command>);

#[derive(Debug)]
enum Command {
    /// This held session ends here: say goodbye on its carriers, and do nothing until `Next`.
    End {
        session: SessionId,
        done: oneshot::Sender<()>,
    },
    /// The control that went over this carrier has ended, in a session without held streams.
    EndPlain {
        carrier: CarrierId,
        done: oneshot::Sender<()>,
    },
    /// Look for the next session, after `wait`, unless that is under way.
    Next {
        wait: Duration,
    },
    /// By hand: use this transport, or (without one) decide again.
    Switch {
        to: Option<Transport>,
        done: oneshot::Sender<Result<(), SwitchError>>,
    },
    Status {
        done: oneshot::Sender<LinksStatus>,
    },
}

/// Commands on their way: few people ask at the same time, and further ones wait.
const COMMANDS_LEN: usize = 16;

/// Sessions on their way to their runner. One is waited for at a time; the second place is for an
/// error behind it.
const SESSIONS_LEN: usize = 2;

/// Why a switch by hand was refused.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// The name means nothing.
    #[error("no such transport: {0} (quic, kcp, tcp, wss, websocket, or auto)")]
    Unknown(String),
    /// It is none of the candidates.
    #[error("{0} is not among the ways to the server: {1}")]
    NotACandidate(Transport, String),
    /// The session goes over one carrier for its life.
    #[error("there is nothing to switch: {0}")]
    Nothing(&'static str),
}

impl Links {
    /// Begins to look for the server, or goes on with a login that was made already.
    pub(crate) fn start(
        context: Arc<Context>,
        dialers: Dialers,
        memory: Memory,
        opened: Option<Opened>,
    ) -> Self {
        let (commands_tx, commands) = mpsc::channel(COMMANDS_LEN);
        let handle = LinksHandle(commands_tx);
        let (begun_tx, begun) = mpsc::channel(SESSIONS_LEN);
        let driver = Driver::new(context, dialers, memory, handle.clone(), begun_tx, opened);
        let task = task::spawn("links", driver.run(commands));
        Self {
            handle,
            begun,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// The next session. Fails only before the first, when the program is to end for it; `None`
    /// when the task has panicked.
    pub(crate) async fn next(&mut self) -> Option<Result<Begun, LoginError>> {
        self.begun.recv().await
    }

    /// To ask it something.
    pub(crate) fn handle(&self) -> &LinksHandle {
        &self.handle
    }
}

impl LinksHandle {
    /// A held session ends on this side. Returns when the server has been told, or could not be.
    async fn end(&self, session: SessionId) {
        self.ask(|done| Command::End { session, done }).await;
    }

    /// A session without held streams ends on this side, with the carrier that its control went
    /// over, unless another session has taken its place.
    async fn end_plain(&self, carrier: CarrierId) {
        self.ask(|done| Command::EndPlain { carrier, done }).await;
    }

    /// The session's runner wants the next one, after `wait` if it was not found already.
    pub(crate) async fn next(&self, wait: Duration) {
        // A task that has ended says so where sessions come out.
        let _ = self.0.send(Command::Next { wait }).await;
    }

    /// Switches by hand.
    pub(crate) async fn switch(&self, to: Option<Transport>) -> Result<(), SwitchError> {
        let answer = self.ask(|done| Command::Switch { to, done }).await;
        answer.unwrap_or(Err(SwitchError::Nothing("the program is about to end")))
    }

    /// Where everything stands.
    pub(crate) async fn status(&self) -> Option<LinksStatus> {
        self.ask(|done| Command::Status { done }).await
    }

    /// `None` when the task has ended.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (done, answer) = oneshot::channel();
        self.0.send(command(done)).await.ok()?;
        answer.await.ok()
    }
}

impl fmt::Debug for LinksHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinksHandle")
    }
}
