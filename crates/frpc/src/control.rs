//! The control of one session: from LoginResp until either end closes.
//!
//! One task decides: messages from frps, the clocks, and commands of the program reach it one at a
//! time. It never waits for frps to take a message; those go through a queue to a task of their
//! own. When it ends, everything that belongs to the session ends with it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use frp_core::config::{Protocol, ProxyConfig, VisitorConfig};
use frp_core::conn::{ConnError, MessageReader, MessageWriter};
use frp_core::proto::msg::{Message, NewProxyResp, Ping, Pong};
use frp_core::relay::HalfClose;
use frp_core::session::Session;
use frp_core::task;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::context::Context;
use crate::login::LoggedIn;
use crate::proxy::state::{StartError, TICK};
use crate::proxy::{Changes, ProxySet};
use crate::visitor::VisitorSet;
use crate::work_conn::WorkConns;

/// What is to be published and visited. Replaced as a whole by a reload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Services {
    /// The proxies.
    pub proxies: Vec<ProxyConfig>,
    /// The visitors.
    pub visitors: Vec<VisitorConfig>,
}

/// What the rest of the program can ask of a control.
#[derive(Clone, Debug)]
pub(crate) struct ControlHandle {
    /// The proxies of the session, for status.
    pub(crate) proxies: Arc<Mutex<ProxySet>>,
    commands: mpsc::Sender<Command>,
}

#[derive(Debug)]
enum Command {
    Update {
        services: Arc<Services>,
        done: oneshot::Sender<()>,
    },
    Close {
        grace: Duration,
        done: oneshot::Sender<()>,
    },
    Leave {
        done: oneshot::Sender<()>,
    },
    Retry,
}

/// Commands on their way to the control: reloads come one by one, so few ever wait.
const COMMANDS_LEN: usize = 4;

impl ControlHandle {
    /// Makes the services those of `services`; returns when it is done, or the session is over.
    pub(crate) async fn update(&self, services: Arc<Services>) {
        let (done, is_done) = oneshot::channel();
        if self
            .commands
            .send(Command::Update { services, done })
            .await
            .is_ok()
        {
            // An error means that the session is over: the next one starts with these services.
            let _ = is_done.await;
        }
    }

    /// Takes all proxies back, leaves `grace` for that to arrive, and closes the session.
    pub(crate) async fn close(&self, grace: Duration) {
        let (done, is_done) = oneshot::channel();
        if self
            .commands
            .send(Command::Close { grace, done })
            .await
            .is_ok()
        {
            let _ = is_done.await;
        }
    }

    /// Another session has taken this one's place: gives back what the next one needs, and leaves
    /// the users' connections and their carrier alone.
    pub(crate) async fn leave(&self) {
        let (done, is_done) = oneshot::channel();
        if self.commands.send(Command::Leave { done }).await.is_ok() {
            // An error means that it has ended meanwhile, and given all of it back.
            let _ = is_done.await;
        }
    }

    /// Asks frps once more for the proxies that it has refused.
    pub(crate) async fn retry(&self) {
        // A session that is over asks for all of them anyway.
        let _ = self.commands.send(Command::Retry).await;
    }
}

/// Why a control has ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlEnd {
    /// This program closed it.
    #[error("closed on this side")]
    ClosedHere,
    /// frps closed it, or the network did, or what came was no message.
    #[error("{0}")]
    Conn(ConnError),
    /// No Pong within the configured time.
    #[error("heartbeat timeout")]
    HeartbeatTimeout,
    /// frps refused a Ping, in these words.
    #[error("pong message contains error: {0}")]
    PingRefused(String),
    /// frps takes no more messages.
    #[error("the server takes no more messages")]
    Stuck,
}

/// The control of one session.
#[derive(Debug)]
pub(crate) struct Control {
    context: Arc<Context>,
    session: Arc<Session>,
    reader: MessageReader,
    /// Messages for frps that the queue has no room for yet.
    outbox: VecDeque<Message>,
    queue: mpsc::Sender<Message>,
    writer_error: oneshot::Receiver<ConnError>,
    proxies: Arc<Mutex<ProxySet>>,
    visitors: VisitorSet,
    work_conns: Arc<WorkConns>,
    commands: mpsc::Receiver<Command>,
    last_pong: Instant,
    /// Ends what belongs to the session when the control ends, however it does.
    _over: DropGuard,
}

impl Control {
    /// Takes over a session that has just logged in.
    pub(crate) fn new(
        context: Arc<Context>,
        session: Arc<Session>,
        logged_in: LoggedIn,
    ) -> (Self, ControlHandle) {
        let LoggedIn {
            run_id,
            welcome,
            held: _,
            reader,
            writer,
            version: _,
        } = logged_in;
        // A Go frps ends both directions when one ends; a Holdfast keeps the other.
        let half_close = if welcome.is_some() {
            HalfClose::Keep
        } else {
            HalfClose::EndBoth
        };
        let over = CancellationToken::new();
        let proxies = Arc::new(Mutex::new(ProxySet::new(
            context.config.user.clone(),
            context.token.clone(),
        )));
        let work_conns = WorkConns::new(
            context.clone(),
            session.clone(),
            proxies.clone(),
            run_id.clone(),
            half_close,
            over.clone(),
        );
        let visitors = VisitorSet::new(
            context.clone(),
            session.clone(),
            run_id,
            half_close,
            over.clone(),
        );
        let (queue, messages) = mpsc::channel(QUEUE_LEN);
        let (failed, writer_error) = oneshot::channel();
        let patience = WRITE_TIMEOUT + session.grace();
        let writing = write_messages(writer, messages, failed, patience);
        task::spawn("control writer", writing);
        let (commands_tx, commands) = mpsc::channel(COMMANDS_LEN);
        let handle = ControlHandle {
            proxies: proxies.clone(),
            commands: commands_tx,
        };
        let control = Self {
            context,
            session,
            reader,
            outbox: VecDeque::new(),
            queue,
            writer_error,
            proxies,
            visitors,
            work_conns,
            commands,
            last_pong: Instant::now(),
            _over: over.drop_guard(),
        };
        (control, handle)
    }

    /// Works until the session ends, beginning with `services`.
    pub(crate) async fn run(mut self, services: &Services) -> ControlEnd {
        self.update(services).await;
        let (end, farewell) = match self.work().await {
            Ok(farewell) => (ControlEnd::ClosedHere, Some(farewell)),
            Err(end) => (end, None),
        };
        // Proxies and visitors go before the carrier, so that no user is accepted for nothing.
        let _unsent = self.proxies.lock().close();
        self.visitors.close().await;
        let is_replaced = farewell.as_ref().is_some_and(|end| end.is_replaced);
        if !is_replaced {
            self.session.close().await;
        }
        if let Some(Farewell { grace, done, .. }) = farewell {
            // Whoever waits for this ends the program, and a carrier without a connection of the
            // system's has to send its last packet itself. One that carries held streams has been
            // waited for.
            if !grace.is_zero() && self.session.grace().is_zero() {
                let _ = timeout(CLOSE_TIMEOUT, self.session.closed()).await;
                sleep(LAST_PACKET).await;
            }
            let _ = done.send(());
        }
        end
    }

    async fn work(&mut self) -> Result<Farewell, ControlEnd> {
        let transport = &self.context.config.transport;
        let has_choice =
            transport.protocol == Protocol::Auto || !transport.auto.fallback.is_empty();
        let (interval, limit) = match transport.heartbeat_interval {
            // Nothing else shows that this carrier is dead, and there are others to be tried.
            None if has_choice && self.session.grace().is_zero() => {
                (Some(CHOICE_PING), Some(CHOICE_TIMEOUT))
            }
            interval => (interval, interval.and(transport.heartbeat_timeout)),
        };
        // A session that is held through an outage hears nothing for as long.
        let heartbeat_timeout = limit.map(|limit| limit + self.session.grace());
        let mut ping = interval.map(ticker);
        let mut tick = ticker(TICK);
        let session = self.session.clone();
        let queue = self.queue.clone();
        loop {
            let pong_due = heartbeat_timeout.map(|limit| self.last_pong + limit);
            tokio::select! {
                message = self.reader.read() => self.handle(message.map_err(ControlEnd::Conn)?)?,
                permit = queue.reserve(), if !self.outbox.is_empty() => {
                    if let (Ok(permit), Some(message)) = (permit, self.outbox.pop_front()) {
                        permit.send(message);
                    }
                }
                _ = tick.tick() => {
                    let due = self.proxies.lock().poll(Instant::now());
                    self.outbox.extend(due);
                }
                () = next_tick(&mut ping) => self.send_ping(),
                () = at(pong_due) => return Err(ControlEnd::HeartbeatTimeout),
                // The control drops no command sender, so there is always a next one or silence.
                Some(command) = self.commands.recv() => match command {
                    Command::Update { services, done } => {
                        self.update(&services).await;
                        let _ = done.send(());
                    }
                    Command::Close { grace, done } => {
                        self.close_gracefully(grace).await;
                        return Ok(Farewell {
                            grace,
                            done,
                            is_replaced: false,
                        });
                    }
                    Command::Retry => {
                        let messages = self.proxies.lock().retry(Instant::now());
                        self.outbox.extend(messages);
                    }
                    Command::Leave { done } => {
                        return Ok(Farewell {
                            grace: Duration::ZERO,
                            done,
                            is_replaced: true,
                        });
                    }
                },
                // Without an error it has panicked.
                error = &mut self.writer_error => {
                    return Err(error.map_or(ControlEnd::Stuck, ControlEnd::Conn));
                }
                error = session.closed() => {
                    // What arrived before the end is still worth reading, an error of frps say.
                    while let Ok(Ok(message)) = timeout(LAST_WORDS, self.reader.read()).await {
                        self.handle(message)?;
                    }
                    tracing::debug!("session ended: {error}");
                    return Err(ControlEnd::Conn(ConnError::Closed));
                }
            }
            if self.outbox.len() > MAX_OUTBOX_PER_PROXY * (self.proxies.lock().len() + 16) {
                return Err(ControlEnd::Stuck);
            }
        }
    }

    fn handle(&mut self, message: Message) -> Result<(), ControlEnd> {
        match message {
            Message::ReqWorkConn(_) => self.work_conns.handle_request(),
            Message::NewProxyResp(answer) => self.handle_answer(&answer),
            Message::Pong(Pong { error }) if error.is_empty() => {
                tracing::debug!("receive heartbeat from server");
                self.last_pong = Instant::now();
            }
            Message::Pong(Pong { error }) => return Err(ControlEnd::PingRefused(error)),
            // Not for a control, or not for this version of it: ignored, as in frp.
            other => {
                metrics::counter!("holdfast_rejected_total", "cause" => "unexpected message")
                    .increment(1);
                tracing::debug!("ignore {} on the control", other.name());
            }
        }
        Ok(())
    }

    fn handle_answer(&mut self, answer: &NewProxyResp) {
        let outcome = self.proxies.lock().handle_answer(Instant::now(), answer);
        let Some((name, outcome)) = outcome else {
            metrics::counter!("holdfast_rejected_total", "cause" => "unknown proxy").increment(1);
            tracing::debug!(
                "ignore an answer for proxy [{}], not one of ours",
                answer.proxy_name
            );
            return;
        };
        let span = tracing::info_span!("proxy", proxy = %name);
        span.in_scope(|| match outcome {
            Ok(()) => tracing::info!("start proxy success"),
            Err(error @ StartError::Refused(_)) => tracing::warn!("start error: {error}"),
            Err(error @ StartError::NotAwaited) => tracing::debug!("start error: {error}"),
        });
    }

    /// Visitors first, then proxies, as in frp.
    async fn update(&mut self, services: &Services) {
        self.visitors.update(&services.visitors).await;
        let changes = self
            .proxies
            .lock()
            .update(Instant::now(), &services.proxies);
        let Changes {
            removed,
            added,
            messages,
        } = changes;
        if !removed.is_empty() {
            tracing::info!("proxy removed: [{}]", removed.join(" "));
        }
        if !added.is_empty() {
            tracing::info!("proxy added: [{}]", added.join(" "));
        }
        self.outbox.extend(messages);
    }

    fn send_ping(&mut self) {
        tracing::debug!("send heartbeat to server");
        let mut message = Ping::default();
        if self.context.config.auth.additional_scopes.heart_beats {
            let (key, timestamp) = self.context.sign_now();
            message.privilege_key = key;
            message.timestamp = timestamp;
        }
        self.outbox.push_back(message.into());
    }

    /// Tells frps that all proxies are gone and leaves it `grace` to read that.
    async fn close_gracefully(&mut self, grace: Duration) {
        let messages = self.proxies.lock().close();
        self.outbox.extend(messages);
        self.visitors.close().await;
        if !self.session.grace().is_zero() {
            // Goodbye says it all at once.
            return;
        }
        let deadline = Instant::now() + grace;
        while let Some(message) = self.outbox.pop_front() {
            if timeout(grace, self.queue.send(message)).await.is_err() {
                break;
            }
        }
        sleep_until(deadline.into()).await;
    }
}

/// Somebody has asked for the end.
#[derive(Debug)]
struct Farewell {
    grace: Duration,
    done: oneshot::Sender<()>,
    /// The next session runs already.
    is_replaced: bool,
}

/// How long a carrier has for its last bytes: the second of the contract, and a bit.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1200);

/// How long the last packet of a closed carrier takes to leave: the turns of a few tasks.
const LAST_PACKET: Duration = Duration::from_millis(20);

/// How long a control reads on after its carrier has closed.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// How often a plain frps is asked for a sign of life where there are other ways to it. Three Pings
/// stay unanswered before the next way is tried: a Pong may wait behind bulk.
const CHOICE_PING: Duration = Duration::from_secs(5);

/// How long it may owe one.
const CHOICE_TIMEOUT: Duration = Duration::from_secs(15);

/// Messages on their way to frps, beside the outbox. frp's value.
const QUEUE_LEN: usize = 100;

/// Messages that may wait for each proxy: opened, closed and changed twice over. Beyond it frps is
/// not reading.
const MAX_OUTBOX_PER_PROXY: usize = 8;

/// How long frps has to take a message before the session counts as dead, beside the time for which
/// it is held without a carrier.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Writes what the control queues. Ends with the control, or tells it why it cannot go on.
async fn write_messages(
    mut writer: MessageWriter,
    mut messages: mpsc::Receiver<Message>,
    failed: oneshot::Sender<ConnError>,
    patience: Duration,
) {
    let error = loop {
        let Some(message) = messages.recv().await else {
            // The carrier is closed right after; an error here changes nothing.
            let _ = timeout(patience, writer.shutdown()).await;
            return;
        };
        match timeout(patience, writer.write(&message)).await {
            Ok(Ok(())) => {}
            // Too long for a frame: frps would close the session over it. The proxy stays in
            // `wait start`, and the log says why.
            Ok(Err(error @ ConnError::Encode(_))) => {
                tracing::error!("{} is not sent: {error}", message.name());
            }
            Ok(Err(error)) => break error,
            Err(_) => break ConnError::Timeout(patience),
        }
    };
    let _ = failed.send(error);
}

fn ticker(period: Duration) -> tokio::time::Interval {
    let mut ticker = interval(period);
    // After a suspend one tick is enough.
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}

/// The next tick, or never.
async fn next_tick(ticker: &mut Option<tokio::time::Interval>) {
    match ticker {
        Some(ticker) => {
            ticker.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// Waits for `instant`, or for ever.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
